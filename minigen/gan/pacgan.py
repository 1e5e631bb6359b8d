"""`pacgan`: packing (Lin et al. 2018): the discriminator decides on `packing` images at once, of
one kind, stacked along the channels. A generator of few modes gives itself away: its packs are
alike.
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions


@dataclass(frozen=True)
class PacGANOptions(DCGANOptions):
    """What can be set in a `pacgan`."""

    packing: int = nn.default(DCGANOptions, "packing", 2)


class PacGAN(DCGAN):
    """DCGAN whose discriminator sees packs of two."""

    Options: ClassVar[type] = PacGANOptions
