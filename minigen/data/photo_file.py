"""Photographs as files: read with all that they carry, written again without losing it.

Grey stays grey and colour stays colour, transparency is kept apart and untouched, 16 bits stay 16
bits, EXIF data and colour profile go along. Pillow is imported when the first photo is opened.
"""

import contextlib
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigen import files
from minigen.data import deep_colour, exif
from minigen.data.dataset import DataError

log = logging.getLogger(__name__)

# MPO: a JPEG of a phone, with a depth map or the like behind it.
READABLE = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "MPO")
WRITABLE = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG",
            ".webp": "WEBP"}  # fmt: skip
DEEP = ("PNG", "TIFF")  # the formats that hold 16 bits
_FRAMES = {"GIF": "frames", "WEBP": "frames", "PNG": "frames", "TIFF": "pages"}
_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA",
          "RGBX": "RGB", "YCbCr": "RGB", "I;16": "I;16", "I;16B": "I;16"}  # fmt: skip
# What is wrong with files of other modes, and what to do.
_REFUSED = {
    "CMYK": "is CMYK, the colours of a printer; convert it to RGB first",
    "I": "has 32-bit or signed pixels, of no known range; save it with 8 or 16 bits",
    "F": "has floating-point pixels, of no known range; save it with 8 or 16 bits",
}
# All that Pillow's readers raise on damaged files.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, RuntimeError, AssertionError, ZeroDivisionError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A photo, upright: `pixels` float32 (C, H, W) in [0, 1], C 1 or 3; `alpha` float32 (H, W) in
    [0, 1], or None; `depth`, the bits of a pixel's channel in the file, 8 or 16; and `exif`, `icc`
    (b"" for none) and `dpi` (horizontal, vertical, or None) as they were.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    depth: int = 8
    exif: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None


def read_photo(path: str | Path) -> Photo:
    """The photo in a file (PNG, JPEG, TIFF, WebP, BMP, GIF, PPM).

    Palettes become colours. Raises DataError, one line, for what is no image, is damaged, or holds
    what a photo cannot: several frames, CMYK, pixels of 32 bits or of floating point.
    """
    from PIL import Image

    path = Path(path)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no plain file"
        raise DataError(f"{path}: is {what}, expected an image file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise DataError(f"{path}: is empty, expected an image file")
    try:
        with warnings.catch_warnings():
            # Of a size that is no attack yet, and of metadata that are damaged a little.
            warnings.simplefilter("ignore")
            with _hushed(content), Image.open(io.BytesIO(content)) as image:
                return _photo(image, content, path)
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        if content[:4] in (b"II*\0", b"MM\0*"):
            raise DataError(
                f"{path}: is a TIFF with pixels of a kind that is not read, or damaged; save it as"
                " PNG, or as TIFF of plain grey or RGB"
            ) from error
        known = ", ".join(READABLE)
        raise DataError(f"{path}: is no image that can be read; expected one of {known}") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DataError(
            f"{path}: would be of more than {most:.0f} million pixels; cut it into parts"
        ) from error
    except MemoryError as error:
        raise DataError(f"{path}: needs more memory than there is; cut it into parts") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: is damaged or cut short ({reason}); take another copy of it"
        ) from error


def write_photo(path: str | Path, pixels: np.ndarray, *, like: Photo) -> Path:
    """Write `pixels` (C, H, W), clipped to [0, 1], with what `like` carries; returns the path.

    The ending names the format: .png and .tif hold 8 or 16 bits as `like` has, .jpg and .webp 8,
    with a loss. The alpha channel is scaled where the size is another. Atomic. Raises DataError for
    what the format cannot hold, OSError where it cannot be written.
    """
    path = Path(path)
    check_photo_path(path, like)
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"write_photo: pixels are {pixels.shape}, expected (1 or 3, H, W)")
    format = WRITABLE[path.suffix.lower()]
    depth = like.depth if format in DEEP else 8
    if depth < like.depth:
        log.warning("%s: %s holds 8 bits, so 16 are rounded; .png and .tif keep them", path, format)
    planes = list(pixels)
    if like.alpha is not None:
        planes.append(_resized(like.alpha, pixels.shape[1:]))
    most, kind = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    values = np.clip(np.nan_to_num(np.stack(planes, axis=-1)), 0, 1) * np.float32(most)
    values = np.rint(values).astype(kind)
    carried: dict[str, Any] = {
        "exif": exif.sized(like.exif, values.shape[1], values.shape[0]),
        "icc": like.icc,
        "dpi": like.dpi,
    }
    try:
        if format == "TIFF":  # Pillow fails at tables of EXIF in them
            content = deep_colour.tiff(values, **carried)
        elif depth == 16:
            content = deep_colour.png(values, **carried)
        else:
            content = _encoded(values, format, **carried)
    except _DAMAGE as error:
        instead = "" if format == "PNG" else "; use .png"
        raise DataError(f"{path}: cannot be {format}: {error}{instead}") from error
    with files.explained(path.parent, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, content)
    return path


