"""What `pad` does to shapes, and where each part of a padding is copied from.

Nothing here touches an array that is padded: answers are slices.
"""

from typing import Any

import numpy as np

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad_widths(ndim: int, pad_width: Any, mode: str) -> list[list[int]]:
    """[before, after] of each axis, of all forms that NumPy knows and {axis: width or pair}."""
    if mode not in PAD_MODES:
        raise ValueError(f"pad: mode {mode!r} is unknown; there are {', '.join(PAD_MODES)}")
    if isinstance(pad_width, dict):
        widths = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            widths[axis] = (width, width) if isinstance(width, int) else tuple(width)
        pad_width = widths
    pairs: list[list[int]] = np.broadcast_to(pad_width, (ndim, 2)).tolist()
    if any(w < 0 for pair in pairs for w in pair):
        raise ValueError(f"pad: index can't contain negative values, got pad_width {pad_width}")
    return pairs


def borders_of(shape: tuple[int, ...], widths: list, mode: Any) -> list[tuple[int, slice, slice]]:
    """(axis, a slice of the padding, the slice it is copied from), axis after axis."""
    found: list[tuple[int, slice, slice]] = []
    for axis, (n, (before, after)) in enumerate(zip(shape, widths, strict=True)):
        if mode == "constant" or not (before or after):
            continue
        origin = np.pad(np.arange(n), (before, after), mode)
        border = [*range(before), *range(before + n, before + n + after)]
        source = [before + int(origin[b]) for b in border]
        found += [(axis, to, from_) for to, from_ in _runs(border, source)]
    return found


def _runs(border, source):
    """Pairs of slices: stretches of the border whose sources go up, go down, or are one."""
    first, n = 0, len(border)
    while first < n:
        last, step = first, 0
        while last + 1 < n and border[last + 1] == border[last] + 1:
            move = source[last + 1] - source[last]
            if move not in (-1, 0, 1) or (last > first and move != step):
                break
            last, step = last + 1, move
        start, stop = source[first], source[last] + (step or 1)
        run = slice(start, stop if stop >= 0 else None, step or None)
        yield slice(border[first], border[last] + 1), run
        first = last + 1
