"""The models and the data of the mode-collapse laboratory: points in the plane, stacked MNIST.

Both models are the `GAN` of minigen/gan with networks of their own: every loss, regulariser and
way of packing is the library's. Options that these networks do not know are refused.
"""

from dataclasses import dataclass

import measure  # noqa: F401 - puts the checkout before any installed minigen
import numpy as np

import minigen as mg
from minigen import data, nn
from minigen.gan.gan import GAN, GANOptions
from minigen.metrics import labels_covered, points_covered


class Mixture:
    """Gaussians in the plane, equally likely, of one standard deviation (PacGAN, section 4.1)."""

    def __init__(self, centres, std):
        self.centres, self.std = np.asarray(centres, np.float32), std

    def draw(self, n, rng):
        """Points (n, 2), float32, from a NumPy generator."""
        which = rng.integers(len(self.centres), size=n)
        noise = rng.standard_normal((n, 2), np.float32)
        return self.centres[which] + np.float32(self.std) * noise


ANGLES = np.arange(8) * np.pi / 4
MIXTURES = {
    "ring": Mixture(np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1), 0.01),
    "grid": Mixture([(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)], 0.05),
}


class OwnNetworks(GAN):
    """GAN whose networks do not know the options `unknown`; ValueError where one is set."""

    unknown: tuple[str, ...] = ()

    def __init__(self, options, image_shape, *, rng):
        for name in self.unknown:
            value, default = getattr(options, name), getattr(self.Options(), name)
            if value != default:
                raise ValueError(
                    f"{type(self).__name__}: {name}={value}, expected {default!r}: its networks"
                    " know no other"
                )
        super().__init__(options, image_shape, rng=rng)


@dataclass(frozen=True)
class PointOptions(GANOptions):
    """A third of PacGAN's widths, with leaky relu for its maxout of 5; its noise of 2 numbers, 100
    decisions a batch and Adam with beta1 0.8, at ten times its learning rate.
    """

    latent: int = nn.default(GANOptions, "latent", 2)
    lr: float = nn.default(GANOptions, "lr", 1e-3)
    beta1: float = nn.default(GANOptions, "beta1", 0.8)
    ema: float = nn.default(GANOptions, "ema", 0.0)
    generator_width: int = nn.option(128, "of 3 hidden layers, with batch norm, relu", least=1)
    discriminator_width: int = nn.option(256, "of 3 hidden layers, leaky relu 0.2", least=1)


class PointGAN(OwnNetworks):
    """GAN on points (N, 2), in the units of the data."""

    Options = PointOptions
    unknown = ("network", "channels", "normalization", "conditional", "diff_augment")

    def make_generator(self, rng):
        """z (N, latent) -> points (N, 2)."""
        width, layers = self.options.generator_width, []
        for size in (self.options.latent, width, width):
            layers += [dense(size, width, rng), nn.BatchNorm1d(width), nn.ReLU()]
        return nn.Sequential(*layers, dense(width, 2, rng))

    def make_discriminator(self, rng):
        """Packs of points (N, 2 packing) -> decisions (N, 1)."""
        width, seen = self.options.discriminator_width, self.options.minibatch_stddev
        layers = [dense(2 * self.options.packing, width, rng), nn.LeakyReLU(0.2)]
        layers += [dense(width, width, rng), nn.LeakyReLU(0.2)]
        layers += [nn.MinibatchStddev()] if seen else []
        layers += [dense(width + seen, width, rng), nn.LeakyReLU(0.2), dense(width, 1, rng)]
        network = nn.Sequential(*layers)
        return nn.spectral_norm(network) if self.options.spectral_norm else network

    @mg.no_grad()
    def points(self, n, rng):
        """n generated points (n, 2)."""
        with self.evaluating(self.ema):
            return self.generator(self.noise(n, rng)).numpy()