def check_photo_path(path: str | Path, like: Photo | None = None) -> None:
    """DataError unless the ending is of a format to write, one that can hold `like`'s alpha."""
    path = Path(path)
    format = WRITABLE.get(path.suffix.lower())
    if format is None:
        raise DataError(
            f"{path}: no photo is written with the ending {path.suffix!r}; expected one of"
            f" {', '.join(WRITABLE)}"
        )
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a file")
    if format == "JPEG" and like is not None and like.alpha is not None:
        raise DataError(f"{path}: JPEG holds no transparency, and the photo has some; use .png")


@contextlib.contextmanager
def _hushed(content: bytes) -> Iterator[None]:
    """Inside, nothing reaches standard error where libtiff, which writes there, may be at work."""
    if content[:2] not in (b"II", b"MM"):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _photo(image: Any, content: bytes, path: Path) -> Photo:
    """What an opened image holds."""
    if image.format not in READABLE:
        raise DataError(
            f"{path}: is {image.format}, which is not read as a photo; save it as PNG or TIFF"
        )
    count = getattr(image, "n_frames", 1) if image.format in _FRAMES else 1
    if count > 1:
        what = _FRAMES[image.format]
        raise DataError(f"{path}: has {count} {what}, expected a single image; save one of them")
    if image.mode in ("LA", "RGB", "RGBA") and deep_colour.depth(image, content) > 8:
        values = deep_colour.read(image, content, path)
    else:
        values = _read(image, path)
    tags = image.getexif()  # after loading: Pillow turns a TIFF upright, and drops its orientation
    values = _upright(values, tags.get(exif.ORIENTATION, 1))
    most = np.float32(65535 if values.dtype == np.uint16 else 255)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1), np.float32) / most
    colours = 1 if len(planes) < 3 else 3
    return Photo(
        planes[:colours],
        planes[colours] if len(planes) > colours else None,
        16 if values.dtype == np.uint16 else 8,
        exif.kept(tags),
        image.info.get("icc_profile") or b"",
        _resolution(image, tags),
    )


def _resolution(image: Any, tags: Any) -> tuple[float, float] | None:
    """Pixels per inch (horizontal, vertical); None where the file tells none that make sense."""
    told = "dpi" in image.info
    if image.format in ("JPEG", "MPO"):  # Pillow says 72 of those that have other EXIF data
        told &= image.info.get("jfif_unit") in (1, 2) or {282, 296} <= set(tags)
    if not told:
        return None
    across, down = (float(each) for each in image.info["dpi"])
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def _read(image: Any, path: Path) -> np.ndarray:
    """Values (H, W, channels), uint8 or uint16, of an image that Pillow holds in full."""
    deep_pgm = image.format == "PPM" and image.mode == "I"  # whose white Pillow makes 65535
    if image.mode not in _MODES and not deep_pgm:
        why = _REFUSED.get(image.mode, f"has pixels of kind {image.mode}; convert it to RGB first")
        raise DataError(f"{path}: {why}")
    inverted = deep_colour.white_is_zero(image)  # before loading, which may drop tags
    image.load()
    mode = "I;16" if deep_pgm else _MODES[image.mode]
    if mode == "I;16":
        values = np.array(image).astype(np.uint16)
        key = image.info.get("transparency")
        values = 65535 - values if inverted else values
        return deep_colour.keyed(values[:, :, None], key)
    if image.has_transparency_data and mode in ("L", "RGB"):
        mode = "LA" if image.mode == "L" else "RGBA"
    values = np.array(image if image.mode == mode else image.convert(mode))
    return values if values.ndim == 3 else values[:, :, None]


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values (H, W, channels) turned as EXIF's orientation, 1 to 8, asks for."""
    if orientation in (2, 4, 5, 7):  # mirrored
        values = values[:, ::-1]
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(values, quarters)


def _encoded(values: np.ndarray, format: str, *, exif: bytes, icc: bytes, dpi: Any) -> bytes:
    """A file of 8 bits, by Pillow."""
    from PIL import Image

    if format == "WEBP" and values.shape[2] == 2:
        values = values[:, :, [0, 0, 0, 1]]
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95, "exact": True},  # pixels that are transparent too
    }.get(format, {})
    for name, value in (("exif", exif), ("icc_profile", icc), ("dpi", dpi)):
        if value:
            options[name] = value
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _resized(alpha: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """An alpha channel (H, W) scaled to another size where it has to be."""
    from PIL import Image

    if alpha.shape == tuple(size):
        return alpha
    image = Image.fromarray(np.ascontiguousarray(alpha, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
