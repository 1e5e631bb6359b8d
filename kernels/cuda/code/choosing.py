"""Choosing element by element: one pass over memory.

An operand is an array in the result's order (step 1), one element of an array for all (step 0), or
a number (step -1, and no array). A thread reads four elements, a whole grid apart, before it
writes one, so that enough loads are in flight.
"""

from __future__ import annotations

from .language import FLOATS, cuda, device, kernel, uint8


@device
def element(array, step, number, i):
    """Element i of an operand."""
    return array[i * step] if step >= 0 else number


@kernel(
    "out: T*, condition: uint8*, condition_step: int, x: T*, x_step: int, x_number: float,"
    " y: T*, y_step: int, y_number: float, n: int",
    T=FLOATS,
)
def choose(T):
    def run(out, condition, condition_step, x, x_step, x_number, y, y_step, y_number, n):
        x_value, y_value = T(x_number), T(y_number)
        holds = cuda.local.array(4, uint8)
        xs, ys = cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = min(i + k * step, n - 1)
                holds[k] = condition[at * condition_step]
                xs[k], ys[k] = element(x, x_step, x_value, at), element(y, y_step, y_value, at)
            for k in range(4):
                at = i + k * step
                if at < n:
                    out[at] = xs[k] if holds[k] != 0 else ys[k]
            i += 4 * step

    return run


# What becomes of a gradient, by x and y, or by x and two bounds.


@device
def _winner_share(grad, x, y, _):
    tie = grad * type(grad)(0.5) if x == y else type(grad)(0)
    return grad if x > y else tie


@device
def _closed_band(grad, x, low, high):
    return grad if (x >= low) & (x <= high) else type(grad)(0)


@device
def _open_band(grad, x, low, high):
    return type(grad)(0) if (x <= low) | (x >= high) else grad  # grad where x is NaN


@device
def _times_sign(grad, x, _, __):
    other = -grad if x < 0 else grad * x  # 0, or NaN
    return grad if x > 0 else other


GRADS = {
    "winner_share": _winner_share, "closed_band": _closed_band, "open_band": _open_band,
    "times_sign": _times_sign,
}  # fmt: skip


@kernel(
    "out: T*, grad: T*, grad_step: int, x: T*, x_step: int, x_number: float, y: T*, y_step: int,"
    " y_number: float, bound: float, n: int",
    OF=tuple(GRADS), T=FLOATS,
)  # fmt: skip
def gradient(OF, T):
    chosen = GRADS[OF]

    def run(out, grad, grad_step, x, x_step, x_number, y, y_step, y_number, bound, n):
        x_value, y_value, most = T(x_number), T(y_number), T(bound)
        gs = cuda.local.array(4, T)
        xs, ys = cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = min(i + k * step, n - 1)
                gs[k] = grad[at * grad_step]
                xs[k], ys[k] = element(x, x_step, x_value, at), element(y, y_step, y_value, at)
            for k in range(4):
                at = i + k * step
                if at < n:
                    out[at] = chosen(gs[k], xs[k], ys[k], most)
            i += 4 * step

    return run
