"""Penalties on a discriminator or critic."""

from collections.abc import Callable

import minigen as mg
from minigen.random import Generator
from minigen.tensor import Tensor


def gradient_penalty(critic: Callable, real: Tensor, fake: Tensor, *, rng: Generator) -> Tensor:
    """E[(|d critic / d x| - 1)^2] on random mixes of images (Gulrajani et al. 2017, eq. 3).

    `real` and `fake` are (N, C, H, W). The critic must treat images one by one: no batch norm.
    """
    mix = mg.lerp(fake, real, rng.uniform((len(real), 1, 1, 1), dtype=real.dtype)).detach()
    mix.requires_grad = True
    (slope,) = mg.grad(critic(mix).sum(), [mix], create_graph=True)
    return ((mg.sqrt((slope**2).sum((1, 2, 3))) - 1) ** 2).mean()
