"""What `metrics.suite` measures: sets of images that fit together, and their features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.random import Generator

Stages = Callable[[str, int, int], object]  # called with (what is being done, done, total)


@dataclass
class Comparison:
    """What the metrics look at; features are computed when the first of them asks.

    Raises ValueError for images that do not fit together.
    """

    fake: np.ndarray
    real: np.ndarray
    train: np.ndarray
    network: Any
    rng: Generator
    classify: bool
    fake_labels: Any
    real_labels: Any
    progress: Stages | None

    def __post_init__(self) -> None:
        self.fake, self.real, self.train = _images(self.fake, self.real, self.train)

    @property
    def network_name(self) -> str:
        """What a distance in the network's features is named after: `lenet` of `lenet-mnist`."""
        return self.network.name.partition("-")[0]

    @property
    def least(self) -> int:
        """The number of images in the smaller of the two sets compared."""
        return min(len(self.fake), len(self.real))

    @cached_property
    def fake_features(self) -> np.ndarray:
        return self.network.features(self.fake, self.tell("features of samples"))

    @cached_property
    def real_features(self) -> np.ndarray:
        return self.network.features(self.real, self.tell("features of held-out images"))

    @cached_property
    def stand_in(self) -> np.ndarray:
        """Training images, as many as generated ones if there are: the yardstick's samples."""
        order = self.rng.spawn("stand-in").permutation(len(self.train)).numpy()
        return self.train[order[: len(self.fake)]]

    @cached_property
    def stand_in_features(self) -> np.ndarray:
        return self.network.features(self.stand_in, self.tell("features of training images"))

    def some(self, x: np.ndarray, most: int) -> np.ndarray:
        """At most so many rows, drawn at random: data may be in the order of their classes, one
        after the other or all in turn.
        """
        if len(x) <= most:
            return x
        order = self.rng.spawn("some").permutation(len(x)).numpy()
        return x[order[:most]]

    def tell(self, what: str) -> checks.Progress | None:
        """`progress` for one part of the work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def _images(fake: Any, real: Any, train: Any) -> list[np.ndarray]:
    names = ("samples", "held-out images", "training images")
    sets = [
        checks.images(f"evaluate_samples: {name}", x, least=2).astype(np.float32, copy=False)
        for name, x in zip(names, (fake, real, train), strict=True)
    ]
    shapes = [x.shape[1:] for x in sets]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"evaluate_samples: {', '.join(names)} have shapes {', '.join(map(str, shapes))},"
            " expected the same"
        )
    return sets
