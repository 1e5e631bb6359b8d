"""`dcgan`: deep convolutional GAN (Radford, Metz, Chintala 2015), for square images of 28, 32, 64
or 128 pixels.

The step is that of `gan`. What the paper adds is the networks (section 3): strided convolutions
instead of pooling, batch norm except at the generator's output and the discriminator's input, relu
in the generator with tanh at its end, leaky relu 0.2 in the discriminator, weights from N(0,
0.02).
"""

from dataclasses import dataclass

from minigen import nn
from minigen.gan.gan import GAN, GANOptions
from minigen.random import Generator

# image size -> how often it halves; 28 ends at 7x7, the others at 4x4
UPSAMPLINGS = {28: 2, 32: 3, 64: 4, 128: 5}


@dataclass(frozen=True)
class DCGANOptions(GANOptions):
    """What can be set in a `dcgan`; the defaults are the paper's."""

    batch_size: int = nn.option(128, "images in a step", least=1)
    channels: int = nn.option(
        64, "channels at the highest resolution, doubled by each halving", least=1
    )


class DCGAN(GAN):
    """GAN with convolutional networks; `image_shape` is (C, size, size) of UPSAMPLINGS."""

    Options = DCGANOptions

    def __init__(self, options: DCGANOptions, image_shape: tuple[int, int, int], *, rng: Generator):
        _, height, width = image_shape
        if height != width or height not in UPSAMPLINGS:
            sizes = ", ".join(map(str, UPSAMPLINGS))
            raise ValueError(f"dcgan: images are {height}x{width}, expected squares of {sizes}")
        super().__init__(options, image_shape, rng=rng)

    def make_generator(self, rng: Generator) -> nn.Module:
        """z (N, latent) -> 1x1 -> 4x4 (7x7 for 28) -> twice the size a layer -> (N, C, size, size)
        in [-1, 1].
        """
        colours, size, _ = self.image_shape
        ups = UPSAMPLINGS[size]
        width = self.options.channels * 2 ** (ups - 1)
        latent = self.options.latent
        layers: list[nn.Module] = [
            nn.Reshape(latent, 1, 1),
            nn.ConvTranspose2d(latent, width, size >> ups, 1, 0, bias=False, rng=rng),
            nn.BatchNorm2d(width, negative_slope=0.0),
        ]
        for _ in range(ups - 1):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False, rng=rng),
                nn.BatchNorm2d(width // 2, negative_slope=0.0),
            ]
            width //= 2
        layers += [nn.ConvTranspose2d(width, colours, 4, 2, 1, bias=False, rng=rng), nn.Tanh()]
        return begin(nn.Sequential(*layers), rng=rng)

    def make_discriminator(self, rng: Generator) -> nn.Module:
        """The generator mirrored: (N, C, size, size) -> half the size a layer -> 4x4 (7x7) -> one
        logit (N, 1).
        """
        colours, size, _ = self.image_shape
        ups = UPSAMPLINGS[size]
        width = self.options.channels
        layers: list[nn.Module] = [
            nn.Conv2d(colours, width, 4, 2, 1, bias=False, rng=rng),
            nn.LeakyReLU(0.2),
        ]
        for _ in range(ups - 1):
            layers += [
                nn.Conv2d(width, width * 2, 4, 2, 1, bias=False, rng=rng),
                nn.BatchNorm2d(width * 2, negative_slope=0.2),
            ]
            width *= 2
        layers += [nn.Conv2d(width, 1, size >> ups, 1, 0, bias=False, rng=rng), nn.Flatten()]
        return begin(nn.Sequential(*layers), rng=rng)


def begin(network: nn.Module, *, rng: Generator) -> nn.Module:
    """Convolutions' weights from N(0, 0.02^2), batch norm's from N(1, 0.02^2).

    Returns the network. Biases stay 0. Radford et al. 2015, section 3; the
    scale around 1 is that of their code.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02, rng=rng)
        elif isinstance(layer, nn.BatchNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, 0.02, rng=rng)
    return network
