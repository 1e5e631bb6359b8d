"""Images rearranged or sampled at coordinates, and latent variables sampled with a gradient."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.autograd import composed, op
from minigen.graph import recorded
from minigen.ops.cases import case, normal, uniform
from minigen.ops.choosing import clip
from minigen.ops.elementwise import exp, expm1
from minigen.ops.index import take_along_axis
from minigen.ops.linalg import matmul
from minigen.ops.shape import broadcast_to, reshape, swapaxes, transpose
from minigen.tensor import Tensor, asarray, raw

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "grid_sample",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reparameterize",
]

# ---------------------------------------------------------------------------------- rearranging


@composed(cases=[case(normal(2, 8, 2, 3), 2), case(normal(9, 1, 2), 3)])
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to pixels: (..., C r r, H, W) -> (..., C, H r, W r). Shi et al. 2016."""
    r = upscale_factor
    *lead, c, h, w = _image_shape("pixel_shuffle", input)
    if r < 1 or c % (r * r):
        raise ValueError(
            f"pixel_shuffle: {c} channels of input {input.shape} do not divide by {r}^2"
        )
    n = len(lead)
    x = reshape(input, (*lead, c // (r * r), r, r, h, w))
    x = transpose(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(x, (*lead, c // (r * r), h * r, w * r))


@composed(cases=[case(normal(2, 2, 4, 6), 2), case(normal(1, 3, 6), 3)])
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of pixel_shuffle: (..., C, H r, W r) -> (..., C r r, H, W)."""
    r = downscale_factor
    *lead, c, h, w = _image_shape("pixel_unshuffle", input)
    if r < 1 or h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: sides {(h, w)} of input {input.shape} do not divide by {r}"
        )
    n = len(lead)
    x = reshape(input, (*lead, c, h // r, r, w // r, r))
    x = transpose(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*lead, c * r * r, h // r, w // r))


@composed(cases=[case(normal(2, 6, 2, 1), 3)])
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Interleave groups of channels of (N, C, ...): the first of each group comes first."""
    n, c, *rest = input.shape
    if groups < 1 or c % groups:
        raise ValueError(
            f"channel_shuffle: groups {groups} must divide the {c} channels of {input.shape}"
        )
    x = swapaxes(reshape(input, (n, groups, c // groups, *rest)), 1, 2)
    return reshape(x, input.shape)


@recorded
def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """int64 (..., num_classes), 1 at each label, else 0; -1 takes as many classes as needed."""
    labels = raw(asarray(tensor))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: labels have dtype {labels.dtype}; expected integers")
    xp, low, high, count = backend.like(labels), 0, -1, num_classes
    if labels.size and (xp is np or count < 0):  # on a GPU, a look at them would wait for it
        low, high = int(labels.min()), int(labels.max())
    count = high + 1 if count < 0 else count
    if low < 0 or high >= count or count < 1:
        raise ValueError(f"one_hot: labels span {low} to {high}; expected 0 to {count - 1}")
    return Tensor((labels[..., None] == xp.arange(count)).astype(np.int64))


def _image_shape(where, input):
    if input.ndim < 3:
        raise ValueError(f"{where}: input has shape {input.shape}; expected (..., C, H, W)")
    return input.shape


# ----------------------------------------------------------------------------------- coordinates


@composed(cases=[case(normal(2, 2, 3), (2, 1, 3, 2)), case(normal(1, 2, 3), (1, 1, 2, 3), True)])
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """The grid (N, H, W, 2) of maps theta (N, 2, 3) for grid_sample to make (N, C, H, W)."""
    if len(size) != 4 or tuple(theta.shape) != (size[0], 2, 3):
        raise ValueError(
            f"affine_grid: theta has shape {theta.shape}, size is {tuple(size)}; expected (N,"
            " 2, 3) and"
            " (N, C, H, W)"
        )
    n, _, height, width = size
    dtype = theta.dtype
    xp = backend.like(raw(theta))
    points = xp.ones((height, width, 3), dtype)
    points[..., 0] = _places(xp, width, align_corners)
    points[..., 1] = _places(xp, height, align_corners)[:, None]
    base = broadcast_to(Tensor(points.reshape(1, height * width, 3)), (n, height * width, 3))
    return reshape(matmul(base, swapaxes(theta, 1, 2)), (n, height, width, 2))


def _places(xp, n, align_corners):
    """Pixel centres in [-1, 1]: the corners' are at the ends if `align_corners`."""
    if align_corners:
        return xp.linspace(-1, 1, n) if n > 1 else xp.zeros(1)
    return (2 * xp.arange(n) + 1) / n - 1


@composed(
    cases=[
        case(normal(2, 2, 3, 4), uniform(-0.6, -0.4, 2, 2, 3, 2)),
        case(normal(1, 2, 4, 5), uniform(0.3, 0.35, 1, 2, 2, 2), align_corners=True),
        case(normal(1, 1, 3, 3), uniform(1.05, 1.2, 1, 2, 3, 2), padding_mode="zeros"),
        case(normal(1, 1, 3, 3), uniform(1.05, 1.2, 1, 2, 3, 2), padding_mode="border"),
        case(normal(1, 1, 3, 4), uniform(1.40, 1.45, 1, 2, 3, 2), padding_mode="reflection"),
        case(normal(1, 2, 3, 4), uniform(-0.6, -0.4, 1, 2, 3, 2), mode="nearest"),
    ]
)
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Sample (N, C, H, W) at (x, y) in [-1, 1] of grid (N, H', W', 2): (N, C, H', W').

    `mode` is "bilinear" or "nearest"; outside the image lie "zeros", its "border", or its
    "reflection". Raises ValueError for other names, or shapes that do not fit.
    """
    if input.ndim != 4 or grid.ndim != 4 or grid.shape[0] != input.shape[0] or grid.shape[3] != 2:
        raise ValueError(
            f"grid_sample: input has shape {input.shape}, grid {grid.shape}; expected (N, C,"
            " H, W) and"
            " (N, H', W', 2)"
        )
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"grid_sample: mode {mode!r}, padding_mode {padding_mode!r}; expected bilinear or"
            " nearest, and zeros, border or reflection"
        )
    n, c, height, width = input.shape
    pixels = reshape(input, (n, c, height * width))
    x = _pixel(grid[..., 0], width, padding_mode, align_corners)
    y = _pixel(grid[..., 1], height, padding_mode, align_corners)
    out_shape = (n, c, *grid.shape[1:3])
    count = out_shape[2] * out_shape[3]

    def at(column, row):
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        flat = np.where(inside, row * width + column, 0).astype(np.int64)
        flat = np.broadcast_to(flat.reshape(n, 1, count), (n, c, count))
        values = reshape(take_along_axis(pixels, Tensor(flat), 2), out_shape)
        if isinstance(inside, np.ndarray) and inside.all():
            return values
        return values * Tensor(inside[:, None].astype(values.dtype))

    if mode == "nearest":
        return at(np.rint(raw(x)), np.rint(raw(y)))
    left, top = np.floor(raw(x)), np.floor(raw(y))
    right_share, bottom_share = x - Tensor(left), y - Tensor(top)
    total: Any = 0
    for row, vertical in ((top, 1 - bottom_share), (top + 1, bottom_share)):
        for column, horizontal in ((left, 1 - right_share), (left + 1, right_share)):
            total = total + at(column, row) * reshape(vertical * horizontal, (n, 1, *out_shape[2:]))
    return total


def _pixel(place, extent, padding_mode, align_corners):
    """Pixel coordinates of places in [-1, 1], brought inside the image as `padding_mode` says."""
    at = (place + 1) * ((extent - 1) / 2) if align_corners else ((place + 1) * extent - 1) / 2
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, span = (0.0, extent - 1.0) if align_corners else (-0.5, float(extent))
        if span == 0:
            return at * 0
        distance = raw(at) - low
        laps = np.floor(np.abs(distance) / span)
        back = laps % 2  # every other lap runs backwards
        turned = np.where(back == 1, -np.sign(distance), np.sign(distance))
        offset = np.where(back == 1, (laps + 1) * span, -laps * span)
        at = (at - low) * Tensor(turned) + Tensor(offset + low)
    return clip(at, 0.0, extent - 1.0)


# --------------------------------------------------------------------------------- latent variables


def reparameterize(mu: Tensor, log_var: Tensor, *, rng: Any) -> tuple[Tensor, Tensor]:
    """z ~ N(mu, exp(log_var)), and KL(N(mu, exp(log_var)) || N(0, 1)) by unit, in nats.

    `rng` is a minigen Generator; all shapes are mu's. Raises ValueError if the shapes differ.
    Kingma & Welling 2013, section 2.4 and appendix B.
    """
    if mu.shape != log_var.shape:
        raise ValueError(
            f"reparameterize: mu has shape {mu.shape}, log_var {log_var.shape}; expected the same"
        )
    return reparameterize_at(mu, log_var, *rng.reserve(math.prod(mu.shape)))[:2]


@op(cases=[case(normal(2, 3), normal(2, 3), 5, 0), case(normal(2, 2, 2), normal(2, 2, 2), 6, 9)])
def reparameterize_at(mu, log_var, key, counter):
    """reparameterize from a key and counter: z, the KL and, for the gradient, the normals."""
    return kernels.reparameterize(mu, log_var, key, counter)


@op(cases=[case(*[normal(2, 3)] * 5)])
def reparameterize_grad(grad_z, grad_kl, mu, log_var, noise):
    """Gradients of reparameterize by mu and log_var."""
    return kernels.reparameterize_grad(grad_z, grad_kl, mu, log_var, noise)


def _reparameterize_grad(grad_z, grad_kl, mu, log_var, noise):
    """reparameterize_grad in plain ops."""
    spread = grad_z * noise * exp(0.5 * log_var) + grad_kl * expm1(log_var)
    return grad_z + grad_kl * mu, 0.5 * spread


reparameterize_at.vjp_together(
    ("mu", "log_var"),
    lambda g, mu, log_var, out: reparameterize_grad(*g[:2], mu, log_var, out[2]),
)
reparameterize_grad.vjp_from(("grad_z", "grad_kl", "mu", "log_var", "noise"), _reparameterize_grad)
