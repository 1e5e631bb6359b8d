"""Dataset: images (N, C, H, W), perhaps labels, and how a batch of them is made.

The images are an array, a memory map, or anything lazy that answers `shape`, `dtype`, `len` and
indexing with an integer array. Nothing here may know of file formats.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

HOLDOUT = 10  # of data without a test split, each tenth image or file is held out


class DataError(ValueError):
    """Something is wrong with data on disk; one line names it and says what would be right."""


class Dataset:
    """Images (N, C, H, W) of uint8 in [0, 255], bool, or floats in [0, 1], with optional labels.

    `labels` is an integer array (N,) or None; `classes` names the labels, in order. Where it is
    known what an image was made from, `factors` are integers (N, F), and `factor_names` names them.
    Raises DataError when shapes, dtypes or counts do not fit together.
    """

    def __init__(
        self,
        images: Any,
        labels: np.ndarray | None = None,
        *,
        name: str,
        classes: Sequence[str] | None = None,
        factors: np.ndarray | None = None,
        factor_names: Sequence[str] = (),
    ):
        if len(images.shape) != 4:
            raise DataError(f"{name}: images have shape {images.shape}, expected (N, C, H, W)")
        if 0 in images.shape:
            raise DataError(f"{name}: images have shape {images.shape}; no length may be 0")
        check_pixels(images.dtype, name)
        if labels is not None:
            labels = check_labels(labels, len(images), name)
            if classes is not None and not 0 <= labels.min() <= labels.max() < len(classes):
                raise DataError(
                    f"{name}: labels run from {labels.min()} to {labels.max()}, "
                    f"but there are {len(classes)} classes (0 to {len(classes) - 1})"
                )
        if factors is not None:
            factors = check_factors(factors, len(images), factor_names, name)
        self.images, self.labels, self.name = images, labels, name
        self.classes = None if classes is None else tuple(classes)
        self.factors, self.factor_names = factors, tuple(factor_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"{len(set(self.labels.tolist()))} labels"
        return f"Dataset({self.name}: {len(self)} images {self.image_shape}, {labels})"

    def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Images float32 in [0, 1], shape (n, C, H, W), and labels int64 (n,) or None.

        The memory of the images is channels-last. Raises IndexError for an index out of range and
        DataError for a damaged image, or float pixels outside [0, 1].
        """
        indices = np.asarray(indices, np.int64).reshape(-1)
        if indices.size and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"{self.name}: indices run from {indices.min()} to {indices.max()}, "
                f"the dataset has {len(self)} images"
            )
        pixels = self.images[indices]
        channels, height, width = self.image_shape
        out = np.empty((len(indices), height, width, channels), np.float32)
        last = pixels.transpose(0, 2, 3, 1)
        if pixels.dtype == np.uint8:
            np.divide(last, np.float32(255), out=out, dtype=np.float32)
        else:
            with np.errstate(over="ignore"):  # infinity is reported below
                np.copyto(out, last, casting="same_kind")
        # Written so that NaN, which compares false, is caught too.
        if pixels.dtype.kind == "f" and out.size and not (out.min() >= 0 and out.max() <= 1):
            fits = (out.min(axis=(1, 2, 3)) >= 0) & (out.max(axis=(1, 2, 3)) <= 1)
            bad = int(np.argmin(fits))
            raise DataError(
                f"{self.name}: image {indices[bad]} has pixels from {out[bad].min():g} to "
                f"{out[bad].max():g}, expected floats in [0, 1] or uint8 in [0, 255]"
            )
        labels = None if self.labels is None else self.labels[indices]
        return out.transpose(0, 3, 1, 2), labels

    def select(self, indices: Any, name: str | None = None) -> "Dataset":
        """The dataset of the images at `indices` (integers, in that order), not copied."""
        indices = np.asarray(indices, np.int64).reshape(-1)
        labels = None if self.labels is None else self.labels[indices]
        factors = None if self.factors is None else self.factors[indices]
        return Dataset(
            SelectedImages(self.images, indices), labels, name=name or self.name,
            classes=self.classes, factors=factors, factor_names=self.factor_names,
        )  # fmt: skip

    def holdout(self, every: int = HOLDOUT) -> tuple["Dataset", "Dataset"]:
        """Two datasets for data that has no test split: all but each `every`-th image, and those.

        Deterministic, so that training and a later evaluation agree. Raises DataError when there
        are fewer than `every` images.
        """
        if not 2 <= every <= len(self):
            raise DataError(f"{self.name}: holdout(every={every}) needs 2 <= every <= {len(self)}")
        held = np.arange(len(self)) % every == every - 1
        train, test = np.flatnonzero(~held), np.flatnonzero(held)
        return self.select(train, f"{self.name} (train)"), self.select(test, f"{self.name} (test)")


class LazyImages:
    """Images made when indexed: subclasses give `shape`, `dtype` and `take(indices)`."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Images at the integer array `indices`, shape (n, C, H, W)."""
        raise TypeError(f"{type(self).__name__} does not define take(indices)")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        indices = np.arange(len(self))[key]
        images = self.take(np.asarray(indices).reshape(-1))
        return images[0] if np.ndim(indices) == 0 else images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{type(self).__name__}: an array of lazy images is always a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


class SelectedImages(LazyImages):
    """The images of `source` at `indices`."""

    def __init__(self, source: Any, indices: np.ndarray):
        self.source, self.indices = source, indices
        self.shape, self.dtype = (len(indices), *source.shape[1:]), source.dtype

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self.source[self.indices[indices]]


def check_pixels(dtype: np.dtype, name: str) -> None:
    """Raises DataError unless pixels of `dtype` have a known range."""
    if dtype != np.uint8 and dtype != np.bool_ and dtype.kind != "f":
        raise DataError(
            f"{name}: images are {dtype}, expected uint8 in [0, 255], bool, or floats in [0, 1]"
        )


def check_labels(labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Labels as int64 (N,); raises DataError when the dtype, the shape or the count is wrong."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, "
            f"expected integers of shape ({count},)"
        )
    if len(labels) != count:
        raise DataError(f"{name}: {len(labels)} labels for {count} images; the counts must agree")
    return np.ascontiguousarray(labels, np.int64)


def check_factors(factors: np.ndarray, count: int, names: Sequence[str], name: str) -> np.ndarray:
    """Factors as int64 (N, F); raises DataError when the dtype, the shape or the count is wrong."""
    if factors.dtype.kind not in "iu" or factors.shape != (count, len(names)):
        raise DataError(
            f"{name}: factors are {factors.dtype} of shape {factors.shape}, expected integers of "
            f"shape ({count}, {len(names)}): a row an image, a column a name"
        )
    return np.ascontiguousarray(factors, np.int64)
