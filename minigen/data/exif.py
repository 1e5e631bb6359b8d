"""EXIF data: what is worth keeping of a photo's when its pixels change. Bytes in, bytes out."""

import logging
import struct
from typing import Any

log = logging.getLogger(__name__)

ORIENTATION, EXPOSURE, PLACE = 274, 0x8769, 0x8825  # the last two are tables of their own
# Tags that describe a photo, not how its file is laid out (in a TIFF both are tags of one table):
# description, maker, camera, orientation, software, date, artist, ratings, copyright.
_DESCRIBING = (270, 271, 272, ORIENTATION, 305, 306, 315, 18246, 18249, 33432)
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the image, in the table of the exposure
_INNER = 0xA005  # where in the file one more table was


def kept(exif: Any) -> bytes:
    """The data of a Pillow Exif that still hold once the image is upright; b"" for none.

    Thumbnails go, as they show what the image was.
    """
    from PIL import Image

    found = Image.Exif()
    for tag in _DESCRIBING:
        if tag in exif:
            found[tag] = 1 if tag == ORIENTATION else _text(exif[tag])
    for table in (EXPOSURE, PLACE):
        if inner := exif.get_ifd(table):
            found[table] = {tag: value for tag, value in inner.items() if tag != _INNER}
    try:
        return found.tobytes() if len(found) else b""
    except (ValueError, TypeError, OverflowError, AttributeError, struct.error) as error:
        log.warning("EXIF data are left out, as they are damaged (%s)", error)
        return b""


def tables(exif: bytes) -> dict[int, Any]:
    """All tags by their number; those of the exposure and of the place are dicts."""
    from PIL import Image

    data = Image.Exif()
    data.load(exif)
    found = {tag: _text(data[tag]) for tag in data if tag not in (EXPOSURE, PLACE)}
    return found | {tag: dict(inner) for tag in (EXPOSURE, PLACE) if (inner := data.get_ifd(tag))}


def sized(exif: bytes, width: int, height: int) -> bytes:
    """EXIF data with another size of the image, where they tell it."""
    from PIL import Image

    found = tables(exif)
    if not {_WIDTH, _HEIGHT} & set(found.get(EXPOSURE, ())):
        return exif
    found[EXPOSURE] |= {_WIDTH: width, _HEIGHT: height}
    data = Image.Exif()
    data.update(found)
    return data.tobytes()


def _text(value: Any) -> Any:
    """A text as the bytes that Pillow read it from, where it would write question marks."""
    return value if not isinstance(value, str) or value.isascii() else value.encode("latin-1")


def description(text: str) -> bytes:
    """EXIF data that say what an image shows."""
    from PIL import Image

    data = Image.Exif()
    data[270] = text
    return data.tobytes()
