"""A model of three classes whose samples tell what was asked of them."""

from typing import Any

import numpy as np

from tests.train.fake_model import Fake

MODEL = "tests.cli.fake_conditional:Conditional"


class Conditional(Fake):
    """An image is its label over 4 all over, but for its first pixel: the size of its noise."""

    classes = 3

    def sample(
        self, n: int, rng: Any, *, labels: Any = None, truncation: float | None = None
    ) -> np.ndarray:
        if truncation is not None and truncation < 1e-6:
            raise ValueError(f"{truncation} is too small")
        labels = np.arange(n) % self.classes if labels is None else np.asarray(labels)
        images = np.tile(labels[:, None, None, None] / 4, (1, *self.image_shape))
        noise = np.abs(rng.normal(n).numpy())
        images[:, 0, 0, 0] = np.minimum(noise, truncation or np.inf) / 4
        return images.astype(np.float32)

    def interpolate(self, n: int, rng: Any, *, label: int = 0) -> np.ndarray:
        return self.sample(n, rng, labels=np.full(n, label))
