"""Photographs of any size restored by a conditional VAE: draws from the posterior, their mean, and
how sure the model is of every value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigen as mg
from minigen.data.degradations import enlarge
from minigen.data.tiles import in_tiles, padded_size
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class Restoration:
    """A restored photo, all float32: `mean` (C, H, W) in [0, 1], `deviation` (C, H, W) of every
    value, and the `samples` (K, C, H, W) in [0, 1] if they were to be kept.
    """

    mean: np.ndarray
    deviation: np.ndarray
    samples: np.ndarray | None = None


@mg.no_grad()
def restore_photo(
    model: Any,
    pixels: np.ndarray,
    *,
    rng: Generator,
    samples: int = 8,
    style: np.ndarray | None = None,
    tile: int = 512,
    keep_samples: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Restoration:
    """What `model`, an EnhanceVAE, makes of a photo (C, H, W) in [0, 1], scaled by `model.scale`.

    The mean is that of `samples` images, the means of p(x | y, z, s) for as many draws of z and s;
    the deviation is sqrt(their variance + the mean of the variances of p(x | y, z, s)). `style`, a
    picture (C, h, w) in [0, 1] of any size, is the one whose tone is wanted; without it s is drawn
    from p(s | y).

    Tiles of `tile` pixels with `model.margin` around them are worked on at a time, with the noise
    of the whole photo: the result does not depend on `tile`. Grey photos pass a model of colours as
    three equal ones, whose results are averaged. `progress` is told (tiles done, tiles). Raises
    ValueError for colours where the model knows grey alone.
    """
    if samples < 1:
        raise ValueError(f"restore_photo: samples is {samples}, expected at least 1")
    colours, stride = model.image_shape[0], model.stride
    y = mg.asarray(with_colours(pixels, colours)[None], device=model.device)
    if model.scale > 1:
        y = enlarge(y, model.scale)

    def restored(part: np.ndarray, position: tuple[int, int]) -> np.ndarray:
        """Mean, deviation and, to be kept, samples of one tile, as channels."""
        here = mg.asarray(part[None], device=model.device)
        rows, columns = (
            slice(start // stride, (start + length) // stride)
            for start, length in zip(position, part.shape[1:], strict=True)
        )
        found = [
            model.restore(here, s, noise[:, :, rows, columns])
            for s, noise in zip(styles, noises, strict=True)
        ]
        images, variances = (
            np.concatenate([each.numpy() for each in those]) for those in zip(*found, strict=True)
        )
        if len(pixels) < colours:
            images, variances = (each.mean(1, keepdims=True) for each in (images, variances))
        deviation = np.sqrt(images.var(0) + variances.mean(0))
        return np.concatenate([images.mean(0), deviation, *(images if keep_samples else ())])

    with model.evaluating(model.ema):
        if style is None:
            mean, log_var = model.style_prior(y)
        else:
            wanted = mg.asarray(with_colours(style, colours)[None], device=model.device)
            mean, log_var = model.style_of(wanted, y)
        z_shape = model.latent_shape(*padded_size(y.shape[2:], stride))
        styles = [
            mean + mg.exp(0.5 * log_var) * noise for noise in _noise(samples, mean.shape, rng)
        ]
        noises = _noise(samples, z_shape, rng)
        result = in_tiles(
            restored, y.numpy()[0], tile=tile, margin=model.margin, multiple=stride,
            progress=progress,
        )  # fmt: skip
    parts = result.reshape((-1, len(pixels), *result.shape[1:]))
    kept = np.clip(parts[2:], 0, 1) if keep_samples else None
    return Restoration(np.clip(parts[0], 0, 1), parts[1], kept)


def with_colours(pixels: np.ndarray, colours: int) -> np.ndarray:
    """An image (C, H, W), float32, as a model of so many colours takes it; ValueError for one of
    colours where it is to be grey.
    """
    if pixels.ndim != 3 or pixels.shape[0] not in (1, colours):
        raise ValueError(
            f"restore_photo: the image is {pixels.shape}, expected (1"
            f"{f' or {colours}' if colours > 1 else ''}, H, W) for a model of {colours} channels"
        )
    pixels = np.asarray(pixels, np.float32)
    return pixels if len(pixels) == colours else pixels.repeat(colours, 0)


def _noise(n: int, shape: tuple[int, ...], rng: Generator) -> list[Tensor]:
    """n times N(0, 1) of a shape, in pairs of opposite sign: each is a draw like any other, and the
    mean of a pair has lost most of its noise (antithetic variates; Hammersley & Morton 1956).
    """
    halves = [rng.normal(shape) for _ in range((n + 1) // 2)]
    return [-halves[k // 2] if k % 2 else halves[k // 2] for k in range(n)]
