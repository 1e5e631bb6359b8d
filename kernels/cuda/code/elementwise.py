"""Elementwise kernels: one pass over memory, and the transposition of matrices.

A thread reads four elements, a whole grid apart, before it writes one, so that enough loads are in
flight.
"""

from __future__ import annotations

import math

from ... import formulas
from .language import FLOATS, cuda, device, divide, kernel

leaky_element = device(formulas.leaky_element)
sigmoid_grad_element = device(formulas.sigmoid_grad_element)
tanh_grad_element = device(formulas.tanh_grad_element)
silu_grad_element = device(formulas.silu_grad_element)
gelu_grad_element = device(formulas.gelu_grad_element)


@device
def sigmoid_element(x):
    """1 / (1 + e^-x), without overflow on either side."""
    decay, one = math.exp(-abs(x)), type(x)(1)
    return (decay if x < 0 else one) / (one + decay)


@device
def normal_below(x):
    """The normal distribution function: P(X <= x)."""
    half = type(x)(0.5)
    return half + half * math.erf(x * type(x)(0.7071067811865476))


# Of one number, with a setting that most ignore.


@device
def _leaky_relu(x, slope):
    return leaky_element(x, x, slope)


@device
def _exp(x, _):
    return math.exp(x)


@device
def _sigmoid(x, _):
    return sigmoid_element(x)


@device
def _softplus(x, _):
    return (x if x > 0 else type(x)(0)) + math.log1p(math.exp(-abs(x)))


@device
def _erf(x, _):
    return math.erf(x)


@device
def _gelu(x, _):
    return x * normal_below(x)


@device
def _silu(x, _):
    return x * sigmoid_element(x)


@device
def _elu(x, alpha):
    return x if x > 0 else alpha * math.expm1(x)


# Of a gradient and what the forward pass kept: x, or y for sigmoid and tanh.


@device
def _leaky_relu_grad(grad, x, slope):
    return leaky_element(x, grad, slope)


@device
def _sigmoid_grad(grad, y, _):
    return sigmoid_grad_element(grad, y)


@device
def _tanh_grad(grad, y, _):
    return tanh_grad_element(grad, y)


@device
def _gelu_grad(grad, x, _):
    bell = math.exp(type(x)(-0.5) * x * x)
    return gelu_grad_element(grad, x, normal_below(x), bell)


@device
def _silu_grad(grad, x, _):
    return silu_grad_element(grad, x, sigmoid_element(x))


@device
def _elu_grad(grad, x, alpha):
    return grad * (alpha * math.exp(x)) if x <= 0 else grad


MAPS = {
    "exp": _exp, "sigmoid": _sigmoid, "softplus": _softplus, "erf": _erf, "gelu": _gelu,
    "silu": _silu, "elu": _elu,
}  # fmt: skip
GRADS = {
    "leaky_relu": _leaky_relu_grad, "sigmoid": _sigmoid_grad, "tanh": _tanh_grad,
    "gelu": _gelu_grad, "silu": _silu_grad, "elu": _elu_grad,
}  # fmt: skip


@kernel("y: T*, x: T*, slope: float, n: int", T=FLOATS)
def leaky_relu(T):
    return _map(_leaky_relu, T)


@kernel("y: T*, x: T*, setting: float, n: int", OF=tuple(MAPS), T=FLOATS)
def each(OF, T):
    return _map(MAPS[OF], T)


def _map(element, T):
    """A kernel that computes `element` everywhere."""

    def run(y, x, setting, n):
        s, xs = T(setting), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                xs[k] = x[min(i + k * step, n - 1)]
            for k in range(4):
                at = i + k * step
                if at < n:
                    y[at] = element(xs[k], s)
            i += 4 * step

    return run


@kernel("dx: T*, grad: T*, kept: T*, setting: float, n: int", OF=tuple(GRADS), T=FLOATS)
def each_grad(OF, T):
    element = GRADS[OF]

    def run(dx, grad, kept, setting, n):
        s = T(setting)
        gs, xs = cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = min(i + k * step, n - 1)
                gs[k], xs[k] = grad[at], kept[at]
            for k in range(4):
                at = i + k * step
                if at < n:
                    dx[at] = element(gs[k], xs[k], s)
            i += 4 * step

    return run


@kernel("out: T*, x: T*, rows: int, columns: int", T=FLOATS)
def transpose(T):
    """out[i, c, r] = x[i, r, c], 32 x 32 at a time: a warp reads a row of x, and writes one of out.

    The tile's rows have 33 places, so that the lanes that read a column use different banks.
    """

    def run(out, x, rows, columns):
        tile = cuda.shared.array((32, 33), T)
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        across, down = divide(columns + 31, 32), divide(rows + 31, 32)
        above = divide(cuda.blockIdx.x, across)
        column = 32 * (cuda.blockIdx.x - above * across)
        matrix = divide(above, down)
        row = 32 * (above - matrix * down)
        base = matrix * rows * columns
        for k in range(4):
            r, c = row + warp + 8 * k, column + lane
            if r < rows and c < columns:
                tile[warp + 8 * k, lane] = x[base + r * columns + c]
        cuda.syncthreads()
        for k in range(4):
            r, c = row + lane, column + warp + 8 * k
            if r < rows and c < columns:
                out[base + c * rows + r] = tile[lane, warp + 8 * k]

    return run
