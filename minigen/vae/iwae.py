"""`iwae`: the importance-weighted autoencoder (Burda et al. 2016). The bound is that of k codes an
image, and the tighter the larger k is; with k = 1 it is the VAE's.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.options import VAEOptions, refuse_others
from minigen.vae.vae import VAE


@dataclass(frozen=True)
class IWAEOptions(VAEOptions):
    """What can be set in an `iwae`; the defaults are the paper's network of one stochastic layer.

    What changes the KL term (beta, warmup, free_bits, capacity) is not for this bound, which has
    none.
    """

    samples: int = nn.option(50, "codes an image, k", least=1)
    batch_size: int = nn.default(VAEOptions, "batch_size", 20)
    latent: int = nn.default(VAEOptions, "latent", 50)
    encoder: tuple[int, ...] = nn.default(VAEOptions, "encoder", (200, 200))
    decoder: tuple[int, ...] = nn.default(VAEOptions, "decoder", (200, 200))
    activation: str = nn.default(VAEOptions, "activation", "tanh")
    binarize: str = nn.default(VAEOptions, "binarize", "stochastic")
    epsilon: float = nn.default(VAEOptions, "epsilon", 1e-4)

    def check(self) -> None:
        """ValueError for options that contradict each other, or the bound."""
        super().check()
        refuse_others(
            self, ("beta", "warmup", "free_bits", "capacity"), "iwae",
            "its bound has no KL term to weigh, as the model vae has",
        )  # fmt: skip


class IWAE(VAE):
    """VAE that is trained by the bound of k weighted codes."""

    Options: ClassVar[type] = IWAEOptions
    reported: ClassVar[tuple[str, ...]] = ("loss", "negative_elbo", "bits_per_dimension")
    bound: ClassVar[str] = "iwae_bound"

    def losses(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """-log (1/k) sum_i w_i, which is minimised, the negative ELBO of the same codes, and the
        former's bits per dimension; means over the batch in nats an image.

        By the chain rule the gradient is that of log w weighted by w / sum w (eq. 13 and 14).
        """
        logs = self.log_weights(x, labels, rng, self.options.samples)
        bound = bound_of(logs).mean()
        return bound, -logs.mean(), self.bits(bound)

    def further(self, x: Tensor, labels: Any, z: Tensor, rng: Generator) -> dict[str, Tensor]:
        """The bound with k codes, in nats an image."""
        return {"iwae_bound": bound_of(self.log_weights(x, labels, rng, self.options.samples))}


def bound_of(logs: Tensor) -> Tensor:
    """-log (1/k) sum_i w_i of each image (N,), of log w (k, N)."""
    return math.log(len(logs)) - mg.logsumexp(logs, axis=0)
