"""Comparing, choosing and rounding, element by element, as in NumPy, each with its VJP under it.

What may never live here: functions that change every element smoothly (elementwise). Comparisons
and predicates have no gradient; rounding has the gradient zero. At a tie, `maximum` and `minimum`
give half to each side.
"""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import Op, composed, op
from minigen.ops.cases import case, complex_normal, distinct, normal, uniform
from minigen.ops.creation import conj, real, zeros_like
from minigen.tensor import Tensor

__all__ = [
    "around",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "ceil",
    "clip",
    "equal",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "nan_to_num",
    "not_equal",
    "rint",
    "round",
    "sign",
    "trunc",
    "where",
]

# ----------------------------------------------------------------------------------- choosing

KINKED = [
    case(distinct(2, 3), uniform(-0.01, 0.01, 3)),
    case(uniform(0, 1, 2, 1, 3), uniform(2, 3, 4, 1)),
]


@op(cases=KINKED)
def maximum(x, y):
    return np.maximum(x, y)


maximum.vjp(x=lambda g, x, y: winner_share(g, x, y), y=lambda g, x, y: winner_share(g, y, x))


@op(cases=KINKED)
def minimum(x, y):
    return np.minimum(x, y)


minimum.vjp(x=lambda g, x, y: winner_share(g, y, x), y=lambda g, x, y: winner_share(g, x, y))


@op(linear=("grad",), cases=[case(normal(2, 3), distinct(2, 3), 0.01)])
def winner_share(grad, x, y):
    """grad where x > y, half of it at a tie (as in PyTorch), 0 elsewhere."""
    return kernels.winner_share(grad, x, y)


winner_share.vjp(grad=lambda g, x, y: winner_share(g, x, y))


@op(
    linear=("x", "y"),
    cases=[
        case(np.array([[True, False, True]]), normal(2, 3), normal(2, 3)),
        case(np.array([True, False, False]), normal(2, 1), 0.0),
    ],
)
def where(condition, x=None, y=None):
    if x is None and y is None:
        return np.where(condition)
    if x is None or y is None:
        raise ValueError(
            f"where: {'x' if x is None else 'y'} is missing; give both x and y or neither"
        )
    if getattr(condition, "ndim", 0) and (getattr(x, "ndim", 0) or getattr(y, "ndim", 0)):
        return kernels.choose(x, y, condition)
    return np.where(condition, x, y)


where.vjp(
    x=lambda g, condition: where(condition, g, 0), y=lambda g, condition: where(condition, 0, g)
)


CLIP_CASES = [
    case(distinct(2, 4), -0.21, 0.17),
    case(distinct(2, 4), None, 0.17),
    case(distinct(2, 4), uniform(-0.22, -0.18, 4), uniform(0.18, 0.22, 2, 1)),
]


