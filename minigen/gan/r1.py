"""`r1`: a GAN with a penalty on the discriminator's gradient at real images (Mescheder, Geiger,
Nowozin 2018): at the equilibrium the discriminator is flat, so training converges locally where
plain GANs circle (theorem 4.1). gamma is 10, so the weight of the squared norm is 5.
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class R1GANOptions(DCGANOptions):
    """What can be set in an `r1`; the defaults are the paper's."""

    batch_size: int = nn.default(DCGANOptions, "batch_size", 64)
    regularizer: str = nn.default(DCGANOptions, "regularizer", "r1")
    normalization: str = nn.default(DCGANOptions, "normalization", "none")
    lr: float = nn.default(DCGANOptions, "lr", 0.0001)
    beta1: float = nn.default(DCGANOptions, "beta1", 0.0)
    beta2: float = nn.default(DCGANOptions, "beta2", 0.99)


class R1GAN(DCGAN):
    """DCGAN with the R1 penalty."""

    Options: ClassVar[type] = R1GANOptions
