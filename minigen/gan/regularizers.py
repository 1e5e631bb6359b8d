"""What keeps a discriminator smooth: `REGULARIZERS`, penalties on its gradient and a clip of its
weights.

Images are (N, C, H, W), or rows (N, D). Penalties take each image's slope from the derivative of
the sum of all decisions, so the critic must judge images one by one: no batch norm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import minigen as mg
from minigen import nn, optim
from minigen.random import Generator
from minigen.tensor import Tensor

TINY = 1e-12
Critic = Callable[[Tensor], Tensor]


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, *, rng: Generator) -> Tensor:
    """E[(|d critic / d x| - 1)^2] on random mixes of images (Gulrajani et al. 2017, eq. 3)."""
    return _off_one(_squared_slopes(critic, mg.lerp(fake, real, _shares(real, rng))))


def dragan(critic: Critic, real: Tensor, fake: Tensor, *, rng: Generator) -> Tensor:
    """E[(|d critic / d x| - 1)^2] near real images (Kodali et al. 2017, section 2.3).

    On random mixes of each with itself under uniform noise of half the batch's deviation.
    """
    noise = rng.uniform(real.shape, dtype=real.dtype)
    near = real + _shares(real, rng) * (0.5 * real.std() * noise)
    return _off_one(_squared_slopes(critic, near))


def _shares(x: Tensor, rng: Generator) -> Tensor:
    """A number in [0, 1) for each image, to be broadcast against x."""
    return rng.uniform((len(x), *[1] * (x.ndim - 1)), dtype=x.dtype)


def r1(critic: Critic, real: Tensor, fake: Tensor, *, rng: Generator) -> Tensor:
    """E[|d critic / d x|^2] on real images (Mescheder et al. 2018, eq. 9, without gamma / 2)."""
    return _squared_slopes(critic, real).mean()


def r2(critic: Critic, real: Tensor, fake: Tensor, *, rng: Generator) -> Tensor:
    """E[|d critic / d x|^2] on generated images (Mescheder et al. 2018, eq. 10)."""
    return _squared_slopes(critic, fake).mean()


def _squared_slopes(critic: Critic, x: Tensor) -> Tensor:
    """|d critic / d x|^2 at each image, (N,), differentiable by the critic's weights."""
    x = x.detach()
    x.requires_grad = True
    with mg.enable_grad():
        (slope,) = mg.grad(critic(x).sum(), [x], create_graph=True)
    return (slope**2).sum(tuple(range(1, x.ndim)))


def _off_one(squares: Tensor) -> Tensor:
    """E[(length - 1)^2]; TINY keeps the root differentiable where a critic is flat."""
    return ((mg.sqrt(squares + TINY) - 1) ** 2).mean()


@dataclass(frozen=True)
class Penalty:
    """A term of the discriminator's loss; `weight` is the paper's."""

    function: Callable[..., Tensor]
    weight: float


@dataclass(frozen=True)
class WeightClipping:
    """Every weight in [-weight, weight] after every step (Arjovsky et al. 2017, algorithm 1)."""

    weight: float

    def constrain(self, critic: nn.Module, limit: float) -> None:
        optim.clip_weights(critic, limit)


REGULARIZERS: dict[str, Penalty | WeightClipping | None] = {
    "none": None,
    "gradient-penalty": Penalty(gradient_penalty, 10.0),
    "r1": Penalty(r1, 5.0),
    "r2": Penalty(r2, 5.0),
    "dragan": Penalty(dragan, 10.0),
    "weight-clipping": WeightClipping(0.01),
}
