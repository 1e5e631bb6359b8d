"""Reader of IDX files (MNIST, Fashion-MNIST, EMNIST ...), plain, .gz or .xz.

The format: two zero bytes, a type code, the number of dimensions, each length as a big-endian
uint32, then the data (http://yann.lecun.com/exdb/mnist, "the IDX file format").
"""

import contextlib
import gzip
import lzma
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigen.data.dataset import DataError, Dataset

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SPLITS = {"train": ("train",), "test": ("t10k", "test")}
SUFFIXES = ("", ".gz", ".xz")
_CHUNK = 1 << 24


def read_idx(path: Path) -> np.ndarray:
    """The array of one IDX file; a plain file is memory-mapped, .gz and .xz are decompressed.

    Raises DataError for a wrong magic number, missing or surplus data, or broken compression.
    """
    opened: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with opened(path, "rb") as file:
            shape, dtype = _header(file, path)
            offset = 4 + 4 * len(shape)
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            if opened is open:
                found = path.stat().st_size - offset
            else:
                data = _read(file, size + 1)
                found = len(data)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken {path.suffix} compression ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if found != size:
        least = "more than " if found > size and opened is not open else ""
        count = size if least else found
        raise DataError(
            f"{path}: {least}{count} bytes of data, {dtype.name} of shape {shape} needs {size}"
        )
    if opened is open and size:
        return np.memmap(path, dtype, "r", offset, shape)
    return np.frombuffer(data if opened is not open else b"", dtype).reshape(shape)


def find_pair(folder: Path, split: str) -> tuple[Path, Path | None]:
    """The image file and the label file (or None) of `split` in a folder of IDX files."""
    for prefix in SPLITS[split]:
        for suffix in SUFFIXES:
            for ending in ("-idx3-ubyte", ".idx3-ubyte"):
                images = folder / f"{prefix}-images{ending}{suffix}"
                if images.is_file():
                    return images, labels_beside(images)
    raise DataError(
        f"{folder}: no {SPLITS[split][0]}-images-idx3-ubyte (or .gz, .xz) there, which the "
        f"{split} split needs"
    )


def labels_beside(images: Path) -> Path | None:
    """The label file that goes with an image file by its name, or None."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    stem = name.removesuffix(".gz").removesuffix(".xz")
    if name == images.name:
        return None
    candidates = (images.with_name(stem + suffix) for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_pair(
    images_path: Path, labels_path: Path | None, name: str, classes: Sequence[str] | None = None
) -> Dataset:
    """The Dataset of an IDX image file (N, H, W) or (N, C, H, W) and its label file (N,)."""
    images = read_idx(images_path)
    if images.ndim not in (3, 4):
        raise DataError(
            f"{images_path}: has shape {images.shape}, expected images (N, H, W) or (N, C, H, W)"
        )
    labels = None
    if labels_path is not None:
        labels = read_idx(labels_path)
        if labels.shape != (len(images),):
            raise DataError(
                f"{labels_path}: labels have shape {labels.shape}, {images_path.name} holds "
                f"{len(images)} images; expected ({len(images)},)"
            )
    if images.ndim == 3:
        images = images[:, None]
    return Dataset(images, labels, name=name, classes=classes)


def _header(file: Any, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 4:
        raise DataError(
            f"{path}: starts with {magic.hex() or 'nothing'}, not an IDX file (images of bytes "
            "start with 00000803, labels with 00000801)"
        )
    lengths = file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError(f"{path}: ends inside its header, which promises {magic[3]} dimensions")
    return struct.unpack(f">{magic[3]}I", lengths), np.dtype(DTYPES[magic[2]])


def _read(file: Any, most: int) -> bytearray:
    """Up to `most` bytes, in pieces: a false header must not reserve memory for its promise."""
    data = bytearray()
    while len(data) < most and (piece := file.read(min(_CHUNK, most - len(data)))):
        data += piece
    return data


def is_folder(path: Path) -> bool:
    """Whether a folder holds IDX files with the usual names."""
    for split in SPLITS:
        with contextlib.suppress(DataError):
            find_pair(path, split)
            return True
    return False
