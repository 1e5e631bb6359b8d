"""Networks in whose features images are compared, and which one fits which data.

A distance is named after its features: those of "lenet-fashion" say nothing about those of "vgg16".
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

import minigen as mg
from minigen import backend, pretrained
from minigen.metrics import lenet, weights
from minigen.metrics.checks import Progress
from minigen.random import Generator
from minigen.tensor import Tensor

log = logging.getLogger(__name__)

NAMES = ("lenet-fashion", "lenet-mnist", *pretrained.SOURCES)
# Height and width to which images are resized. Larger ones say more and cost more: at these sizes
# one core takes 2 ms an image for SqueezeNet and 5 ms for VGG16.
SIZES = {"lenet-fashion": lenet.SIZE, "lenet-mnist": lenet.SIZE, "squeezenet": 128, "vgg16": 64}
BATCHES = {"lenet-fashion": 500, "lenet-mnist": 500, "squeezenet": 50, "vgg16": 50}


class FeatureNetwork:
    """A trained network, and how images get into it; made by `feature_network`.

    `name` is what a distance in its features is called after.
    """

    def __init__(self, name: str, network: Any, *, device: str = "cpu"):
        self.name, self.device = name, device
        self.network = network.eval().to(device)
        self.size, self.batch = SIZES[name], BATCHES[name]
        self.grey = isinstance(network, lenet.LeNet)

    def features(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """(N, D) float32 of images (N, C, H, W) in [0, 1], which are resized as SIZES says.

        A LeNet (D = 128) looks at each channel alone: D is 128 C, the channels one after the other.
        The others (D = 512) see grey images as colour ones of equal channels. `progress` is called
        with (images done, all). Raises ValueError for another shape.
        """
        parts = self._mapped(self.network.features, images, progress)
        return parts.reshape(len(images), -1)

    def predict(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The likeliest of the ten classes, int64: (N,) for grey images, (N, C) for each channel.

        Raises ValueError for a network that is no classifier.
        """
        if not self.grey:
            raise ValueError(f"{self.name}: gives features, no classes; a lenet has classes")
        labels = self._mapped(self.network, images, progress).argmax(-1)
        return labels.reshape(len(images)) if images.shape[1] == 1 else labels

    def _mapped(
        self, function: Callable[[Tensor], Tensor], images: np.ndarray, progress: Progress | None
    ) -> np.ndarray:
        """`function` of all images, a batch at a time: (N, 1 or C, D)."""
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
            raise ValueError(
                f"{self.name}: images have shape {images.shape}, expected (N, 1 or 3, H, W)"
            )
        parts = []
        for start in range(0, len(images), self.batch):
            batch = np.asarray(images[start : start + self.batch], np.float32)
            with mg.no_grad():
                given = self._prepared(batch)
                out = function(given).numpy()
            parts.append(out.reshape(len(batch), -1, out.shape[-1]))
            if progress is not None:
                progress(min(start + self.batch, len(images)), len(images))
        return np.concatenate(parts)

    def _prepared(self, batch: np.ndarray) -> Tensor:
        """A batch as the network takes it: resized, and grey or colour."""
        count, channels, height, width = batch.shape
        if self.grey:
            batch = batch.reshape(count * channels, 1, height, width)
        elif channels == 1:
            batch = np.repeat(batch, 3, axis=1)
        images = mg.asarray(backend.to_device(batch, self.device))
        if (height, width) == (self.size, self.size):
            return images
        return mg.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)


def feature_network(name: str, *, device: str = "cpu") -> FeatureNetwork:
    """The feature network of that name, its weights loaded.

    "lenet-fashion" and "lenet-mnist" come with minigen; "squeezenet" and "vgg16" are imported by
    the user. Raises ValueError, in one line that says how to get them, where their weights are
    missing, or for another name; OSError for a damaged file.
    """
    if name not in NAMES:
        raise ValueError(f"no feature network {name!r}; there are {', '.join(NAMES)}")
    if name in pretrained.SOURCES:
        return FeatureNetwork(name, pretrained.load(name), device=device)
    network = lenet.LeNet(rng=Generator(0))
    network.load_state_dict(mg.load(weights.verified(name)))
    return FeatureNetwork(name, network.freeze(), device=device)


def default_features(dataset_name: str, image_shape: tuple[int, int, int]) -> str | None:
    """The name of the network that fits a dataset: by its name, else by its channels.

    Digits have "lenet-mnist", other grey images "lenet-fashion", colour ones "squeezenet" if its
    weights have been imported; otherwise None, and a line of the log says how to get them.
    """
    kind = dataset_name.partition(":")[0]
    if kind in ("mnist", "stacked-mnist"):
        return "lenet-mnist"
    if image_shape[0] == 1:
        return "lenet-fashion"
    if pretrained.path("squeezenet").is_file():
        return "squeezenet"
    log.warning(
        "no distances in features: colour images need squeezenet, whose weights are not here yet;"
        " %s",
        pretrained.advice("squeezenet"),
    )
    return None


def stacked_modes(
    images: np.ndarray, *, network: FeatureNetwork | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Which of stacked MNIST's 1,000 modes each image (N, 3, H, W) is: 100 a + 10 b + c, int64.

    a, b and c are the digits that "lenet-mnist" (or `network`) sees in the three channels
    (Metz et al. 2017, sec. 3.3.1).
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"stacked_modes: images have shape {images.shape}, expected (N, 3, H, W)")
    network = feature_network("lenet-mnist") if network is None else network
    return network.predict(images, progress) @ np.array([100, 10, 1])
