"""The networks of `pggan`, which grow: a generator and a discriminator that use as many of their
resolutions as `Growth` says (Karras et al. 2017, sections 2 and 4 and table 2).

Both work at full size on the outside. While they are small, the generator repeats its pixels and
the discriminator averages them, so that a training step and a penalty on slopes need not know.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor

MOST_CHANNELS = 512
SLOPE = 0.2  # of the leaky relu


class Growth:
    """How far the networks have grown, a function of the steps taken, which are its state.

    Each of `sizes` (pixels, the last is full size) is the newest for `phase_steps` steps, the last
    for the rest of the run. For the first half of these it is faded in. Without `grow` all are
    there from the beginning.
    """

    def __init__(self, sizes: Sequence[int], phase_steps: int, grow: bool = True):
        self.sizes, self.phase_steps, self.grow, self.steps = tuple(sizes), phase_steps, grow, 0

    @property
    def level(self) -> int:
        """The position in `sizes` of the newest one."""
        last = len(self.sizes) - 1
        return min(self.steps // self.phase_steps, last) if self.grow else last

    @property
    def alpha(self) -> float:
        """The share of the newest size in (0, 1], linear in the steps; the rest is the size
        before's.
        """
        if not self.grow or self.level == 0:
            return 1.0
        fading = max(self.phase_steps // 2, 1)
        return min((self.steps - self.level * self.phase_steps + 1) / fading, 1.0)

    @property
    def begins(self) -> bool:
        """Whether the next step is the first with its newest size."""
        return self.grow and self.level * self.phase_steps == self.steps

    def factor(self, level: int) -> int:
        """How many pixels of full size, each way, make one of the level."""
        return self.sizes[-1] // self.sizes[level]

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = int(state["steps"])


class GrowingGenerator(nn.Module):
    """z (N, inputs), put on a sphere -> images (N, colours, size, size) of full size.

    A level is the nearest neighbours upsampled, and two convolutions 3x3, each with leaky relu and
    pixel norm. The image comes from a convolution 1x1 without activation.
    """

    def __init__(
        self, growth: Growth, inputs: int, channels: int, colours: int, *, rng: Generator
    ):  # fmt: skip
        self.growth = growth
        widths, size = widths_of(growth, channels), growth.sizes[0]
        first = widths[0]
        dense = nn.EqualizedLinear(inputs, first * size * size, rng=rng)
        blocks = [
            nn.Sequential(
                nn.PixelNorm(),  # of z: its length says nothing
                dense, nn.LeakyReLU(SLOPE), nn.Reshape(first, size, size), nn.PixelNorm(),
                *_normalized(_conv(first, first, rng)),
            )
        ]  # fmt: skip
        for before, width in pairwise(widths):
            up = upsampling_conv(before, width, rng=rng)
            conv = _conv(width, width, rng)
            blocks.append(nn.Sequential(*_normalized(up), *_normalized(conv)))
        self.blocks = nn.ModuleList(blocks)
        self.to_colours = nn.ModuleList(
            nn.EqualizedConv2d(width, colours, 1, gain=1.0, rng=rng) for width in widths
        )

    def forward(self, z: Tensor) -> Tensor:
        level = self.growth.level
        return enlarged(self.at(z, level, self.growth.alpha), self.growth.factor(level))

    def at(self, z: Tensor, level: int, alpha: float) -> Tensor:
        """Images of the level's size, whose share alpha is the level's, and the rest the one's
        before.
        """
        x = before = self.blocks[0](z)
        for block in self.blocks[1 : level + 1]:
            before, x = x, block(x)
        images = self.to_colours[level](x)
        if alpha == 1:
            return images
        return mg.lerp(enlarged(self.to_colours[level - 1](before), 2), images, alpha)


class GrowingDiscriminator(nn.Module):
    """Images (N, colours, size, size) of full size -> decisions (N, 1).

    The generator mirrored: a convolution 1x1, levels of two convolutions 3x3, the second followed
    by averages of 2x2 pixels, leaky relu; at the smallest size the minibatch standard deviation, if
    wanted, a convolution, and two dense layers.
    """

    def __init__(
        self, growth: Growth, colours: int, channels: int, minibatch_stddev: bool, *, rng: Generator
    ):
        self.growth = growth
        widths, size = widths_of(growth, channels), growth.sizes[0]
        self.from_colours = nn.ModuleList(
            nn.Sequential(nn.EqualizedConv2d(colours, width, 1, rng=rng), nn.LeakyReLU(SLOPE))
            for width in widths
        )
        first = widths[0]
        spread = [nn.MinibatchStddev()] if minibatch_stddev else []
        blocks = [
            nn.Sequential(
                *spread,
                _conv(first + len(spread), first, rng), nn.LeakyReLU(SLOPE),
                nn.Flatten(),
                nn.EqualizedLinear(first * size * size, first, rng=rng), nn.LeakyReLU(SLOPE),
                nn.EqualizedLinear(first, 1, gain=1.0, rng=rng),
            )
        ]  # fmt: skip
        for before, width in pairwise(widths):
            down = averaging_conv(width, before, rng=rng)
            conv = _conv(width, width, rng)
            blocks.append(nn.Sequential(conv, nn.LeakyReLU(SLOPE), down, nn.LeakyReLU(SLOPE)))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        level = self.growth.level
        return self.at(averaged(x, self.growth.factor(level)), level, self.growth.alpha)

    def at(self, x: Tensor, level: int, alpha: float) -> Tensor:
        """Decisions on images of the level's size, on whose features alpha is the level's share."""
        features = self.from_colours[level](x)
        if level:
            features = self.blocks[level](features)
        if alpha != 1:
            features = mg.lerp(self.from_colours[level - 1](averaged(x, 2)), features, alpha)
        for i in range(max(level - 1, 0), -1, -1):
            features = self.blocks[i](features)
        return features


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Each pixel `factor` times in both directions."""
    return x if factor == 1 else mg.interpolate(x, scale_factor=factor)


