"""A model whose images show their codes: what pictures of codes are to look like is known."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigen as mg
from tests.train import fake_model

MODEL, LABELLED = "tests.cli.fake_latent:Coded", "tests.cli.fake_latent:Labelled"


@dataclass(frozen=True)
class Options(fake_model.Options):
    latent: int = 4


class Coded(fake_model.Fake):
    """Row i of an image is unit i of its code, over 6 and 1/2 more; the last row is the label's.

    By KL the units are 2, 3, 0, 1.
    """

    Options = Options
    evaluating = nullcontext

    def codes(self, images: Any, labels: Any = None) -> np.ndarray:
        return 3 * np.asarray(images)[:, 0, : self.options.latent, 0]

    def encode(self, images: Any, labels: Any = None) -> tuple[mg.Tensor, mg.Tensor]:
        mu = self.codes(images)
        return mg.asarray(mu), mg.asarray(mu * 0 - [10, 0, 30, 20][: self.options.latent])

    def decode(self, z: Any, labels: Any = None) -> np.ndarray:
        images = np.zeros((len(z), *self.image_shape), np.float32)
        images[:, 0, : self.options.latent] = z.numpy()[:, :, None] / 6 + 0.5
        images[:, 0, -1] = 0 if labels is None else labels.numpy()[:, None] / 4
        return images

    def reconstruct(self, images: Any, labels: Any = None) -> np.ndarray:
        return self.decode(mg.asarray(self.codes(images)), labels)


class Labelled(Coded):
    """It is told one of three classes."""

    classes = 3

    def swap(self, contents: Any, styles: Any, labels: Any, kinds: Any) -> np.ndarray:
        assert kinds.shape == (len(styles),)
        if self.options.flag:
            raise ValueError("nothing to swap")
        z = np.tile(self.codes(styles), (len(contents), 1))
        made = self.decode(mg.asarray(z), mg.repeat(labels, len(styles)))
        return made.reshape(len(contents), len(styles), *self.image_shape)
