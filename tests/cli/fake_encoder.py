"""A model with codes whose reconstructions, likelihoods and codes are known numbers."""

from typing import Any

import numpy as np

from tests.train.fake_model import Fake

MODEL = "tests.cli.fake_encoder:Encoder"
OFF = 0.1  # how far reconstructions lie below the images


class Encoder(Fake):
    """Images come back darker by OFF; an image's code is its pixels at the four corners."""

    device = "cpu"
    asked: tuple[int, int] | None = None  # of the newest likelihood: images, k

    def reconstruct(self, images: Any, labels: Any = None) -> np.ndarray:
        assert labels is None
        return (np.asarray(images) + 1) / 2 - np.float32(OFF)

    def codes(self, images: Any, labels: Any = None) -> np.ndarray:
        return np.asarray(images)[:, 0, ::11, ::11].reshape(len(images), -1)

    def log_likelihood(
        self, images: Any, labels: Any, rng: Any, *, k: int, progress: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        Encoder.asked = (len(images), k)
        progress(len(images), len(images))
        return np.asarray(images).mean((1, 2, 3)) - 50, np.full(len(images), 10 / k)

    def bits(self, nats: float) -> float:
        return nats / 100
