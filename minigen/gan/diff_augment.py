"""Differentiable augmentation (Zhao et al. 2020): what the discriminator sees is jittered, real and
generated alike, so that few images last longer. The generator's gradient goes through it.

Images are (N, C, H, W) in [-1, 1]. Each transformation draws numbers of its own for each image.
"""

from collections.abc import Callable

import minigen as mg
from minigen.random import Generator
from minigen.tensor import Tensor


def color(x: Tensor, rng: Generator) -> Tensor:
    """Brightness +- 0.5, then saturation times 0 to 2 and contrast times 0.5 to 1.5.

    Scales are those of the authors' code, for values in [-1, 1].
    """
    brightness, saturation, contrast = (_numbers(x, rng) for _ in range(3))
    x = x + (brightness - 0.5)
    if x.shape[1] > 1:
        grey = x.mean(1, keepdims=True)
        x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdims=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(x: Tensor, rng: Generator) -> Tensor:
    """A shift by whole pixels of up to 1/8 of the size; what comes in is 0."""
    for axis in (2, 3):
        size = x.shape[axis]
        reach = int(size / 8 + 0.5)
        shift = mg.floor(_numbers(x, rng) * (2 * reach + 1)) - reach
        x = _shifted(x, shift, axis)
    return x


def cutout(x: Tensor, rng: Generator) -> Tensor:
    """A square of half the size somewhere, also partly outside, is 0."""
    inside = 1.0
    for axis in (2, 3):
        size = x.shape[axis]
        side = int(size / 2 + 0.5)
        start = mg.floor(_numbers(x, rng) * (size + 1 - side % 2)) - side // 2
        place = _positions(x, axis) - start
        inside = inside * ((place >= 0).astype(x.dtype) * (place < side).astype(x.dtype))
    return x * (1 - inside)


POLICIES: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def parse(policy: str) -> tuple[str, ...]:
    """The names in 'color,translation,cutout'; ValueError for one that there is not."""
    names = tuple(name.strip() for name in policy.split(",") if name.strip())
    for name in names:
        if name not in POLICIES:
            raise ValueError(f"diff_augment: no {name!r}; there are {', '.join(POLICIES)}")
    return names


def diff_augment(x: Tensor, policy: str, *, rng: Generator) -> Tensor:
    """The images after each transformation of the policy in turn, differentiable in x."""
    for name in parse(policy):
        x = POLICIES[name](x, rng)
    return x


def _numbers(x: Tensor, rng: Generator) -> Tensor:
    """One number in [0, 1) for each image, (N, 1, 1, 1)."""
    return rng.uniform((len(x), 1, 1, 1), dtype=x.dtype)


def _positions(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 ... along an axis of x, to be broadcast against it."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return mg.arange(x.shape[axis], dtype=x.dtype, device=x.device).reshape(shape)


def _shifted(x: Tensor, shift: Tensor, axis: int) -> Tensor:
    """Each image moved by its shift along an axis: a product with a 0-1 matrix, so its gradient is
    the shift back.
    """
    places = mg.arange(x.shape[axis], dtype=x.dtype, device=x.device)
    gaps = places.reshape((-1, 1)) - places
    moves = (gaps == shift.reshape((-1, 1, 1, 1))).astype(x.dtype)  # (N, 1, to, from)
    return moves @ x if axis == 2 else x @ mg.swapaxes(moves, 2, 3)
