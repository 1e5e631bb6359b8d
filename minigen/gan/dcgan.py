"""`dcgan`: deep convolutional GAN (Radford, Metz, Chintala 2015), for square images of 28, 32, 64
or 128 pixels.

The step is that of `gan`. What the paper adds is the networks (section 3; `networks.dcgan_*`):
strided convolutions instead of pooling, batch norm except at the generator's output and the
discriminator's input, relu in the generator with tanh at its end, leaky relu 0.2 in the
discriminator, weights from N(0, 0.02).
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.gan.gan import GAN, GANOptions


@dataclass(frozen=True)
class DCGANOptions(GANOptions):
    """What can be set in a `dcgan`; the defaults are the paper's."""

    batch_size: int = nn.default(GANOptions, "batch_size", 128)
    network: str = nn.default(GANOptions, "network", "dcgan")
    normalization: str = nn.default(GANOptions, "normalization", "batch")


class DCGAN(GAN):
    """GAN with convolutional networks; `image_shape` is (C, size, size)."""

    Options: ClassVar[type] = DCGANOptions
