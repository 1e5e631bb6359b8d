"""`wgan`: Wasserstein GAN (Arjovsky, Chintala, Bottou 2017, algorithm 1): a critic instead of a
discriminator, kept Lipschitz by clipping its weights after each of its five updates; RMSprop, since
momentum made it unstable (section 4).
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class WGANOptions(DCGANOptions):
    """What can be set in a `wgan`; the defaults are the paper's."""

    batch_size: int = nn.default(DCGANOptions, "batch_size", 64)
    loss: str = nn.default(DCGANOptions, "loss", "wasserstein")
    regularizer: str = nn.default(DCGANOptions, "regularizer", "weight-clipping")
    critic_steps: int = nn.default(DCGANOptions, "critic_steps", 5)
    optimizer: str = nn.default(DCGANOptions, "optimizer", "rmsprop")
    lr: float = nn.default(DCGANOptions, "lr", 5e-05)


class WGAN(DCGAN):
    """DCGAN with a weight-clipped critic."""

    Options: ClassVar[type] = WGANOptions
