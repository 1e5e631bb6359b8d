"""Resampling along axes: separable linear maps, and `interpolate` which resizes images with them.

A separable map is a table of taps (`Taps`): which inputs each output mixes, and their weights. Its
adjoint is the transposed table, so `resample` is its own closed family, and no pixel is mixed with
any but its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.autograd import composed, op
from minigen.ops.cases import case, normal
from minigen.tensor import Tensor

__all__ = ["interpolate"]


@dataclass(frozen=True, eq=False)
class Taps:
    """Output i is the sum over k of weights[i, k] * input[indices[i, k]], of `extent` inputs."""

    indices: np.ndarray
    weights: np.ndarray
    extent: int

    @cached_property
    def T(self) -> "Taps":
        """The adjoint: which outputs each input went to."""
        rows: list[list[tuple[int, float]]] = [[] for _ in range(self.extent)]
        for i, (js, ws) in enumerate(zip(self.indices, self.weights, strict=True)):
            for j, w in zip(js, ws, strict=True):
                if w:
                    rows[j].append((i, w))
        adjoint = tabulate(rows, len(self.indices))
        adjoint.__dict__["T"] = self
        return adjoint

    def on(self, array: Any) -> tuple[Any, Any]:
        """The indices and weights where `array` lies; what went to a GPU is kept there."""
        device = backend.device_of(array)
        if device == backend.CPU:
            return self.indices, self.weights
        kept = self.__dict__.setdefault("kept", {})
        if device not in kept:
            tables = self.indices, self.weights
            kept[device] = tuple(backend.to_device(table, device) for table in tables)
        return kept[device]

    @cached_property
    def plain(self) -> bool:
        """Whether every weight is 1, so that nothing need be multiplied."""
        return bool((self.weights == 1).all())


def tabulate(rows: list[list[tuple[int, float]]], extent: int) -> Taps:
    """The table of each output's (input, weight) pairs."""
    width = max([1, *map(len, rows)])
    filled = [row or [(0, 0.0)] for row in rows]
    for row in filled:
        while len(row) < width:  # padded with halves: a weight of 0 would make NaN of inf
            j, w = row.pop()
            row += [(j, w / 2), (j, w / 2)]
    table = np.array(filled, np.float64).reshape(len(rows), width, 2)
    return Taps(table[..., 0].astype(np.int64), np.ascontiguousarray(table[..., 1]), extent)


@lru_cache(maxsize=256)
def averaging(extent: int, count: int) -> Taps:
    """The means of `count` windows that tile `extent` inputs (adaptive average pooling)."""
    edges = [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]
    return tabulate([[(j, 1 / (b - a)) for j in range(a, b)] for a, b in edges], extent)


@op(
    linear=("x",),
    cases=[
        case(normal(2, 2, 5, 3), averaging(5, 3), 2),
        case(normal(2, 2, 3, 4), averaging(4, 6), -1),
        case(normal(2, 4), averaging(4, 3), 1),
    ],
)
def resample(x, taps, axis):
    """Apply a table of taps along one axis."""
    axis %= x.ndim
    images = x.ndim == 4 and axis > 1
    if images:  # channels last: whole pixels are copied at a time, and the layout is kept
        x, axis = x.transpose(0, 2, 3, 1), axis - 1
    indices, weights = taps.on(x)
    weights = weights.astype(x.dtype).reshape(-1, indices.shape[1], *(1,) * (x.ndim - axis - 1))
    y = None
    with np.errstate(invalid="ignore"):  # 0 times inf is NaN, as in torch
        for k in range(indices.shape[1]):
            term = np.take(x, indices[:, k], axis=axis)
            if not taps.plain:
                term *= weights[:, k]
            y = term if y is None else np.add(y, term, out=y)
    return y.transpose(0, 3, 1, 2) if images else y


resample.vjp(x=lambda g, taps, axis: resample(g, taps.T, axis))


@lru_cache(maxsize=256)
def unchanged(extent: int) -> Taps:
    """The taps that leave an axis as it is."""
    return tabulate([[(i, 1.0)] for i in range(extent)], extent)


@op(
    linear=("x",),
    cases=[
        case(normal(2, 2, 5, 3), averaging(5, 3), unchanged(3)),
        case(normal(1, 2, 3, 4), averaging(3, 4), averaging(4, 6)),
    ],
)
def resample2d(x, rows, columns):
    """Apply a table of taps along each of the last two axes of (N, C, H, W)."""
    return kernels.resample2d(x, *rows.on(x), *columns.on(x))


resample2d.vjp(x=lambda g, rows, columns: resample2d(g, rows.T, columns.T))

MODES = {
    "nearest": None,
    "nearest-exact": None,
    "linear": 3,
    "bilinear": 4,
    "trilinear": 5,
    "bicubic": 4,
    "area": None,
}


