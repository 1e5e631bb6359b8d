"""What a VAE minimises of its two terms: how much the KL counts, and when.

The negative ELBO is reconstruction + KL. All that follows changes the KL's part to steer what the
latent units carry; the ELBO itself is logged beside it. Numbers that change from step to step come
from a count of steps that lies on the device, so that recorded steps can be replayed.
"""

from typing import Any

import numpy as np

import minigen as mg
import minigen.kernels as kernels
from minigen import nn
from minigen.graph import recorded, written
from minigen.tensor import Tensor


class KLPenalty(nn.Module):
    """The part of the loss that is of the KL, in nats an image, from that of every unit.

    beta times the KL (Higgins et al. 2017), rising over `warmup` steps (Bowman et al. 2016); no
    less than `free_bits` a unit (Kingma et al. 2016, eq. 15); or beta |KL - C| with a capacity C
    that rises over `capacity_steps` (Burgess et al. 2018, eq. 8).
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        warmup: int = 0,
        free_bits: float = 0.0,
        capacity: float = 0.0,
        capacity_steps: int = 0,
    ):
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits
        self.capacity, self.capacity_steps = capacity, capacity_steps
        self.steps = mg.tensor(np.float32(0)) if warmup or capacity_steps else None

    def forward(self, kl: Tensor) -> Tensor:
        """kl (N, units) -> a scalar."""
        if self.capacity:
            ceiling = self.capacity * self._risen(self.capacity_steps)
            return self.beta * mg.abs(kl.sum(1).mean() - ceiling)
        if self.free_bits:  # of the batch's mean, so that a unit need not carry in every image
            kl = mg.maximum(kl.mean(0), self.free_bits).sum()
        else:
            kl = kl.sum(1).mean()
        return kl * (self.beta * self._risen(self.warmup))

    def _risen(self, steps: int) -> Any:
        """The share of `steps` that have been taken, 1 from then on."""
        return 1.0 if self.steps is None or not steps else mg.minimum(self.steps * (1 / steps), 1.0)

    def count(self) -> None:
        """A step has been taken."""
        if self.steps is not None:
            _count(self.steps)


@recorded
def _count(steps: Tensor) -> None:
    kernels.copy_each(steps.data, (steps + 1).data)
    written(steps)
