"""Folders of image files: decoded when asked for, resized and cropped to one size.

Pillow is imported when the first image is opened. Nothing here may keep decoded images.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minigen.data.dataset import DataError, Dataset, LazyImages
from minigen.data.exif import ORIENTATION

EXTENSIONS = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
_SPLIT_NAMES = ("train", "test", "val", "valid", "validation")


def read_folder(
    path: Path, split: str, image_size: tuple[int, int] | None, channels: int | None
) -> Dataset:
    """The images under `path`, or under `path/<split>` when that folder exists, in sorted order.

    When every image lies in a sub-folder, the first-level sub-folders are the classes. Without
    `image_size` all images must have the size of the first. Raises DataError when there are none.
    """
    root = split_folder(path, split)
    files, labels, classes = list_images(root, path)
    images = FolderImages(files, image_size, channels)
    return Dataset(images, labels, name=f"folder:{root}", classes=classes)


def list_images(root: Path, path: Path) -> tuple[list[Path], np.ndarray | None, list[str] | None]:
    """The image files below `root`, which is `path` or one of its splits, sorted, with the label of
    each and the classes, if all lie in sub-folders. Raises DataError when there are none.
    """
    files = _images_under(root)
    if not files:
        raise DataError(
            f"{root}: no images there; expected files ending in {', '.join(sorted(EXTENSIONS))}"
        )
    own = _class_names(files, root)
    if "" in own:
        return files, None, None
    # A class that only another split has still counts: numbers must agree across splits.
    others = [] if root == path else [f for f in path.iterdir() if f.name in _SPLIT_NAMES]
    known = set(own).union(*(_class_names(_images_under(other), other) for other in others))
    classes = sorted(known - {""})
    number = {name: i for i, name in enumerate(classes)}
    return files, np.array([number[name] for name in own]), classes


def has_test(path: Path) -> bool:
    """Whether a sub-folder of `path` holds the test split."""
    return any((path / name).is_dir() for name in _SPLIT_NAMES[1:])


def split_folder(path: Path, split: str) -> Path:
    """`path/train`, `path/test` and so on where they exist, else `path` for train and all."""
    if split == "all":
        return path
    own = {"train": _SPLIT_NAMES[:1], "test": _SPLIT_NAMES[1:]}
    existing = {key: [path / n for n in names if (path / n).is_dir()] for key, names in own.items()}
    if existing[split]:
        return existing[split][0]
    if split == "test" or existing["test"]:
        raise DataError(
            f"{path}: no sub-folder {own[split][0]!r} for the {split} split; make one, or load "
            "split='all' and use Dataset.holdout()"
        )
    return path


def read_image(path: Path, size: tuple[int, int] | None = None, channels: int = 3) -> np.ndarray:
    """One image file as uint8 (C, H, W), upright, on white where it was transparent.

    With `size` (H, W) it is scaled so as to cover that size and cropped at its centre. Raises
    DataError when the file is no image or is damaged.
    """
    return read_as_is(path, size, channels)[0]


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image file as `read_image` gives it, decoding it only if it must."""
    from PIL import Image

    with _opened(path) as image:
        width, height = image.size
        # A PNG's own getexif would decode it, in search of chunks behind the pixels.
        sideways = Image.Image.getexif(image).get(ORIENTATION) in (5, 6, 7, 8)
        unsure = sideways and image.format == "TIFF"  # some Pillows turn its size, some do not
    if unsure:
        height, width = read_image(path).shape[1:]
    return (width, height) if sideways and not unsure else (height, width)


def fit(image: Any, size: tuple[int, int]) -> Any:
    """A Pillow image scaled (antialiased) to cover `size` (H, W), then cropped at its centre."""
    from PIL import Image, ImageOps

    if image.size == (size[1], size[0]):
        return image
    return ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as a Pillow image; what goes wrong inside is a DataError that names the file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # A photograph of more than 89 megapixels is no attack here; twice that is an error.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason})") from error


def read_as_is(
    path: Path, size: tuple[int, int] | None, channels: int | None
) -> tuple[np.ndarray, int]:
    """`read_image`, and the number of channels; None means grey or colour as the file is."""
    from PIL import Image, ImageOps

    with _opened(path) as opened:
        image = ImageOps.exif_transpose(opened)
        image.load()
        deep = image.mode == "I" and opened.format in ("PNG", "PPM")
    if image.mode.startswith("I;16") or deep:
        # Pillow would clip 16-bit grey to 255; 257 maps 65535 to 255 exactly.
        values = (np.asarray(image).astype(np.uint32) + 128) // 257
        image = Image.fromarray(values.astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(f"{path}: pixels of mode {image.mode!r} have no known range; save 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if channels is None:
            channels = 3
    if channels is None:
        channels = 1 if image.mode in ("1", "L") else 3
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        image = fit(image, size)
    pixels = np.asarray(image)
    return (pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), channels


class FolderImages(LazyImages):
    """Image files as an array (N, C, H, W) of uint8, decoded when indexed.

    Without `channels` the first image decides between grey and colour.
    """

    def __init__(self, files: list[Path], image_size: tuple[int, int] | None, channels: int | None):
        first, self.channels = read_as_is(files[0], image_size, channels)
        self.files, self.resize = files, image_size
        self.shape, self.dtype = (len(files), *first.shape), np.dtype(np.uint8)

    def take(self, indices: np.ndarray) -> np.ndarray:
        channels, height, width = self.shape[1:]
        out = np.empty((len(indices), height, width, channels), np.uint8).transpose(0, 3, 1, 2)
        for image, index in zip(out, indices, strict=True):
            pixels = read_image(self.files[index], self.resize, channels)
            if pixels.shape != image.shape:
                raise DataError(
                    f"{self.files[index]}: is {pixels.shape[2]}x{pixels.shape[1]} pixels, "
                    f"{self.files[0].name} is {width}x{height}; give image_size to resize them all"
                    " (--set data.image_size=64 in the command)"
                )
            image[:] = pixels
        return out


class ResizedImages(LazyImages):
    """The images of `source` scaled to `size` (H, W) and turned to `channels`, when indexed.

    Grey becomes colour by repetition, colour becomes grey by Pillow's ITU-R 601 luma.
    """

    def __init__(self, source: Any, size: tuple[int, int], channels: int):
        if source.dtype != np.uint8:
            raise DataError(
                f"image_size and channels need uint8 images, these are {source.dtype}; "
                "resize floats before saving them"
            )
        self.source, self.dtype = source, source.dtype
        self.shape = (source.shape[0], channels, *size)

    def take(self, indices: np.ndarray) -> np.ndarray:
        from PIL import Image

        _, channels, *size = self.shape
        out = np.empty((len(indices), *size, channels), np.uint8)
        for target, pixels in zip(out, self.source[indices], strict=True):
            pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            image = fit(image.convert("L" if channels == 1 else "RGB"), (size[0], size[1]))
            target[:] = np.asarray(image).reshape(target.shape)
        return out.transpose(0, 3, 1, 2)


def _images_under(root: Path) -> list[Path]:
    """Every image file below `root`, in an order that depends on the names only."""
    found = []
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
        ]
    return sorted(found, key=lambda file: file.relative_to(root).parts)


def _class_names(files: list[Path], root: Path) -> list[str]:
    """The first-level sub-folder of each file, '' for a file in `root` itself."""
    parts = [file.relative_to(root).parts for file in files]
    return [part[0] if len(part) > 1 else "" for part in parts]
