"""Large images in tiles: bounded memory, and no seams where the tiles meet.

A tile is worked on with a margin of its surroundings, which is cropped away from the result. Where
no pixel of a result depends on pixels farther away than the margin, the image comes out as though
it had been done at once. Nothing here may know of models.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

Position = tuple[int, int]


def padded_size(size: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """(H, W) of what `in_tiles` works on: the multiples of `multiple` that cover `size` (H, W)."""
    height, width = (-(-length // multiple) * multiple for length in size)
    return height, width


def in_tiles(
    function: Callable[[np.ndarray, Position], np.ndarray],
    image: np.ndarray,
    *,
    tile: int,
    margin: int,
    multiple: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """`function` of an image (C, H, W), done tile by tile: (D, H, W).

    The image is padded by reflection to `padded_size`, and the result cropped. `function` gets
    pixels (C, h, w), h and w multiples of `multiple`, and where they lie in the padded image (y, x
    of their upper left corner, multiples too), and returns (D, h, w). Tiles are at most
    `tile` + 2 `margin` pixels wide, both raised to multiples. `progress` is told (done, total).
    Raises ValueError for a length below 1 and for results of another size.
    """
    for name, value, least in (("tile", tile, 1), ("margin", margin, 0), ("multiple", multiple, 1)):
        if value < least:
            raise ValueError(f"in_tiles: {name} is {value}, expected at least {least}")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"in_tiles: the image is {image.shape}, expected (C, H, W)")
    height, width = image.shape[1:]
    padding = [(0, 0)] + [
        (0, long - length)
        for length, long in zip(
            image.shape[1:], padded_size(image.shape[1:], multiple), strict=True
        )
    ]
    padded = np.pad(image, padding, mode="reflect") if np.any(padding) else image
    step = math.ceil(tile / multiple) * multiple
    around = math.ceil(margin / multiple) * multiple
    rows, columns = (list(_windows(length, step, around)) for length in padded.shape[1:])
    total, result = len(rows) * len(columns), None
    for done, ((top, y, bottom), (left, x, right)) in enumerate(
        ((row, column) for row in rows for column in columns), 1
    ):
        part = function(padded[:, top:bottom, left:right], (top, left))
        if part.ndim != 3 or part.shape[1:] != (bottom - top, right - left):
            raise ValueError(
                f"in_tiles: a tile became {part.shape}, expected (channels, {bottom - top},"
                f" {right - left})"
            )
        if result is None:
            result = np.empty((len(part), height, width), part.dtype)
        target = result[:, y : y + step, x : x + step]
        part = part[:, y - top :, x - left :]
        target[:] = part[:, : target.shape[1], : target.shape[2]]
        if progress is not None:
            progress(done, total)
    assert result is not None  # there is a tile, as no length is 0
    return result


def _windows(length: int, step: int, around: int) -> Iterator[tuple[int, int, int]]:
    """(begin of the window, begin of its tile, end of the window) along one axis."""
    for start in range(0, length, step):
        yield max(0, start - around), start, min(length, start + step + around)