@composed(
    cases=[
        case(normal(1, 2, 3, 2), scale_factor=2),
        case(normal(1, 2, 3, 4), 5, mode="nearest-exact"),
        case(normal(1, 2, 3, 4), (5, 2), mode="bilinear"),
        case(normal(1, 1, 3, 4), (5, 6), mode="bilinear", align_corners=True),
        case(normal(1, 1, 4, 4), (6, 3), mode="bicubic"),
        case(normal(1, 1, 6, 5), (3, 2), mode="bicubic", antialias=True),
        case(normal(1, 2, 5, 4), (2, 4), mode="area"),
        case(normal(2, 2, 4), scale_factor=1.5, mode="linear"),
    ]
)
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize the 1 to 3 spatial axes of (N, C, ...) to `size` or by `scale_factor`.

    `mode`: "nearest", "nearest-exact", "area", or "linear", "bilinear", "trilinear", "bicubic", of
    3, 4, 5 and 4 axes; `antialias` widens bilinear and bicubic filters when shrinking. Raises
    ValueError for what does not fit.
    """
    sizes, scales = _target_size(input, size, scale_factor, recompute_scale_factor)
    _check_mode(input, mode, align_corners, antialias)
    extents = input.shape[2:]
    tables = [
        averaging(extent, count)
        if mode == "area"
        else resizing(extent, count, scale, mode, bool(align_corners), antialias)
        for extent, count, scale in zip(extents, sizes, scales, strict=True)
    ]
    if len(tables) == 2:
        if tables == [None, None]:
            return input
        filled = [unchanged(n) if t is None else t for n, t in zip(extents, tables, strict=True)]
        return resample2d(input, *filled)
    for i, taps in enumerate(tables):
        if taps is not None:
            input = resample(input, taps, 2 + i)
    return input


@lru_cache(maxsize=256)
def resizing(
    extent: int, count: int, scale: float | None, mode: str, align_corners: bool, antialias: bool
) -> Taps | None:
    """The taps that resize one axis, as torch places them; None where nothing changes.

    `scale` is the user's scale factor if that, and not the ratio of the sizes, is to place the
    pixels.
    """
    step = 1 / scale if scale else extent / count  # inputs an output
    if mode.startswith("nearest"):
        if extent == count and mode == "nearest":
            return None
        offset = np.float32(0.5 if mode == "nearest-exact" else 0)
        # In float32 as torch does: the rounding decides which pixel is nearest.
        at = np.floor((np.arange(count, dtype=np.float32) + offset) * np.float32(step)).astype(int)
        return tabulate([[(int(min(j, extent - 1)), 1.0)] for j in at], extent)
    cubic = mode == "bicubic"
    if extent == count and not cubic and not antialias:
        return None
    if align_corners:
        step = (extent - 1) / (count - 1) if count > 1 else 0.0
    if antialias:
        return _antialiased(
            extent, count, step, _cubic(-0.5) if cubic else _triangle, 2 if cubic else 1
        )
    rows = []
    for i in range(count):
        at = step * i if align_corners else step * (i + 0.5) - 0.5
        if not cubic:
            at = min(max(at, 0.0), extent - 1.0)
        first = math.floor(at)
        kernel, reach = (_cubic(-0.75), range(-1, 3)) if cubic else (_triangle, range(2))
        row = [(min(max(first + d, 0), extent - 1), kernel(at - first - d)) for d in reach]
        rows.append([(j, w) for j, w in row if w] or row[:1])
    return tabulate(rows, extent)


def _antialiased(extent, count, step, kernel, reach):
    """Filters as wide as the outputs are apart, normalised, as in torch and Pillow."""
    wide = max(step, 1.0)
    rows = []
    for i in range(count):
        center = step * (i + 0.5)
        first = max(int(center - reach * wide + 0.5), 0)
        last = min(int(center + reach * wide + 0.5), extent)
        weights = [kernel((j - center + 0.5) / wide) for j in range(first, last)]
        total = math.fsum(weights)
        rows.append([(j, w / total) for j, w in enumerate(weights, first) if w])
    return tabulate(rows, extent)


def _triangle(t):
    return max(0.0, 1 - abs(t))


def _cubic(a):
    """Keys's cubic convolution kernel (1981) with derivative `a` at 1."""

    def kernel(t):
        t = abs(t)
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0

    return kernel


def _target_size(input, size, scale_factor, recompute):
    """The output's sizes, and for each axis the scale that places its pixels, or None."""
    n = input.ndim - 2
    if n not in (1, 2, 3) or 0 in input.shape[2:]:
        raise ValueError(
            f"interpolate: input has shape {input.shape}; expected (N, C) and 1 to 3 axes"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: size is {size}, scale_factor {scale_factor}; give exactly one of them"
        )
    given = scale_factor if size is None else size
    values = list(given) if isinstance(given, (tuple, list)) else [given] * n
    name = "scale_factor" if size is None else "size"
    if len(values) != n:
        raise ValueError(
            f"interpolate: {name} {given} does not fit input {input.shape}; give {n} values"
        )
    if size is not None:
        if recompute:
            raise ValueError(
                "interpolate: recompute_scale_factor is True; give scale_factor, not size"
            )
        sizes, scales = [int(v) for v in values], [None] * n
    else:
        sizes = [math.floor(extent * v) for extent, v in zip(input.shape[2:], values, strict=True)]
        scales = [None] * n if recompute else [float(v) for v in values]
    if min(sizes) < 1:
        raise ValueError(
            f"interpolate: {name} {given} gives size {tuple(sizes)}; expected at least 1"
        )
    return sizes, scales


def _check_mode(input, mode, align_corners, antialias):
    if mode not in MODES:
        raise ValueError(f"interpolate: mode is {mode!r}; expected one of {', '.join(MODES)}")
    if MODES[mode] not in (None, input.ndim):
        raise ValueError(
            f"interpolate: mode {mode!r} needs {MODES[mode]} axes, input has shape {input.shape}"
        )
    if MODES[mode] is None and align_corners is not None:
        raise ValueError(f"interpolate: mode {mode!r} takes no align_corners (got {align_corners})")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: mode {mode!r} has no antialias; use bilinear or bicubic")
