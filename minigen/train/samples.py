"""Images (n, C, H, W) in [0, 1] laid out as a picture, pictures as an animation, and files."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minigen import files
from minigen.train.errors import RunError, UsageError

GAP = 2  # pixels between two images
READABLE = 560  # a grid narrower than this is enlarged by a whole factor
FRAMES, FRAME_SIZE = 100, 640  # at most, in an animation; its size in pixels
FRAME_MS, LAST_MS = 200, 2000  # how long a frame and the last one are shown


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """One uint8 picture (H, W) or (H, W, 3) of images (n, C, H, W) in [0, 1], in reading order.

    Without `columns` it is as square as can be. Small grids are enlarged by a whole factor, so
    that images of 28x28 pixels can be looked at. Values outside [0, 1] are clipped, NaN is black.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"grid: images have shape {images.shape}, expected (n, 1 or 3, H, W)")
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n * height / width))
    columns = max(1, min(columns, n))
    rows = math.ceil(n / columns)
    pixels = np.clip(np.nan_to_num(images), 0, 1) * 255 + 0.5
    cells = np.full((rows * columns, height + GAP, width + GAP, channels), 255, np.uint8)
    cells[:n, :height, :width] = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
    picture = cells.reshape(rows, columns, height + GAP, width + GAP, channels)
    picture = picture.transpose(0, 2, 1, 3, 4).reshape(rows * (height + GAP), -1, channels)
    picture = picture[:-GAP, :-GAP]
    factor = max(1, min(4, READABLE // max(picture.shape[:2])))
    picture = picture.repeat(factor, 0).repeat(factor, 1)
    return picture[:, :, 0] if channels == 1 else picture


def save_picture(path: str | Path, picture: np.ndarray) -> Path:
    """Write a uint8 picture in the format that the file's ending names, whole or not at all.

    Raises UsageError for an ending that no format has, or one that cannot hold the picture, and
    RunError when it cannot be written.
    """
    from PIL import Image

    path = Path(path)
    check_picture_path(path)
    stream = io.BytesIO()
    format_name = Image.registered_extensions()[path.suffix.lower()]
    try:
        Image.fromarray(picture).save(stream, format_name)
    except (OSError, ValueError) as error:  # a format of black and white only, or of small pictures
        raise UsageError(f"{path}: {error}; use .png") from error
    return save_bytes(path, stream.getvalue())


def animation(pictures: Sequence[Path]) -> tuple[bytes, int]:
    """An animated GIF of picture files in their order, and how many frames it has.

    Of more than FRAMES pictures as many are taken, evenly spread, with the first and the last. All
    are brought to the size of the last, at most FRAME_SIZE pixels. Raises RunError for a file that
    is no picture.
    """
    from PIL import Image

    count = min(FRAMES, len(pictures))
    chosen = [pictures[i] for i in np.linspace(0, len(pictures) - 1, count).round().astype(int)]
    frames = []
    for path in chosen:
        try:
            with Image.open(path) as picture:
                frames.append(picture.convert("L" if picture.mode == "L" else "RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's words for damage
            raise RunError(f"{path}: cannot be read as a picture: {error}") from error
    scale = min(1, FRAME_SIZE / max(frames[-1].size))
    width, height = (max(1, round(length * scale)) for length in frames[-1].size)
    frames = [
        each if each.size == (width, height) else each.resize((width, height), Image.Resampling.BOX)
        for each in frames
    ]
    stream = io.BytesIO()
    frames[0].save(
        stream, "GIF", save_all=True, append_images=frames[1:], loop=0,
        duration=[FRAME_MS] * (count - 1) + [LAST_MS],
    )  # fmt: skip
    return stream.getvalue(), count


def save_bytes(path: str | Path, content: bytes) -> Path:
    """Write a picture's file, and its folder where there is none; RunError when it cannot be."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written: {error.strerror}") from error
    try:
        files.write_atomic(path, content)
    except OSError as error:
        raise RunError(str(error)) from error
    return path


def check_picture_path(path: str | Path) -> None:
    """UsageError unless the file's ending names a format that can be written."""
    from PIL import Image

    extensions = Image.registered_extensions()
    ending = Path(path).suffix.lower()
    if extensions.get(ending) not in Image.SAVE:
        raise UsageError(f"{path}: no picture format has the ending {ending!r}; use .png")
    if Path(path).is_dir():
        raise UsageError(f"{path}: is a folder; expected a file such as {Path(path) / 'grid.png'}")
