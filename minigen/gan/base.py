"""What all GANs offer once they are trained: a generator, and its use from noise to images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.nn.latent import great_circle
from minigen.random import Generator
from minigen.tensor import Tensor

CHUNK = 256  # images made at a time
MOST_REDRAWS = 10_000


class Generative(nn.Model):
    """A model with a `generator` of images in [-1, 1] from normal noise (and labels), and perhaps
    its average over training, `ema`, from which samples come.

    `options` must have `latent`; those of conditional models say how many `classes` there are.
    """

    value_range = (-1.0, 1.0)
    generator: nn.Module
    ema: optim.EMA | None = None

    def noise(self, n: int, rng: Generator) -> Tensor:
        """z ~ N(0, I), (n, latent)."""
        return rng.normal((n, self.options.latent))

    def generate(self, z: Tensor, labels: Any = None) -> Tensor:
        """Images of noise vectors, as the generator is trained on them."""
        return self.generator(z) if labels is None else self.generator(z, labels)

    def sample(
        self,
        n: int,
        rng: Generator,
        *,
        labels: Sequence[int] | np.ndarray | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1] from the averaged generator.

        A conditional model takes `labels` (n,), and goes through the classes in turn without them.
        `truncation` redraws each number of the noise until it lies in [-truncation, truncation]:
        better images, fewer kinds (Brock et al. 2018, section 3.1). Raises ValueError.
        """
        z = self.noise(n, rng) if truncation is None else self._truncated(n, truncation, rng)
        return self.decode(z, self.chosen_labels(n, labels))

    def interpolate(self, n: int, rng: Generator, *, label: int = 0) -> np.ndarray:
        """n images on the great circle between two noise vectors (White 2016), of one class."""
        a, b = self.noise(2, rng).numpy().astype(np.float64)
        z = great_circle(a, b, n)
        labels = self.chosen_labels(n, [label] * n) if self.classes else None
        return self.decode(mg.asarray(z.astype(np.float32), device=self.device), labels)

    @mg.no_grad()
    def decode(self, z: Tensor, labels: Any = None) -> np.ndarray:
        """Images in [0, 1] of noise vectors, by the generator in evaluation mode."""
        parts = []
        with self.evaluating(self.ema):
            for i in range(0, max(len(z), 1), CHUNK):
                chosen = None if labels is None else labels[i : i + CHUNK]
                parts.append(self.generate(z[i : i + CHUNK], chosen).numpy())
        return np.clip(np.concatenate(parts) / 2 + 0.5, 0, 1)

    def _truncated(self, n: int, limit: float, rng: Generator) -> Tensor:
        """Noise with every number redrawn until its size is at most `limit`."""
        if not limit > 0:
            raise ValueError(f"truncation is {limit}, expected a positive number such as 0.5")
        z = np.array(self.noise(n, rng).numpy())
        for _ in range(MOST_REDRAWS):
            outside = abs(z) > limit
            if not outside.any():
                return mg.asarray(z, device=self.device)
            z[outside] = self.noise(n, rng).numpy()[outside]
        raise ValueError(f"truncation is {limit}, too small to draw noise within it")
