"""`lsgan`: least-squares GAN (Mao et al. 2017): `dcgan` whose discriminator regresses to 1 and
0, so that images far on the right side of the boundary are still pulled towards it (section 3.2).
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class LSGANOptions(DCGANOptions):
    """What can be set in an `lsgan`."""

    loss: str = nn.default(DCGANOptions, "loss", "least-squares")


class LSGAN(DCGAN):
    """DCGAN with the least-squares loss."""

    Options: ClassVar[type] = LSGANOptions
