"""Discrete Fourier transforms as in numpy.fft: mg.fft.fft, mg.fft.rfft2; complex64 of float32.

What may never live here: filters built on them. The adjoint of a transform is the opposite one with
the opposite normalisation; that of `rfft` also weighs the frequencies that stand for two (x real:
conjugate pairs).
"""

from typing import Any

import numpy as np

from minigen import backend
from minigen.autograd import composed, op
from minigen.ops.cases import case, complex_normal, normal
from minigen.ops.shape import pad
from minigen.tensor import Tensor

__all__ = [
    "fft",
    "fft2",
    "fftn",
    "fftshift",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "irfft",
    "irfft2",
    "rfft",
    "rfft2",
]

OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
CASES = [
    case(complex_normal(2, 5)),
    case(normal(2, 6)),
    case(complex_normal(3, 4), axis=0, norm="ortho"),
    case(complex_normal(2, 5), n=3, norm="forward"),
    case(complex_normal(2, 3), n=6),
]


@op(linear=("x",), cases=CASES)
def fft(x, n=None, axis=-1, norm=None):
    return np.fft.fft(x, n, axis, norm)


@op(linear=("x",), cases=CASES)
def ifft(x, n=None, axis=-1, norm=None):
    return np.fft.ifft(x, n, axis, norm)


fft.vjp(x=lambda g, x_shape, axis, norm: _fit(ifft(g, None, axis, OPPOSITE[norm]), x_shape, axis))
ifft.vjp(x=lambda g, x_shape, axis, norm: _fit(fft(g, None, axis, OPPOSITE[norm]), x_shape, axis))

REAL_CASES = [
    case(normal(2, 6)),
    case(normal(2, 5), norm="ortho"),
    case(normal(4, 2), axis=0, norm="forward"),
    case(normal(2, 5), n=8),
    case(normal(2, 5), n=3),
]


@op(linear=("x",), cases=REAL_CASES)
def rfft(x, n=None, axis=-1, norm=None):
    return np.fft.rfft(x, n, axis, norm)


@op(
    linear=("x",),
    cases=[
        case(complex_normal(2, 4)),
        case(complex_normal(2, 4), n=7, norm="ortho"),
        case(complex_normal(4, 2), axis=0, norm="forward"),
        case(complex_normal(2, 3), n=8),
        case(complex_normal(2, 5), n=4),
    ],
)
def irfft(x, n=None, axis=-1, norm=None):
    return np.fft.irfft(x, n, axis, norm)


def _rfft_x(g, x_shape, n, axis, norm):
    n = x_shape[axis] if n is None else n
    found = irfft(g * _pairs(g, n, axis, 0.5), n, axis, OPPOSITE[norm])
    return _fit(found, x_shape, axis)


def _irfft_x(g, x_shape, axis, norm):
    found = rfft(g, None, axis, OPPOSITE[norm])
    return _fit(found * _pairs(found, g.shape[axis], axis, 2.0), x_shape, axis)


rfft.vjp(x=_rfft_x)
irfft.vjp(x=_irfft_x)


def _pairs(spectrum, n, axis, weight):
    """`weight` at the frequencies of a half spectrum that stand for two, 1 at 0 and at n/2."""
    xp = backend.like(spectrum.data)
    weights = xp.full(spectrum.shape[axis], weight, spectrum.data.real.dtype)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    along = [-1 if a == axis % spectrum.ndim else 1 for a in range(spectrum.ndim)]
    return Tensor(weights.reshape(along))


def _fit(x, shape, axis):
    """The adjoint of what `n` did to an axis: zeros where it cropped, a crop where it padded."""
    n, m = x.shape[axis], shape[axis]
    if n > m:
        return x[(slice(None),) * (axis % x.ndim) + (slice(m),)]
    return pad(x, {axis: (0, m - n)}) if n < m else x


# ------------------------------------------------------------------------------- several axes

PLANES = [case(complex_normal(2, 3, 4)), case(normal(3, 4), s=(2, 5), axes=(1, 0), norm="ortho")]


@composed(cases=PLANES)
def fftn(x: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Tensor:
    """The transform along several axes, all of them by default."""
    return _over(fft, x, s, axes, norm)


@composed(cases=PLANES)
def ifftn(x: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of fftn."""
    return _over(ifft, x, s, axes, norm)


@composed(cases=PLANES)
def fft2(x: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The transform of images: along the last two axes."""
    return _over(fft, x, s, axes, norm)


@composed(cases=PLANES)
def ifft2(x: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The inverse of fft2."""
    return _over(ifft, x, s, axes, norm)


@composed(cases=[case(normal(2, 3, 4)), case(normal(4, 3), s=(3, 5), norm="ortho")])
def rfft2(x: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The transform of real images; the last axis keeps its n // 2 + 1 frequencies not mirrored."""
    x, s, axes = _planned(x, s, axes)
    return _over(fft, rfft(x, s[-1], axes[-1], norm), s[:-1], axes[:-1], norm)


@composed(cases=[case(complex_normal(2, 3, 3)), case(complex_normal(3, 3), s=(3, 5), norm="ortho")])
def irfft2(x: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The inverse of rfft2; give `s` where the last length was odd."""
    x, lengths, axes = _planned(x, s, axes)
    x = _over(ifft, x, lengths[:-1], axes[:-1], norm)
    return irfft(x, None if s is None else s[-1], axes[-1], norm)


@composed(cases=[case(normal(5)), case(normal(2, 3), axes=1)])
def fftshift(x: Any, axes: Any = None) -> Tensor:
    """Frequency 0 moved to the middle."""
    return _shifted(x, axes, lambda n: n // 2)


@composed(cases=[case(normal(5)), case(normal(2, 3), axes=1)])
def ifftshift(x: Any, axes: Any = None) -> Tensor:
    """The inverse of fftshift."""
    return _shifted(x, axes, lambda n: -(n // 2))


def _shifted(x, axes, by):
    from minigen.ops.shape import roll

    x = x if isinstance(x, Tensor) else Tensor(x)
    axes = (
        tuple(range(x.ndim)) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    )
    return roll(x, tuple(by(x.shape[a]) for a in axes), axes)


def _over(transform, x, s, axes, norm):
    x, s, axes = _planned(x, s, axes)
    for n, axis in zip(reversed(s), reversed(axes), strict=True):
        x = transform(x, n, axis, norm)
    return x


def _planned(x, s, axes):
    """x as a Tensor, a length for each axis, and the axes."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    if s is None:
        s = [x.shape[a] for a in axes]
    if len(s) != len(axes):
        raise ValueError(f"fft: s has {len(s)} lengths, axes {len(axes)}; one each")
    return x, list(s), list(axes)
