"""`beta-vae`: a KL term that weighs more, so that few units carry, each if it can one factor of
what varies (Higgins et al. 2017). `warmup`, `free_bits` and `capacity` (Burgess et al. 2018) are
other ways to steer it; `minigen sample RUN --traverse` shows what each unit does.
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.vae.conv_vae import ConvVAE, ConvVAEOptions


@dataclass(frozen=True)
class BetaVAEOptions(ConvVAEOptions):
    """What can be set in a `beta-vae`."""

    latent: int = nn.default(ConvVAEOptions, "latent", 10)
    beta: float = nn.default(ConvVAEOptions, "beta", 4.0)


class BetaVAE(ConvVAE):
    """VAE with beta > 1."""

    Options: ClassVar[type] = BetaVAEOptions
