"""From a dataset's name, or a path, to the Dataset: the one table of what can be loaded.

A spec is a name (`fashion-mnist`), `kind:PATH` (`folder:~/cats`), or a bare path whose kind is
recognised by what lies there.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from minigen.data import arrays, cifar, embedded, idx
from minigen.data.dataset import DataError, Dataset
from minigen.data.folder import ResizedImages, read_folder, read_image
from minigen.data.patches import file_patches, folder_patches
from minigen.data.shapes import SIDE, shapes
from minigen.data.stacked import stack

log = logging.getLogger(__name__)

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
TILE = 64
PHOTO_SPLITS = {"train": ("brick", "camera", "coffee"), "test": ("chelsea",)}
SPLITS = ("train", "test", "all")
WHOLE = ("photos", "folder")  # kinds of whole images, which patches can be cut from

_NAMES = (
    ("fashion-mnist", "clothes, 28x28 grey, 10 classes: 10,000 + 1,000 images, embedded"),
    ("fashion-mnist-full", "all 60,000 + 10,000, from Debian's dataset-fashion-mnist or :FOLDER"),
    ("photos", "64x64 colour tiles of 4 CC0 photographs (train 3, test 1), embedded"),
    ("shapes", "one shape of known place, size and angle, 28x28 grey: 32,400 images, drawn"),
    ("mnist:FOLDER", "handwritten digits, 28x28 grey, 10 classes: the four IDX files"),
    ("stacked-mnist:FOLDER", "three digits of MNIST as red, green and blue: 1,000 modes"),
    ("cifar10:FOLDER", "32x32 colour, 10 classes: binary or Python batches, sprites, or images"),
    ("idx:PATH", "a folder of IDX files (train-*, t10k-*) or one of them; plain, .gz or .xz"),
    ("folder:PATH", "image files, resized to image_size or in patches; sub-folders are classes"),
    ("npy:PATH", "one array (N, H, W), (N, C, H, W) or (N, H, W, C), memory-mapped"),
    ("npz:PATH", "arrays 'images' and 'labels', or 'x_train', 'y_train', 'x_test', 'y_test'"),
)


def load(
    name_or_path: str | Path,
    split: str = "train",
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    patch_size: int | None = None,
) -> Dataset:
    """The `split` ('train', 'test' or 'all') of the dataset that a name or path stands for.

    `image_size` (H, W), or one int for a square, scales the images to cover it and crops at the
    centre; `channels` (1 or 3) turns them grey or colour. `patch_size` cuts the whole images of a
    folder or of `photos` into overlapping squares instead. 'all' is what one array or folder holds
    in whole. Raises DataError, one line, for whatever is wrong with the name or the files.
    """
    spec = str(name_or_path)
    if split not in SPLITS:
        raise DataError(f"{spec}: no split {split!r}; the splits are {', '.join(SPLITS)}")
    if channels not in (None, 1, 3):
        raise DataError(f"{spec}: channels={channels}; expected 1 (grey) or 3 (colour)")
    size = _pair(image_size, spec)
    kind, path = _parse(spec)
    try:
        if patch_size is not None:
            _check_patches(spec, kind, patch_size, size)
            cut = _photo_patches if kind == "photos" else folder_patches
            return cut(path, split, patch_size, channels)
        dataset = _read(kind, path, split, size, channels)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    now = dataset.image_shape
    if (size in (None, now[1:])) and channels in (None, now[0]):
        return dataset
    try:
        images = ResizedImages(dataset.images, size or now[1:], channels or now[0])
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error
    return Dataset(
        images, dataset.labels, name=dataset.name, classes=dataset.classes,
        factors=dataset.factors, factor_names=dataset.factor_names,
    )  # fmt: skip


def takes_patches(name_or_path: str | Path) -> bool:
    """Whether `load` can cut patches from what is named."""
    return _parse(str(name_or_path))[0] in WHOLE


def names() -> list[tuple[str, str]]:
    """(spec, one line of help) of every dataset that `load` knows."""
    return list(_NAMES)


def photo_names() -> tuple[str, ...]:
    """The names that `photo` takes."""
    return tuple(embedded.PHOTOS)


def photo(name: str) -> np.ndarray:
    """One embedded photograph, whole: uint8 (3, H, W), grey ones with three equal channels."""
    if name not in embedded.PHOTOS:
        raise DataError(f"no photograph {name!r}; there are {', '.join(embedded.PHOTOS)}")
    return read_image(embedded.verified(embedded.PHOTOS[name]), channels=3)


def _parse(spec: str) -> tuple[str, Path]:
    """(kind, path) of a spec; the path is not used by the embedded kinds."""
    if not spec:
        raise DataError("an empty text names no dataset; `fashion-mnist` is the embedded one")
    kinds = {name.partition(":")[0]: ":" in name for name, _ in _NAMES}
    kind, colon, rest = spec.partition(":")
    if kind in kinds and (colon or not Path(spec).exists()):
        if colon and not rest:
            raise DataError(f"{spec}: nothing after the colon; expected {kind}:PATH")
        if kinds[kind] and not rest:
            wanted = next(name for name, _ in _NAMES if name.startswith(f"{kind}:"))
            raise DataError(f"{spec}: needs a path, as in {wanted}")
        if rest and not kinds[kind] and kind != "fashion-mnist-full":
            raise DataError(f"{spec}: {kind} is built in and takes no path")
        path = Path(rest).expanduser() if rest else FASHION_FOLDER
        if (rest or kind == "fashion-mnist-full") and not path.exists():
            hint = "" if rest else "; install Debian's dataset-fashion-mnist or name a folder"
            raise DataError(f"{path}: does not exist ({kind} was to be read from there{hint})")
        return kind, path
    path = Path(spec).expanduser()
    if not path.exists():
        known = ", ".join(name for name, _ in _NAMES)
        raise DataError(f"{spec}: neither a dataset's name nor a path; there are {known}")
    return _recognise(path), path


def _recognise(path: Path) -> str:
    """The kind of what lies at a bare path."""
    if path.is_dir():
        if idx.is_folder(path):
            return "idx"
        return "cifar10" if cifar.find_batches(path) else "folder"
    if path.suffix in (".npy", ".npz"):
        return path.suffix[1:]
    if "idx" in path.name or "ubyte" in path.name:
        return "idx"
    raise DataError(f"{path}: no folder, .npy, .npz or IDX file; or write kind:PATH")


def _read(
    kind: str, path: Path, split: str, size: tuple[int, int] | None, channels: int | None
) -> Dataset:
    """The dataset of one kind; photos, shapes and folders come in the size that is asked for."""
    if kind == "photos":
        return _photos(split, size or (TILE, TILE), channels or 3)
    if kind == "shapes":
        return shapes(split, max((SIDE, *(size or ()))))
    if kind == "folder":
        return read_folder(path, split, size, channels)
    if kind == "fashion-mnist":
        return _embedded_fashion(split)
    if path.is_dir() and kind == "stacked-mnist":
        return stack(_read("mnist", path, split, size, channels), split)
    if path.is_dir() and kind in ("fashion-mnist-full", "mnist", "idx"):
        classes = {"fashion-mnist-full": FASHION_CLASSES, "mnist": tuple("0123456789")}.get(kind)
        images, labels = idx.find_pair(path, _one_split(f"{kind}:{path}", split))
        return idx.read_pair(images, labels, f"{kind}:{path}", classes)
    if path.is_dir() and kind == "cifar10":
        if cifar.find_batches(path) is None and (path / "train").is_dir():
            return read_folder(path, _one_split(f"cifar10:{path}", split), (32, 32), 3)
        return cifar.read_cifar10(path, _one_split(f"cifar10:{path}", split))
    if path.is_dir() or kind in ("cifar10", "mnist", "stacked-mnist", "fashion-mnist-full"):
        found = "folder" if path.is_dir() else "file"
        wanted = "file" if path.is_dir() else "folder"
        raise DataError(f"{path}: is a {found}, {kind} needs a {wanted}")
    if kind == "npz":
        return arrays.read_npz(path, split)
    if split == "test":
        raise DataError(f"{path}: one file has no test split; load split='all' and use holdout()")
    if kind == "npy":
        return arrays.read_npy(path)
    return idx.read_pair(path, idx.labels_beside(path), f"idx:{path}")


def _embedded_fashion(split: str) -> Dataset:
    if FASHION_FOLDER.is_dir():
        log.debug("the full set is installed too: it is the dataset fashion-mnist-full")
    images, labels = (
        embedded.verified(name)
        for name in embedded.FASHION_MNIST[_one_split("fashion-mnist", split)]
    )
    return idx.read_pair(images, labels, "fashion-mnist", FASHION_CLASSES)


def _photos(split: str, size: tuple[int, int], channels: int) -> Dataset:
    """Non-overlapping tiles of the photographs; the label of a tile is its photograph."""
    chosen = photo_names() if split == "all" else PHOTO_SPLITS[split]
    tiles, labels = [], []
    for name in chosen:
        image = read_image(embedded.verified(embedded.PHOTOS[name]), channels=channels)
        rows, columns = image.shape[1] // size[0], image.shape[2] // size[1]
        if rows * columns == 0:
            raise DataError(
                f"photos: {name} is {image.shape[2]}x{image.shape[1]} pixels, "
                f"too small for tiles of {size[1]}x{size[0]}"
            )
        image = image[:, : rows * size[0], : columns * size[1]]
        image = image.reshape(channels, rows, size[0], columns, size[1])
        tiles.append(image.transpose(1, 3, 0, 2, 4).reshape(-1, channels, *size))
        labels += [photo_names().index(name)] * (rows * columns)
    return Dataset(np.concatenate(tiles), np.array(labels), name="photos", classes=photo_names())


def _photo_patches(path: Path, split: str, size: int, channels: int | None) -> Dataset:
    """Overlapping patches of the photographs; the label of a patch is its photograph."""
    chosen = photo_names() if split == "all" else PHOTO_SPLITS[split]
    files = [embedded.verified(embedded.PHOTOS[name]) for name in chosen]
    labels = np.array([photo_names().index(name) for name in chosen])
    return file_patches(files, labels, size, channels or 3, name="photos", classes=photo_names())


def _check_patches(spec: str, kind: str, patch_size: int, size: Any) -> None:
    if kind not in WHOLE:
        raise DataError(
            f"{spec}: patch_size={patch_size}, but a dataset of the kind {kind} has no photographs"
            " to cut; expected photos or folder:PATH, or no patch_size"
        )
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
        raise DataError(f"{spec}: patch_size={patch_size!r}; expected a whole number of at least 1")
    if size is not None:
        raise DataError(
            f"{spec}: patch_size={patch_size} and image_size={size}; give one: patches are cut from"
            " images as they are"
        )


def _one_split(spec: str, split: str) -> str:
    if split == "all":
        raise DataError(f"{spec}: has the splits train and test; 'all' is for data without any")
    return split


def _pair(image_size: int | tuple[int, int] | None, spec: str) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise DataError(f"{spec}: image_size={image_size!r}; expected a positive int or (H, W)")
    return pair
