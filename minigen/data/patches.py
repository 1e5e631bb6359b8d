"""Patches: square cuts from whole photographs, for models that learn detail and not scenes.

They lie on a grid of half their size, the last row and column at the border, so every pixel of an
image is in one. Nothing is resized. Of a folder without a test split whole files are held out:
patches of one photograph overlap, and look alike where they do not.
"""

import logging
from pathlib import Path

import numpy as np

from minigen.data.dataset import HOLDOUT, DataError, Dataset, LazyImages
from minigen.data.folder import has_test, list_images, read_as_is, split_folder, upright_size

KEPT = 1 << 30  # bytes of decoded images that are kept in memory
log = logging.getLogger(__name__)


def folder_patches(path: Path, split: str, size: int, channels: int | None) -> Dataset:
    """Patches of size x size pixels of the images under `path`, or under its folder of the split.

    Without a test folder each tenth file is the test split, of 2 to 9 files the last. Classes are
    those of `read_folder`. Raises DataError when there is no file, or none to hold out.
    """
    own_test = has_test(path) or split == "all"
    root = split_folder(path, split if own_test else "train")
    files, labels, classes = list_images(root, path)
    if channels is None:  # before some are held out: both splits must agree
        channels = read_as_is(files[0], None, None)[1]
    name = f"folder:{root}"
    if not own_test:
        held = _held_out(len(files))
        if split == "test" and not held.any():
            raise DataError(f"{root}: one image only, so none is held out; give at least two")
        chosen = np.flatnonzero(held == (split == "test"))
        files, labels = [files[i] for i in chosen], None if labels is None else labels[chosen]
        name += f" ({split})"
    return file_patches(files, labels, size, channels, name=name, classes=classes)


def file_patches(
    files: list[Path],
    labels: np.ndarray | None,
    size: int,
    channels: int,
    *,
    name: str,
    classes: list[str] | tuple[str, ...] | None = None,
) -> Dataset:
    """Patches of size x size pixels of image files, each with the label of its file."""
    images = PatchImages(files, size, channels)
    if labels is not None:
        labels = np.repeat(labels, images.counts)
    return Dataset(images, labels, name=name, classes=classes)


class PatchImages(LazyImages):
    """The patches (N, C, P, P) of image files, uint8, file by file and row by row.

    Files are decoded when first needed; the first ones, as many as fit in KEPT bytes, are kept, and
    of the others the last one. Raises DataError for an image smaller than a patch.
    """

    def __init__(self, files: list[Path], size: int, channels: int):
        self.files, self.size = files, size
        self.sizes = [upright_size(file) for file in files]
        for file, (height, width) in zip(files, self.sizes, strict=True):
            if min(height, width) < size:
                raise DataError(
                    f"{file}: is {width}x{height} pixels, smaller than the patches of {size}x{size}"
                    "; cut smaller ones (data.patch_size), or leave this image out"
                )
        self.counts = np.array(
            [len(_starts(h, size)) * len(_starts(w, size)) for h, w in self.sizes]
        )
        self.ends = np.cumsum(self.counts)
        self.shape, self.dtype = (int(self.ends[-1]), channels, size, size), np.dtype(np.uint8)
        needed = np.cumsum([channels * h * w for h, w in self.sizes])
        self.keeps = needed <= KEPT
        self._kept: dict[int, np.ndarray] = {}
        self._last: tuple[int, np.ndarray] | None = None  # of those not kept
        if not self.keeps.all():
            log.warning(
                "%d of %d images are decoded again and again: all of them take %.1f GiB, and"
                " %.1f are kept; smaller or fewer images train faster",
                (~self.keeps).sum(), len(files), needed[-1] / (1 << 30), KEPT / (1 << 30),
            )  # fmt: skip

    def take(self, indices: np.ndarray) -> np.ndarray:
        _, channels, size, _ = self.shape
        out = np.empty((len(indices), size, size, channels), np.uint8).transpose(0, 3, 1, 2)
        owners = np.searchsorted(self.ends, indices, side="right")
        for number in np.unique(owners):  # each file once, however many of its patches
            pixels, (height, width) = self._pixels(int(number)), self.sizes[number]
            rows, columns = _starts(height, size), _starts(width, size)
            for i in np.flatnonzero(owners == number):
                place = int(indices[i] - self.ends[number] + self.counts[number])
                top, left = rows[place // len(columns)], columns[place % len(columns)]
                out[i] = pixels[:, top : top + size, left : left + size]
        return out

    def _pixels(self, number: int) -> np.ndarray:
        """A file's image (C, H, W), kept if it is one of those."""
        pixels = self._kept.get(number)
        if pixels is None and self._last is not None and self._last[0] == number:
            pixels = self._last[1]
        if pixels is None:
            file, size = self.files[number], self.sizes[number]
            pixels, _ = read_as_is(file, None, self.shape[1])
            if pixels.shape[1:] != size:
                raise DataError(
                    f"{file}: has {pixels.shape[2]}x{pixels.shape[1]} pixels, by its header"
                    f" {size[1]}x{size[0]} when it was found; start anew, or save it upright"
                )
            if self.keeps[number]:
                self._kept[number] = pixels
            else:
                self._last = number, pixels
        return pixels


def _held_out(n: int) -> np.ndarray:
    """Which of n files are not trained on: each tenth, of fewer the last."""
    numbers = np.arange(n)
    return (numbers > 0) & (numbers == n - 1) if n < HOLDOUT else numbers % HOLDOUT == HOLDOUT - 1


def _starts(extent: int, size: int) -> list[int]:
    """Where patches begin along an axis."""
    starts = list(range(0, extent - size + 1, max(1, size // 2)))
    return starts if starts[-1] == extent - size else [*starts, extent - size]
