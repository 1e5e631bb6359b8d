"""Degradations: what is done to clean images so that a model can learn to undo it.

A spec names the parts in the order in which they act: 'darken:1-3,noise:5-25'. Clean images are
(N, C, H, W) in [0, 1]; degraded ones have the same shape and are not clipped. Every image gets
numbers of its own, uniform in the part's range, from the generator given. All of it is done by
minigen's ops, so it runs on a GPU, in captured steps too, and gradients go through it.
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import minigen as mg
from minigen.random import Generator
from minigen.tensor import Tensor

GAMMA = 2.2  # linear light is about a pixel's value to this power


@dataclass(frozen=True)
class Part:
    """One kind of damage, as strong as a number that is drawn for each image in [low, high]."""

    low: float
    high: float

    name: ClassVar[str]
    example: ClassVar[str]

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        """The images x, each damaged as its number in `strength`, (N, 1, 1, 1), says."""
        raise TypeError(f"{type(self).__name__} does not define apply")

    @property
    def range(self) -> str:
        """'25', or '0-50'."""
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}-{self.high:g}"


class Noise(Part):
    """x + sigma / 255 * n, n normal in every value."""

    name, example = "noise", "noise:0-50"

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        return x + strength * (1 / 255) * rng.normal(x.shape, dtype=x.dtype)


class Darken(Part):
    """Each of s photographic stops halves the linear light: (x^g / 2^s)^(1/g) = x 2^(-s/g)."""

    name, example = "darken", "darken:1-3"

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        return x * mg.exp(strength * (-math.log(2) / GAMMA))


class Contrast(Part):
    """m + f (x - m), where m is the mean of the image over all its values."""

    name, example = "contrast", "contrast:0.4-1"

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        mean = x.mean((1, 2, 3), keepdims=True)
        return mean + strength * (x - mean)


class Blur(Part):
    """Rows, then columns, times weights exp(-d^2 / 2 sigma^2) that sum to 1 within the image."""

    name, example = "blur", "blur:0-1.5"

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        sigma = mg.maximum(strength, 0.01)  # as good as none: exp(-5000) between neighbours
        rows, columns = (_gaussian(n, sigma, x) for n in x.shape[2:])
        return rows @ x @ mg.swapaxes(columns, 2, 3)


class Downscale(Part):
    """Shrunk by a whole factor, antialiased, and enlarged again, both bicubic as in Pillow.

    Noise of the small photo is written before it: what comes after is of full-size pixels.
    """

    name, example = "downscale", "downscale:2"

    @property
    def factor(self) -> int:
        """How many times smaller."""
        return int(self.low)

    def apply(self, x: Tensor, strength: Tensor, rng: Generator) -> Tensor:
        return enlarge(shrink(x, self.factor), self.factor)


PARTS: dict[str, type[Part]] = {
    each.name: each for each in (Noise, Darken, Contrast, Blur, Downscale)
}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"


@dataclass(frozen=True)
class Degradation:
    """Parts that act one after the other; call it with clean images and a generator."""

    parts: tuple[Part, ...]

    def __call__(self, clean: Tensor, rng: Generator) -> Tensor:
        """Degraded images (N, C, H, W), not clipped, of clean ones in [0, 1]."""
        for part in self.parts:
            shape = (len(clean), 1, 1, 1)
            strength = rng.uniform(shape, part.low, part.high, dtype=clean.dtype)
            clean = part.apply(clean, strength, rng)
        return clean

    def image(self, pixels: np.ndarray, rng: Generator) -> np.ndarray:
        """One degraded image (C, H, W), float32, of a clean one: the same bits for the same rng."""
        with mg.no_grad():
            clean = mg.tensor(np.asarray(pixels, np.float32)[None], device=rng.device)
            return self(clean, rng).numpy()[0]

    @property
    def scale(self) -> int:
        """How many times smaller the images are made on the way, 1 for not at all."""
        return next((part.factor for part in self.parts if isinstance(part, Downscale)), 1)

    @property
    def spec(self) -> str:
        """The text that `parse` makes this of."""
        return ",".join(f"{part.name}:{part.range}" for part in self.parts)


def parse(spec: str) -> Degradation:
    """The Degradation of 'noise:0-50', 'darken:1-3,noise:10' and so on.

    Parts are noise (standard deviation in 1/255), darken (stops), contrast (a factor), blur
    (pixels) and downscale (a whole factor, once). Raises ValueError, one line, for anything else.
    """
    parts = tuple(_part(text.strip()) for text in spec.split(",") if text.strip())
    if not parts:
        raise ValueError(f"degradation {spec!r}: names no part; there are {_known()}")
    if sum(isinstance(part, Downscale) for part in parts) > 1:
        raise ValueError(f"degradation {spec!r}: names downscale more than once; give one factor")
    return Degradation(parts)


def shrink(x: Tensor, factor: int) -> Tensor:
    """Images `factor` times smaller, antialiased bicubic as in Pillow; ValueError unless the factor
    divides their sizes.
    """
    height, width = x.shape[2:]
    if height % factor or width % factor:
        raise ValueError(
            f"downscale:{factor}: images are {width}x{height} pixels, expected multiples of"
            f" {factor}"
        )
    size = height // factor, width // factor
    return mg.interpolate(x, size, mode="bicubic", antialias=True)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Images `factor` times larger by bicubic interpolation, as in Pillow."""
    height, width = x.shape[2:]
    # Not shrinking, the antialiased filter is Keys's kernel (a = -0.5), cut off at the borders.
    size = height * factor, width * factor
    return mg.interpolate(x, size, mode="bicubic", antialias=True)


def _gaussian(n: int, sigma: Tensor, x: Tensor) -> Tensor:
    """(N, 1, n, n): the weights that each of n pixels (row) gives to the others."""
    places = mg.arange(n, dtype=x.dtype, device=x.device)
    gaps = (places.reshape((-1, 1)) - places) / sigma
    weights = mg.exp(-0.5 * gaps * gaps)
    return weights / weights.sum(3, keepdims=True)


def _known() -> str:
    return ", ".join(each.example for each in PARTS.values())


def _part(text: str) -> Part:
    name, _, numbers = (each.strip() for each in text.partition(":"))
    if name not in PARTS:
        close = difflib.get_close_matches(name, PARTS, n=1, cutoff=0.5)
        hint = f"did you mean {PARTS[close[0]].example}?" if close else f"there are {_known()}"
        raise ValueError(f"degradation {text!r}: no part {name!r}; {hint}")
    kind = PARTS[name]
    match = re.fullmatch(rf"({_NUMBER})(?:\s*-\s*({_NUMBER}))?", numbers)
    if match is None:
        raise ValueError(
            f"degradation {text!r}: {numbers!r} is no number of at least 0 and no range of two;"
            f" expected for instance {kind.example}"
        )
    low = float(match[1])
    high = low if match[2] is None else float(match[2])
    if low > high:
        raise ValueError(
            f"degradation {text!r}: runs from {low:g} down to {high:g};"
            f" expected {name}:{high:g}-{low:g}"
        )
    if kind is Downscale and not (low == high == int(low) >= 2):
        raise ValueError(
            f"degradation {text!r}: got {numbers}, expected one whole number of at least 2,"
            f" as in {kind.example}"
        )
    return kind(low, high)
