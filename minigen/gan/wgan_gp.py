"""`wgan-gp`: Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, algorithm 1): the
critic's slope is drawn towards 1 between real and generated images, with layer norm instead of
batch norm, since the penalty is on each image's slope by itself (section 4).
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class WGANGPOptions(DCGANOptions):
    """What can be set in a `wgan-gp`; the defaults are the paper's."""

    batch_size: int = nn.default(DCGANOptions, "batch_size", 64)
    loss: str = nn.default(DCGANOptions, "loss", "wasserstein")
    regularizer: str = nn.default(DCGANOptions, "regularizer", "gradient-penalty")
    normalization: str = nn.default(DCGANOptions, "normalization", "layer")
    critic_steps: int = nn.default(DCGANOptions, "critic_steps", 5)
    lr: float = nn.default(DCGANOptions, "lr", 0.0001)
    beta1: float = nn.default(DCGANOptions, "beta1", 0.0)
    beta2: float = nn.default(DCGANOptions, "beta2", 0.9)


class WGANGP(DCGAN):
    """DCGAN with a critic under a gradient penalty."""

    Options: ClassVar[type] = WGANGPOptions
