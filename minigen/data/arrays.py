"""Readers of NumPy files: .npy memory-mapped, .npz mapped where its members are not compressed.

Pickle is never opened. Every fault is a DataError that names the file.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from minigen.data.dataset import DataError, Dataset

CHANNELS = (1, 3, 4)
IMAGE_KEYS = ("images", "x", "X", "data", "arr_0")
LABEL_KEYS = ("labels", "y", "Y", "targets", "arr_1")


def read_npy(path: Path) -> Dataset:
    """The images of one .npy file, (N, H, W), (N, C, H, W) or (N, H, W, C), memory-mapped.

    A neighbour `<stem>-labels.npy` gives the labels. Where both axis 1 and axis 3 could be
    channels, (N, C, H, W) is meant.
    """
    images = as_images(_map(path, 0, path.stat().st_size, str(path)), str(path))
    beside = path.with_name(f"{path.stem}-labels.npy")
    labels = _map(beside, 0, beside.stat().st_size, str(beside)) if beside.exists() else None
    return Dataset(images, labels, name=str(path))


def read_npz(path: Path, split: str) -> Dataset:
    """Images and labels of one .npz file: `images`/`labels`, or `x_train`/`y_train` and so on.

    Members stored without compression (numpy.savez) are memory-mapped, compressed ones are loaded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [f"{key}_{split}" for key in ("x", "images")] if split != "all" else []
            image_key = next((key for key in wanted if key in members), None)
            if image_key is None and split != "test":
                image_key = next((key for key in IMAGE_KEYS if key in members), None)
            if image_key is None:
                raise DataError(
                    f"{path}: has the arrays {sorted(members)}, split {split!r} needs 'images' "
                    f"(for train) or 'x_{split}'"
                )
            images = as_images(_member(path, archive, members[image_key]), f"{path}:{image_key}")
            keys: tuple[str, ...] = LABEL_KEYS
            if image_key in wanted:
                keys = (f"y_{split}", f"labels_{split}")
            found = next((members[key] for key in keys if key in members), None)
            labels = None if found is None else _member(path, archive, found)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path}: damaged or not a .npz file ({error})") from error
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # the (N, 1) that some CIFAR-10 archives have
    return Dataset(images, labels, name=str(path))


def as_images(array: np.ndarray, name: str) -> np.ndarray:
    """A view of `array` as (N, C, H, W); raises DataError when no axis can be the channels."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in CHANNELS:
        return array
    if array.ndim == 4 and array.shape[3] in CHANNELS:
        return array.transpose(0, 3, 1, 2)
    raise DataError(
        f"{name}: has shape {array.shape}, expected (N, H, W), (N, C, H, W) or (N, H, W, C) "
        "with C = 1, 3 or 4"
    )


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array of an .npz: mapped when stored, read when compressed."""
    name = f"{path}:{info.filename}"
    if info.compress_type == zipfile.ZIP_STORED:
        with open(path, "rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)  # fixed part of a local file header; name and extra follow
        start = info.header_offset + 30
        start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return _map(path, start, start + info.file_size, name)
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream, name)
        data = stream.read()
    if len(data) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise DataError(f"{name}: {len(data)} bytes of data do not make {dtype} of shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _map(path: Path, start: int, end: int, name: str) -> np.ndarray:
    """Memory map of the .npy that lies in `path` from byte `start` to byte `end`."""
    with open(path, "rb") as file:
        file.seek(start)
        shape, fortran, dtype = _header(file, name)
        offset = file.tell()
    size = dtype.itemsize * int(np.prod(shape, dtype=object))
    if end - offset != size:
        raise DataError(
            f"{name}: {end - offset} bytes of data, {dtype} of shape {shape} needs {size}; "
            "the file is truncated or was not written whole"
        )
    if size == 0:
        return np.empty(shape, dtype)  # nothing can be mapped
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, Fortran order, dtype) of a .npy header; object dtypes are refused."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: not a .npy file ({reason}); write it with numpy.save") from error
    if dtype.hasobject:
        raise DataError(
            f"{name}: holds Python objects ({dtype}), which need pickle and are never opened; "
            "save a numeric array"
        )
    return shape, fortran, dtype
