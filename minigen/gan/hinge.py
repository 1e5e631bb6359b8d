"""`hinge`: the hinge loss with spectral normalisation (Lim & Ye 2017; Miyato et al. 2018): the
discriminator's layers have norm 1, so its slope is bounded without a penalty.
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class HingeGANOptions(DCGANOptions):
    """What can be set in a `hinge`."""

    batch_size: int = nn.default(DCGANOptions, "batch_size", 64)
    loss: str = nn.default(DCGANOptions, "loss", "hinge")
    normalization: str = nn.default(DCGANOptions, "normalization", "none")
    spectral_norm: bool = nn.default(DCGANOptions, "spectral_norm", True)


class HingeGAN(DCGAN):
    """DCGAN with the hinge loss and a spectrally normalised discriminator."""

    Options: ClassVar[type] = HingeGANOptions
