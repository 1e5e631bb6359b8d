"""`biggan`: a class-conditional residual GAN (Brock, Donahue, Simonyan 2018), small enough for two
cores; square images of 28, 32, 64 or 128 pixels.

Every batch norm of the generator takes its gain and bias from a vector of the class, which all
share, and a part of the noise; the discriminator compares its features with a vector of the class
(projection). Spectral normalisation in both networks, self-attention at one resolution, hinge loss,
two updates of the discriminator in a step, truncated noise for sampling.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import minigen as mg
from minigen import nn
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.networks import square_size
from minigen.nn.module import keeping
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class BigGANOptions(GANOptions):
    """What can be set in a `biggan`; widths, batch and rates are for small images."""

    batch_size: int = nn.default(GANOptions, "batch_size", 64)
    latent: int = nn.default(GANOptions, "latent", 120)
    network: str = nn.option("residual", "both players' networks", ("residual",))
    channels: int = nn.option(
        16, "width at the highest resolution, doubled at each lower one", least=1
    )
    loss: str = nn.default(GANOptions, "loss", "hinge")
    normalization: str = nn.option("none", "of the discriminator's hidden layers", ("none",))
    spectral_norm: bool = nn.option(True, "divide both networks' weights by their norms")
    conditional: str = nn.option(
        "projection", "how the discriminator is told the class", ("none", "projection")
    )
    embedding: int = nn.option(32, "size of the class's vector in the generator", least=1)
    hierarchical: bool = nn.option(True, "give each block of the generator a part of the noise")
    attention: int | None = nn.option(
        None, "resolution with self-attention; 0: nowhere; none: half the image's", least=0
    )
    standing: int = nn.option(
        16, "batches that batch norm's statistics for samples are of; 0: training's", least=0
    )
    critic_steps: int = nn.default(GANOptions, "critic_steps", 2)
    orthogonal: float = nn.default(GANOptions, "orthogonal", 1e-4)
    lr: float = nn.default(GANOptions, "lr", 5e-4)
    beta1: float = nn.default(GANOptions, "beta1", 0.0)


class BigGAN(GAN):
    """GAN with residual networks, whose generator knows the class; `image_shape` is (C, size,
    size).
    """

    Options: ClassVar[type] = BigGANOptions
    _standing_noise: Callable[[], Tensor] | None = None  # while samples are made

    def make_generator(self, rng: Generator) -> nn.Module:
        """z (N, latent), and labels (N,) if conditional, -> images (N, C, H, W) in [-1, 1]."""
        network = ResidualGenerator(self.options, self.image_shape, rng=rng)
        _orthogonal(network, rng)
        if self.options.spectral_norm:  # but of the shared vectors, which are no layer's weights
            nn.spectral_norm(network, kinds=(nn.Conv2d, nn.Linear))
        return network

    def make_discriminator(self, rng: Generator) -> nn.Module:
        """Packs of images (N, packing C, H, W), and labels if conditional, -> decisions (N, 1)."""
        network = ResidualDiscriminator(self.options, self.image_shape, rng=rng)
        _orthogonal(network, rng)
        return nn.spectral_norm(network) if self.options.spectral_norm else network

    def sample(
        self, n: int, rng: Generator, *, labels: Any = None, truncation: float | None = None
    ) -> np.ndarray:
        """As any GAN's, but the generator's batch norms use standing statistics: those of
        `standing` batches of noise as truncated as that of the images (appendix C.1).

        Running ones are of the weights in training, neither of their average nor of truncated
        noise.
        """
        with self._standing(rng, truncation):
            return super().sample(n, rng, labels=labels, truncation=truncation)

    def interpolate(self, n: int, rng: Generator, *, label: int = 0) -> np.ndarray:
        """n images on the great circle between two noise vectors, of one class."""
        with self._standing(rng, None):
            return super().interpolate(n, rng, label=label)

    @contextmanager
    def _standing(self, rng: Generator, truncation: float | None) -> Iterator[None]:
        """Inside, images are decoded with standing statistics; noise for them comes from rng."""
        size = max(self.options.batch_size, 2)
        if self.options.standing:
            if truncation is None:
                self._standing_noise = lambda: self.noise(size, rng)
            else:
                self._standing_noise = lambda: self._truncated(size, truncation, rng)
        try:
            yield
        finally:
            self._standing_noise = None

    @contextmanager
    def evaluating(self, ema: Any = None) -> Iterator[None]:
        """Inside: evaluation mode, an EMA's averaged weights, standing statistics for samples."""
        with super().evaluating(ema):
            draw = self._standing_noise
            norms = [m for m in self.generator.modules() if isinstance(m, nn.BatchNorm2d)]
            if draw is None:
                yield
                return
            with keeping([buffer for norm in norms for buffer in norm.buffers()]):
                self._measure(norms, draw)
                yield

    def _measure(self, norms: list[nn.BatchNorm2d], draw: Callable[[], Tensor]) -> None:
        """Give batch norms the means of the statistics of `standing` batches."""
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.training, norm.momentum = True, None  # the mean of all since the count was 0
            if norm.num_batches_tracked is not None:
                nn.init.zeros_(norm.num_batches_tracked)
        try:
            for _ in range(self.options.standing):
                z = draw()
                self.generate(z, self.chosen_labels(len(z), None))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.training, norm.momentum = False, momentum


