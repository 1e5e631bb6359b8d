"""`mmd-vae`: the InfoVAE whose codes as a whole, not each image's, are drawn to the prior, by the
maximum mean discrepancy (Zhao et al. 2017). What images have in common with their codes costs
nothing then, so that the decoder cannot learn to ignore them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.conv_vae import ConvVAE, ConvVAEOptions


@dataclass(frozen=True)
class MMDVAEOptions(ConvVAEOptions):
    """What can be set in an `mmd-vae`; `beta` is the weight of the KL term, 1 - alpha."""

    batch_size: int = nn.option(64, "images in a step, whose codes are compared", least=2)
    mmd: float = nn.option(500.0, "weight of the discrepancy, alpha + lambda - 1", least=0)
    beta: float = nn.default(ConvVAEOptions, "beta", 0.0)
    latent: int = nn.default(ConvVAEOptions, "latent", 10)


class MMDVAE(ConvVAE):
    """VAE with MMD(q(z), p(z)) in place of the KL term, or beside it."""

    Options: ClassVar[type] = MMDVAEOptions
    reported: ClassVar[tuple[str, ...]] = (
        "loss", "reconstruction", "kl", "mmd", "bits_per_dimension",
    )  # fmt: skip

    def losses(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """What is minimised (eq. 6), its terms, and the bits per dimension of the bound; the
        reconstruction and the KL in nats an image, the discrepancy without unit.
        """
        mu, log_var = self.encode(x, labels)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        nll = self.likelihood.nll(x, self.decoded(z, labels)).mean()
        apart = discrepancy(z, rng.normal(z.shape))
        loss = nll + self.penalty(kl) + self.options.mmd * apart
        kl = kl.sum(1).mean()
        return loss, nll, kl, apart, self.bits(nll + kl)

    def further(self, x: Tensor, labels: Any, z: Tensor, rng: Generator) -> dict[str, Tensor]:
        """The discrepancy of a batch, if there are images to compare."""
        return {"mmd": discrepancy(z, rng.normal(z.shape))[None]} if len(z) > 1 else {}


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """MMD^2 between samples x and y (N, D), unbiased (Gretton et al. 2012, eq. 3): 0 on average
    where they have one distribution.

    The kernel is exp(-|a - b|^2 / (2 D)); codes of the prior are 2 D apart, squared, on average.
    """
    n = len(x)
    off = mg.asarray(mg.arange(n, device=x.device))[:, None] != mg.arange(n, device=x.device)
    off = off.astype(x.dtype) * (1 / (n * (n - 1)))
    within = (off * (_kernel(x, x) + _kernel(y, y))).sum()
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * mg.matmul(x, mg.transpose(y))
    return mg.exp(squares * (-0.5 / x.shape[1]))
