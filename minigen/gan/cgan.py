"""`cgan`: conditional GAN: images of a class that one asks for. The generator takes a learnt vector
of the class beside its noise (Mirza & Osindero 2014); the discriminator adds the inner product of
its features with another (`projection`, Miyato & Koyama 2018), or takes a learnt map of the class
beside the image (`embedding`).
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class CGANOptions(DCGANOptions):
    """What can be set in a `cgan`."""

    conditional: str = nn.default(DCGANOptions, "conditional", "projection")


class CGAN(DCGAN):
    """DCGAN of labelled images."""

    Options: ClassVar[type] = CGANOptions