# the generator -----------------------------------------------------------------------------------


class ResidualGenerator(nn.Module):
    """z in parts -> dense of the first part -> (N, C, 4, 4), 7x7 for 28 -> twice the size a block
    -> batch norm, relu, convolution, tanh. Brock et al. 2018, figure 15.
    """

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Generator):
        colours, size, ups = square_size("biggan", image_shape)
        attended = _attended(options, size, ups)
        self.parts = ups + 1 if options.hierarchical else 1
        if options.latent % self.parts:
            raise ValueError(
                f"biggan: latent is {options.latent}, which must divide into {self.parts} parts:"
                f" one for the start and one a block at {size}x{size}; set hierarchical=false or"
                f" latent={-(-options.latent // self.parts) * self.parts}"
            )
        part, condition = options.latent // self.parts, 0
        self.embedding = None
        if options.conditional != "none":
            self.embedding = nn.Embedding(options.classes, options.embedding, rng=rng)
            condition += options.embedding
        if options.hierarchical:
            condition += part
        self.side, width = size >> ups, options.channels << ups
        self.first = nn.Linear(part, width * self.side**2, rng=rng)
        self.blocks: list[nn.Module] = []
        for i in range(1, ups + 1):
            block: nn.Module = UpBlock(width, width // 2, condition, rng=rng)
            width //= 2
            here = self.side << i == attended
            self.blocks.append(Attending(block, width, rng=rng) if here else block)
        self.norm = nn.BatchNorm2d(width, negative_slope=0.0)
        self.last = nn.Conv2d(width, colours, 3, 1, 1, rng=rng)

    def forward(self, z: Tensor, labels: Any = None) -> Tensor:
        """Labels (N,) are for conditional generators."""
        start, *parts = mg.split(z, self.parts, axis=1)
        known = [] if self.embedding is None else [self.embedding(labels)]
        x = self.first(start).reshape((len(z), self.side, self.side, -1)).transpose((0, 3, 1, 2))
        for i, block in enumerate(self.blocks):
            told = [*known, *parts[i : i + 1]]
            x = block(x, mg.concatenate(told, axis=1) if told else None)
        return mg.tanh(self.last(self.norm(x)))


class UpBlock(nn.Module):
    """(N, inputs, H, W) and conditions (N, condition) -> (N, outputs, 2H, 2W): batch norm, relu,
    twice the size, 3x3, batch norm, relu, 3x3; beside it 1x1 and twice the size.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, *, rng: Generator):
        # no biases, which the batch norms after them would take out again
        self.norm1 = _norm(inputs, condition, rng)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False, rng=rng)
        self.norm2 = _norm(outputs, condition, rng)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False, rng=rng)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False, rng=rng)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        told = () if condition is None else (condition,)
        h = self.conv1(_twice(self.norm1(x, *told)))
        return self.conv2(self.norm2(h, *told)) + _twice(self.skip(x))  # 1x1 first: it is cheaper


def _norm(channels, condition, rng):
    """Batch norm and relu, told the condition where there is one."""
    if not condition:
        return nn.BatchNorm2d(channels, negative_slope=0.0)
    return nn.ConditionalBatchNorm2d(channels, features=condition, negative_slope=0.0, rng=rng)


def _twice(x):
    return mg.interpolate(x, scale_factor=2)


# the discriminator -------------------------------------------------------------------------------


class ResidualDiscriminator(nn.Module):
    """Half the size a block, twice the width, and a last block at 4x4 (7x7 for 28) -> relu, sum
    over the image -> dense 1 + <features, vector of the class> (Miyato & Koyama 2018, eq. 3).
    """

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Generator):
        colours, size, ups = square_size("biggan", image_shape)
        attended = _attended(options, size, ups)
        inputs, width = colours * options.packing, options.channels
        self.blocks: list[nn.Module] = []
        for i in range(1, ups + 1):
            block: nn.Module = DownBlock(inputs, width, first=i == 1, rng=rng)
            here = size >> i == attended
            self.blocks.append(Attending(block, width, rng=rng) if here else block)
            inputs, width = width, 2 * width
        if options.minibatch_stddev:
            self.blocks.append(nn.MinibatchStddev())
            inputs += 1
        self.blocks.append(DownBlock(inputs, width, down=False, rng=rng))
        self.head = nn.Linear(width, 1, rng=rng)
        self.embedding = None
        if options.conditional != "none":
            self.embedding = nn.Embedding(options.classes, width, rng=rng)

    def forward(self, x: Tensor, labels: Any = None) -> Tensor:
        """Labels (N,) are for conditional discriminators."""
        for block in self.blocks:
            x = block(x)
        features = mg.relu(x).sum((2, 3))
        out = self.head(features)
        if self.embedding is None:
            return out
        return out + (self.embedding(labels) * features).sum(1, keepdims=True)


class DownBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H/2, W/2): relu (not of an image: `first`), 3x3, relu, 3x3,
    means of 2x2; beside it means of 2x2 and 1x1. Without `down` the size stays.
    """

    def __init__(
        self, inputs: int, outputs: int, *, first: bool = False, down: bool = True, rng: Generator
    ):
        self.first, self.down = first, down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, negative_slope=0.0, rng=rng)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, rng=rng)
        self.skip = nn.Conv2d(inputs, outputs, 1, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(self.conv1(x if self.first else mg.relu(x)))
        if self.down:
            x, h = mg.avg_pool2d(x, 2), mg.avg_pool2d(h, 2)
        return h + self.skip(x)


# what both share ---------------------------------------------------------------------------------


class Attending(nn.Module):
    """A block, then self-attention on what it makes."""

    def __init__(self, block: nn.Module, channels: int, *, rng: Generator):
        self.block, self.attention = block, nn.SelfAttention2d(channels, rng=rng)

    def forward(self, x: Tensor, *condition: Any) -> Tensor:
        return self.attention(self.block(x, *condition))


def _attended(options, size, ups):
    """The resolution with self-attention, or 0; ValueError for one that not both networks have."""
    asked = size // 2 if options.attention is None else options.attention
    there = [size >> i for i in range(1, ups)]
    if asked not in (0, *there):
        listed = ", ".join(map(str, there))
        raise ValueError(f"biggan: attention is {asked}, expected {listed} at {size}x{size}, or 0")
    return asked


def _orthogonal(network, rng):
    """Begin with orthogonal weights and biases of 0 (section 3).

    Vectors of classes stay normal like the noise, beside which rows of length 1 are not heard.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(layer.weight, rng=rng)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