@dataclass(frozen=True)
class StackedOptions(GANOptions):
    """PacGAN's and Unrolled GAN's small networks for stacked MNIST, with the discriminator half the
    generator's size, at ten times their learning rates.
    """

    batch_size: int = nn.default(GANOptions, "batch_size", 128)
    latent: int = nn.default(GANOptions, "latent", 256)
    channels: int = nn.default(GANOptions, "channels", 4)
    normalization: str = nn.default(GANOptions, "normalization", "batch")
    lr: float = nn.default(GANOptions, "lr", 1e-3)
    discriminator_lr: float | None = nn.default(GANOptions, "discriminator_lr", 2e-3)
    beta2: float = nn.default(GANOptions, "beta2", 0.99)
    ema: float = nn.default(GANOptions, "ema", 0.0)


class StackedGAN(OwnNetworks):
    """GAN on images (N, 3, 28, 28): convolutions 3x3, few channels."""

    Options = StackedOptions
    unknown = ("network", "spectral_norm", "minibatch_stddev", "conditional")

    def make_generator(self, rng):
        """z -> 64 maps of 4x4 -> 32 of 7x7 -> 16 of 14x14 -> 8 of 28x28 -> 3, tanh."""
        layers = [nn.Linear(self.options.latent, 64 * 16, bias=False, rng=rng)]
        layers += [nn.Reshape(64, 4, 4), nn.BatchNorm2d(64), nn.ReLU()]
        for width, extra in ((32, 0), (16, 1), (8, 1)):
            layers.append(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, extra, bias=False, rng=rng))
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(8, 3, 3, 1, 1, rng=rng), nn.Tanh()]
        return nn.Sequential(*layers)

    def make_discriminator(self, rng):
        """Packs -> 1, 2 and 4 times `channels` maps of 14x14, 7x7, 4x4, leaky relu 0.3 -> 1."""
        normalization = self.options.normalization
        if normalization not in NORMS:
            raise ValueError(
                f"StackedGAN: normalization={normalization}, expected {' or '.join(NORMS)}"
            )
        size, layers = 3 * self.options.packing, []
        for width in (self.options.channels * n for n in (1, 2, 4)):
            layers += [nn.Conv2d(size, width, 3, 2, 1, bias=False, rng=rng)]
            layers += [NORMS[normalization](width), nn.LeakyReLU(0.3)]
            size = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * size, 1, rng=rng))


def dense(size, width, rng):
    """A layer whose units bend at places spread over the data, so that narrow modes are seen soon:
    weights N(0, 2 / size) (He et al. 2015, eq. 10), biases N(0, 1/4).
    """
    layer = nn.Linear(size, width, rng=rng)
    nn.init.normal_(layer.weight, 0.0, (2 / size) ** 0.5, rng=rng)
    nn.init.normal_(layer.bias, 0.0, 0.5, rng=rng)
    return layer


def layer_norm(width):
    """Over all of an image, with a gain a channel."""
    return nn.GroupNorm(1, width)


NORMS = {"batch": nn.BatchNorm2d, "layer": layer_norm}  # of StackedGAN's discriminator


def train_points(task, options, *, steps, seed, samples):
    """(ModeReport, points (samples, 2)) of a PointGAN trained on a mixture."""
    mixture = MIXTURES[task]
    begin, noise, judge = (mg.Generator(seed).spawn(name) for name in ("begin", "noise", "judge"))
    model = PointGAN(PointOptions(**options), (2,), rng=begin)
    step, order = mg.capture(model.step), np.random.default_rng(seed)
    for _ in range(steps):
        step(mixture.draw(model.images_per_step, order), None, noise)
    points = model.points(samples, judge)
    return points_covered(points, mixture.centres, mixture.std), points


def train_stacked(folder, options, *, steps, seed, samples):
    """(ModeReport, images (samples, 3, 28, 28) in [0, 1]) of a StackedGAN."""
    from minigen.metrics.features import stacked_modes

    digits = data.load(f"stacked-mnist:{folder}")
    begin, noise, judge = (mg.Generator(seed).spawn(name) for name in ("begin", "noise", "judge"))
    model = StackedGAN(StackedOptions(**options), (3, 28, 28), rng=begin)
    step, order = mg.capture(model.step), np.random.default_rng(seed)
    for _ in range(steps):
        images, _ = digits.batch(order.integers(len(digits), size=model.images_per_step))
        step(2 * images - 1, None, noise)
    images = model.sample(samples, judge)
    return labels_covered(stacked_modes(images), 1000), images
