"""Stacked MNIST: three random digits as the channels of one image, 1,000 modes (Metz et al. 2017).

Which digits are stacked is drawn once, from a fixed seed; the images are put together when indexed.
"""

import numpy as np

from minigen.data.dataset import DataError, Dataset, LazyImages

# As many images as Lin et al. (2018), sec. 4.2, train on, and samples as they count modes in.
COUNTS = {"train": 128_000, "test": 26_000}
CLASSES = tuple(f"{number:03d}" for number in range(1000))
SEED = 1000


class StackedImages(LazyImages):
    """Images (N, 3, H, W): channel c of image i is the grey image `indices[i, c]` of `source`."""

    def __init__(self, source: np.ndarray, indices: np.ndarray):
        self.source, self.indices = source, indices
        self.shape = (len(indices), indices.shape[1], *source.shape[2:])
        self.dtype = source.dtype

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self.source[self.indices[indices], 0]


def stack(digits: Dataset, split: str, count: int | None = None) -> Dataset:
    """`count` (None: of COUNTS) stacked images of a dataset of grey digits 0 to 9.

    The label is 100 a + 10 b + c of the digits a, b, c in the channels. Training and test images
    are drawn from streams of their own. Raises DataError where the digits have no labels.
    """
    name = f"stacked-{digits.name}"
    if digits.labels is None:
        raise DataError(f"{name}: the digits have no labels, which the modes are made of")
    import minigen.kernels as kernels  # late: reading data must not need the engine
    from minigen.random import Generator

    with kernels.use("reference"):
        rng = Generator(SEED).spawn(split)
        drawn = rng.integers(len(digits), shape=(count or COUNTS[split], 3)).numpy()
    labels = digits.labels[drawn] @ np.array([100, 10, 1])
    images = StackedImages(digits.images, drawn)
    return Dataset(images, labels, name=name, classes=CLASSES)
