"""Colours of 16 bits a channel, as PNG and TIFF files: Pillow alone would keep 8 of them, silently.

Pillow's decoders go through all bits and then take one byte of each two. So a file is decoded
twice, once for the upper and once for the lower bytes. Nothing here may know of photographs.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigen.data.dataset import DataError
from minigen.data.exif import tables

_BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _BYTES, _PREDICTOR, _EXTRA, _ICC = (
    258, 259, 262, 273, 277, 278, 279, 317, 338, 34675,
)  # fmt: skip
_DEFLATE, _HORIZONTAL, _INCH = 8, 2, 2
_SUB = 1  # PNG's filter that keeps the difference to the pixel on the left
# How Pillow unpacks two bytes to the upper one -> to the lower one. TIFF's bytes come in the order
# of the file, or, where libtiff decodes, of this machine.
_LOWER = {"B": "L", "L": "B", "N": "B" if struct.pack("=H", 1) == b"\1\0" else "L"}


def depth(image: Any, content: bytes) -> int:
    """The bits of a channel, at most, by the file's own words."""
    if image.format == "PNG":
        return content[24]  # of IHDR, the first chunk
    if image.format == "TIFF":
        return max(_tag(image, _BITS, (1,)))
    if image.format == "PPM" and isinstance(image.tile[0].args, tuple):
        most = image.tile[0].args[-1]  # which is white
        return 16 if image.mode == "RGB" and most > 255 else 8
    return 8


def read(image: Any, content: bytes, path: Path) -> np.ndarray:
    """Values uint16 (H, W, channels), 2 for grey with alpha, of an image of 16 bits a channel.

    Raises DataError for the layouts of which that cannot be had.
    """
    from io import BytesIO

    from PIL import Image

    kinds = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if kind == "LA;16B" and image.mode == "RGBA":  # four bytes a pixel, and Pillow holds four
        values = np.array(_decoded(image, lambda args: "RGBA")).view(">u2")
        return values.astype(np.uint16)
    name, _, order = kind.partition(";16")
    planar = image.format == "TIFF" and _tag(image, 284, 1) == 2
    if name not in ("RGB", "RGBA", "RGBX") or order not in _LOWER or planar:
        raise DataError(
            f"{path}: would lose 8 of its 16 bits, of a layout that is not read in full; save it as"
            " PNG, or as TIFF of plain RGB"
        )

    def lower(args: Any) -> Any:
        other = f"{name};16{_LOWER[order]}"
        return other if isinstance(args, str) else (other, *args[1:])

    with Image.open(BytesIO(content)) as again:
        low = np.array(_decoded(again, lower))
    image.load()
    values = np.array(image).astype(np.uint16) << np.uint16(8)
    return keyed(values | low, image.info.get("transparency"))


def keyed(values: np.ndarray, key: Any) -> np.ndarray:
    """Values (H, W, C) with an alpha channel that is 0 where they have the colour `key`."""
    if key is None:
        return values
    seen = (values != np.asarray(key, values.dtype)).any(axis=-1, keepdims=True)
    alpha = seen * values.dtype.type(np.iinfo(values.dtype).max)
    return np.concatenate([values, alpha], axis=-1)


def white_is_zero(image: Any) -> bool:
    """Whether a grey TIFF of 16 bits counts from white to black, which Pillow leaves so."""
    return image.format == "TIFF" and image.mode == "I;16" and _tag(image, _PHOTOMETRIC, 1) == 0


def png(values: np.ndarray, *, exif: bytes, icc: bytes, dpi: tuple[float, float] | None) -> bytes:
    """A PNG file of uint16 (H, W, channels), 1 to 4 (ISO/IEC 15948)."""
    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", width, height, 16, colour, 0, 0, 0, as_=">2I5B")]
    if icc:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi:
        parts.append(_chunk(b"pHYs", *(round(each / 0.0254) for each in dpi), 1, as_=">2IB"))
    if exif:
        parts.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    pixel = 2 * channels
    raw = values.astype(">u2").view(np.uint8).reshape(height, width * pixel)
    rows = np.empty((height, 1 + raw.shape[1]), np.uint8)
    rows[:, 0], rows[:, 1 : 1 + pixel] = _SUB, raw[:, :pixel]
    np.subtract(raw[:, pixel:], raw[:, :-pixel], out=rows[:, 1 + pixel :])
    return b"".join([*parts, _chunk(b"IDAT", zlib.compress(rows.data)), _chunk(b"IEND", b"")])


def tiff(values: np.ndarray, *, exif: bytes, icc: bytes, dpi: tuple[float, float] | None) -> bytes:
    """A TIFF file of uint8 or uint16 (H, W, channels), 1 to 4: one deflated strip (TIFF 6.0)."""
    from PIL import TiffImagePlugin

    height, width, channels = values.shape
    if channels == 2:  # which few programs read
        values, channels = values[:, :, [0, 0, 0, 1]], 4
    bits = 8 * values.itemsize
    steps = np.array(values, values.dtype.newbyteorder("<"), order="C")
    steps[:, 1:] -= values[:, :-1]  # the horizontal predictor, modulo 2^bits
    strip = zlib.compress(steps.data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    tags.update(tables(exif))
    tags.update({256: width, 257: height, _BITS: (bits,) * channels, _COMPRESSION: _DEFLATE,
                 _PHOTOMETRIC: 1 if channels == 1 else 2, _OFFSETS: (0,), _SAMPLES: channels,
                 _ROWS: height, _BYTES: (len(strip),), _PREDICTOR: _HORIZONTAL})  # fmt: skip
    if channels == 4:
        tags[_EXTRA] = 2  # alpha that is not multiplied into the colours
    if dpi:
        tags.update({282: dpi[0], 283: dpi[1], 296: _INCH})
    if icc:
        tags.tagtype[_ICC], tags[_ICC] = 7, icc
    table = tags.tobytes(8)  # which moves the strip's offset behind itself
    return b"II*\0\x08\0\0\0" + table + strip


def _decoded(image: Any, unpack: Callable[[Any], Any]) -> Any:
    """An image just opened, loaded by another unpacking of its bytes."""
    image.tile = [tile._replace(args=unpack(tile.args)) for tile in image.tile]
    image.load()
    return image


def _tag(image: Any, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default)


def _chunk(name: bytes, *content: Any, as_: str = "") -> bytes:
    """A chunk of PNG: length, name, content, checksum."""
    data = struct.pack(as_, *content) if as_ else content[0]
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