def averaged(x: Tensor, factor: int) -> Tensor:
    """The means of squares of `factor` pixels; undoes `enlarged`."""
    return x if factor == 1 else mg.avg_pool2d(x, factor)


# resizing within a convolution --------------------------------------------------------------------


class Smeared(nn.Module):
    """Kernels 3x3 -> 4x4: the sum of the four places where they can lie, times `share`.

    At stride 2 such a kernel does in one convolution, and less than half the work, what a 3x3 one
    does beside an upsampling (share 1) or an averaging (1/4) of 2x2 pixels.
    """

    def __init__(self, share: float):
        self.share = share

    def forward(self, weight: Tensor) -> Tensor:
        wide = mg.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
        rows = wide[:, :, 1:] + wide[:, :, :-1]
        return self.share * (rows[..., 1:] + rows[..., :-1])


def upsampling_conv(inputs: int, outputs: int, *, rng: Generator) -> nn.Module:
    """Nearest neighbours at twice the size, then a convolution 3x3 (of kernels turned by 180
    degrees).
    """
    # Half the gain: the terms are counted for a 3x3 kernel at stride 2, but the pixels are there.
    gain = math.sqrt(2) / 2
    layer = nn.EqualizedConvTranspose2d(inputs, outputs, 3, 2, 1, gain=gain, rng=rng)
    layer.reweight = Smeared(1.0)
    return layer


def averaging_conv(inputs: int, outputs: int, *, rng: Generator) -> nn.Module:
    """A convolution 3x3, then the means of 2x2 pixels."""
    layer = nn.EqualizedConv2d(inputs, outputs, 3, 2, 1, rng=rng)
    layer.reweight = Smeared(0.25)
    return layer


def _conv(inputs: int, outputs: int, rng: Generator) -> nn.Module:
    return nn.EqualizedConv2d(inputs, outputs, 3, 1, 1, rng=rng)


def _normalized(conv: nn.Module) -> list[nn.Module]:
    return [conv, nn.LeakyReLU(SLOPE), nn.PixelNorm()]


def widths_of(growth: Growth, channels: int) -> list[int]:
    """The channels of each level: `channels` at full size, twice as many at half the size."""
    last = len(growth.sizes) - 1
    return [min(channels << last - level, MOST_CHANNELS) for level in range(last + 1)]
