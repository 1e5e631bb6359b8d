"""GANDoctor: the signs of a GAN's health, measured on a small batch without changing anything.

What the signs mean is in `rules`, and what helps in `remedies`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigen as mg
from minigen.gan.rules import RULES
from minigen.nn.doctor import Doctor, untouched
from minigen.random import Generator
from minigen.tensor import Tensor, raw

LEAST, MOST = 16, 64  # images of each kind in an examination, half a batch in between


class GANDoctor(Doctor):
    """Measures both players: decisions, gradients, and how much the images vary.

    `real` is what the model's step does to real images first, if anything.
    """

    rules = RULES

    def __init__(self, model: Any, *, real: Callable[[Tensor], Tensor] = lambda x: x):
        super().__init__(model)
        self.real = real

    def signs(self, images: Any, labels: Any, rng: Generator) -> dict[str, float]:
        """`decision_signs`, `variety`, and the 2-norm of each player's gradient."""
        model = self.model
        n = _count(len(images), model.options)
        kinds = mg.asarray(labels[:n]) if model.classes else None
        with untouched(model):
            real = self.real(mg.asarray(images[:n]))
            fake = model.generate(model.noise(n, rng), kinds)
            found, d_grads = mg.value_and_grad(self.judged, model.discriminator)(
                real, fake.detach(), kinds, rng
            )
            loss = self.flattered(model.score(fake, kinds, rng))
            g_grads = mg.grad(
                loss, model.generator.parameters(), retain_graph=False, allow_unused=True
            )
        on_real, on_fake = (each.numpy().ravel() for each in found[1:])
        return {
            **self.decision_signs(on_real, on_fake),
            "discriminator_gradient": norm(d_grads),
            "generator_gradient": norm(g_grads),
            **variety(
                real.numpy(), fake.detach().numpy(), None if kinds is None else kinds.numpy()
            ),
        }

    def slowed(self, attribute: str) -> float:
        """Half the learning rate, or the geometric mean of both players' where it is lower."""
        first, second = "generator_optimizer", "discriminator_optimizer"
        other = getattr(self.model, second if attribute == first else first).lr
        half = super().slowed(attribute)
        return min(half, math.sqrt(2 * half * other))

    def judged(self, real: Tensor, fake: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """(the discriminator's loss without penalties, outputs on real, on generated images)."""
        on_real, on_fake = (self.model.score(x, labels, rng) for x in (real, fake))
        return self.model.loss.discriminator(on_real, on_fake), on_real, on_fake

    def flattered(self, on_fake: Tensor) -> Tensor:
        """The generator's loss, of the discriminator's outputs."""
        return self.model.loss.generator(on_fake)

    def decision_signs(self, on_real: np.ndarray, on_fake: np.ndarray) -> dict[str, float]:
        """Of decisions (N,) on images of each kind, in the loss's units:

        "real" and "fake", their means; "separation", how often a real image gets the higher one;
        "slope", how the generator's loss answers to them; "balance", the discriminator's loss
        relative to that of one that never decides; "certainty", the mean size of the logits on the
        kind where it is smaller. The last two only where the loss knows them.
        """
        loss = self.model.loss
        fake = mg.tensor(on_fake, requires_grad=True)
        (slope,) = mg.grad(loss.generator(fake), [fake])
        signs = {
            "real": float(on_real.mean()),
            "fake": float(on_fake.mean()),
            "separation": float((on_real[:, None] > on_fake).mean()),
            "slope": float(abs(slope.numpy()).sum()),
        }
        if loss.undecided is not None:
            even = mg.tensor(np.full(1, loss.undecided))
            paid = loss.discriminator(mg.tensor(on_real), fake.detach()).item()
            signs["balance"] = paid / loss.discriminator(even, even).item()
        if loss.outputs == "logits":
            signs["certainty"] = float(min(abs(on_real).mean(), abs(on_fake).mean()))
        return signs


class EnergyDoctor(GANDoctor):
    """Of a discriminator whose outputs are errors, lower on what it takes for real (`began`)."""

    def judged(self, real: Tensor, fake: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        on_real, on_fake = (self.model.score(x, labels, rng) for x in (real, fake))
        return on_real.mean() - self.model.k * on_fake.mean(), on_real, on_fake

    def flattered(self, on_fake: Tensor) -> Tensor:
        return on_fake.mean()

    def decision_signs(self, on_real: np.ndarray, on_fake: np.ndarray) -> dict[str, float]:
        """The mean errors of each kind, and "equilibrium": how they are to each other, relative to
        gamma, at which the controller k aims.
        """
        real, fake = float(on_real.mean()), float(on_fake.mean())
        aim = self.model.options.gamma * real
        return {"real": real, "fake": fake, **({"equilibrium": fake / aim} if aim else {})}


def norm(grads: Sequence[Tensor | None]) -> float:
    """The joint 2-norm of gradients, None counting as 0."""
    squares = [float((raw(g) ** 2).sum(dtype=np.float64)) for g in grads if g is not None]
    return sum(squares) ** 0.5


def variety(
    real: np.ndarray, fake: np.ndarray, labels: np.ndarray | None = None
) -> dict[str, float]:
    """How much generated images differ from one another, relative to as many real ones.

    "diversity" is the ratio of the mean distances between two images, "nearest" that of the mean
    distances from an image to the one most like it; both near 1 where all is well. Of images with
    labels (N,), both kinds', only those of one class are compared: classes differ anyhow. Where no
    two images can be compared there is nothing to say.
    """
    classes = np.zeros(len(real)) if labels is None else labels
    pairs = (classes[:, None] == classes) & ~np.eye(len(real), dtype=bool)
    if not pairs.any():
        return {}
    (mean, nearest), (fake_mean, fake_nearest) = _distances(real, pairs), _distances(fake, pairs)
    return {
        "diversity": fake_mean / mean if mean else 1.0,
        "nearest": fake_nearest / nearest if nearest else 1.0,
    }


def _distances(images: np.ndarray, pairs: np.ndarray) -> tuple[float, float]:
    """The mean distance between the `pairs` (N, N) of images, and from one to its nearest."""
    x = images.reshape(len(images), -1).astype(np.float64)
    x = x - x.mean(0)
    squares = (x * x).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0))
    nearest = np.where(pairs, apart, np.inf).min(1)[pairs.any(1)]
    return float(apart[pairs].mean()), float(nearest.mean())


def _count(given: int, options: Any) -> int:
    """How many images to look at: whole packs, and no more than `step` was given."""
    n, pack = min(max(options.batch_size // 2, LEAST), MOST, given), getattr(options, "packing", 1)
    return max(n // pack, 1) * pack