@composed(cases=CLIP_CASES)
def clip(
    x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Tensor:
    """x kept within bounds, either of which may be missing; `min` and `max` name them too."""
    if (min is not None or max is not None) and (a_min is not None or a_max is not None):
        raise ValueError("clip: give a_min and a_max, or min and max, not both kinds")
    return _clip(x, min if a_min is None else a_min, max if a_max is None else a_max)


@op(cases=CLIP_CASES)
def _clip(x, a_min=None, a_max=None):
    return np.clip(x, a_min, a_max)


def _clip_x(g, x, a_min, a_max):
    low, high = (
        edge if bound is None else bound
        for bound, edge in ((a_min, -math.inf), (a_max, math.inf))
    )
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return g if a_min is None and a_max is None else band(g, x, low, high, True)
    inside = True  # on the bounds too, as in PyTorch
    if a_min is not None:
        inside = x >= a_min
    if a_max is not None:
        inside = inside & (x <= a_max)
    return where(inside, g, 0)


@op(linear=("grad",), cases=[case(normal(2, 4), distinct(2, 4), -0.21, 0.17, True)])
def band(grad, x, low, high, closed):
    """grad where low <= x <= high if closed, else 0 where x <= low or x >= high."""
    return kernels.band(grad, x, low, high, closed)


band.vjp(grad=lambda g, x, low, high, closed: band(g, x, low, high, closed))
_clip.vjp(
    x=_clip_x,
    a_min=lambda g, x, a_min, a_max: where(
        (x < a_min) if a_max is None else (x < a_min) & (a_min <= a_max), g, 0
    ),
    a_max=lambda g, x, a_min, a_max: where(
        (x if a_min is None else maximum(x, a_min)) > a_max, g, 0
    ),
)


@op(linear=("x",))
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    return np.nan_to_num(x, copy=True, nan=nan, posinf=posinf, neginf=neginf)


nan_to_num.vjp(x=lambda g, x: where(isfinite(x), g, 0))


# ------------------------------------------------------------------ steps: their gradient is zero


@op(linear=("grad",), cases=[case(normal(2, 3), distinct(2, 3))])
def times_sign(grad, x):
    """grad times the sign of x."""
    return kernels.times_sign(grad, x)


times_sign.vjp(grad=lambda g, x: times_sign(g, x))


@op(cases=[case(distinct(2, 3)), case(complex_normal(2, 3))])
def sign(x):
    return np.sign(x)


def _sign_x(g, x, out):
    if x.dtype.kind != "c":
        return zeros_like(g)
    return (g - out * real(conj(out) * g)) / abs(x)  # x / |x| turns, its length stays 1


sign.vjp(x=_sign_x)


@op(cases=[case(uniform(2.1, 2.8, 2, 3), uniform(0.95, 1, 2, 3)), case(uniform(2.1, 2.9, 3), 1.0)])
def floor_divide(x, y):
    return np.floor_divide(x, y)


floor_divide.vjp(x=lambda g: zeros_like(g), y=lambda g: zeros_like(g))  # constant between its steps


@op(cases=[case(distinct(2, 3))])
def floor(x):
    return np.floor(x)


floor.vjp(x=lambda g: zeros_like(g))


@op(cases=[case(distinct(2, 3))])
def ceil(x):
    return np.ceil(x)


ceil.vjp(x=lambda g: zeros_like(g))


@op(cases=[case(distinct(2, 3))])
def trunc(x):
    return np.trunc(x)


trunc.vjp(x=lambda g: zeros_like(g))


@op(cases=[case(uniform(0.6, 1.4, 2, 3)), case(uniform(0.31, 0.34, 3), 1)])
def round(x, decimals=0):
    return np.round(x, decimals)


round.vjp(x=lambda g: zeros_like(g))


@op(cases=[case(uniform(0.6, 1.4, 2, 3))])
def rint(x):
    return np.rint(x)


rint.vjp(x=lambda g: zeros_like(g))

around = round

# ---------------------------------------------------------- comparisons and predicates: no gradient


@op(differentiable=False)
def equal(x, y):
    return np.equal(x, y)


@op(differentiable=False)
def not_equal(x, y):
    return np.not_equal(x, y)


@op(differentiable=False)
def less(x, y):
    return np.less(x, y)


@op(differentiable=False)
def less_equal(x, y):
    return np.less_equal(x, y)


@op(differentiable=False)
def greater(x, y):
    return np.greater(x, y)


@op(differentiable=False)
def greater_equal(x, y):
    return np.greater_equal(x, y)


@op(differentiable=False)
def logical_and(x, y):
    return np.logical_and(x, y)


@op(differentiable=False)
def logical_or(x, y):
    return np.logical_or(x, y)


@op(differentiable=False)
def logical_xor(x, y):
    return np.logical_xor(x, y)


@op(differentiable=False)
def logical_not(x):
    return np.logical_not(x)


@op(differentiable=False)
def bitwise_and(x, y):
    return np.bitwise_and(x, y)


@op(differentiable=False)
def bitwise_or(x, y):
    return np.bitwise_or(x, y)


@op(differentiable=False)
def bitwise_xor(x, y):
    return np.bitwise_xor(x, y)


@op(differentiable=False)
def bitwise_not(x):
    return np.bitwise_not(x)


@op(differentiable=False)
def isnan(x):
    return np.isnan(x)


@op(differentiable=False)
def isinf(x):
    return np.isinf(x)


@op(differentiable=False)
def isfinite(x):
    return np.isfinite(x)


for _op in [each for each in vars().values() if getattr(each, "__module__", "") == __name__]:
    if isinstance(_op, Op) and _op is not where:  # which may ask for positions, in C order
        _op.elementwise = True
