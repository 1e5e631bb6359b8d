"""Datasets: the embedded default, readers of the usual formats, batching with prefetch.

Here live arrays and files only, in NumPy; nothing here may know of models or training.
"""

from minigen.data.augment import parse as parse_augment
from minigen.data.batches import Batches
from minigen.data.catalogue import load, names, photo, photo_names, takes_patches
from minigen.data.dataset import DataError, Dataset

__all__ = [
    "Batches",
    "DataError",
    "Dataset",
    "load",
    "names",
    "parse_augment",
    "photo",
    "photo_names",
    "takes_patches",
]
