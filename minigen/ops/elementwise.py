"""Functions of one element at a time, named and broadcast as in NumPy, each with its VJP under it.

What may never live here: anything that mixes elements (reduction, shape, index). Gradients of real
functions of complex numbers follow the convention of PyTorch: the gradient is the direction of
steepest ascent, so the VJP of a product is `g * conj(y)`. Where a function has a kink, the choice
of gradient is said beside it.
"""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import Op, composed, op
from minigen.ops.cases import case, complex_normal, distinct, normal, uniform
from minigen.ops.cases import positive as above_zero
from minigen.ops.choosing import equal, floor_divide, times_sign, where
from minigen.ops.creation import conj
from minigen.tensor import Tensor

__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "cos",
    "cosh",
    "divide",
    "exp",
    "exp2",
    "expm1",
    "hypot",
    "lerp",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "mod",
    "multiply",
    "negative",
    "positive",
    "power",
    "reciprocal",
    "remainder",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
]

# ------------------------------------------------------------------------------------- arithmetic

PAIRS = [case(normal(2, 3), normal(2, 3)), case(normal(2, 1, 3), normal(4, 1))]
COMPLEX = [case(complex_normal(2, 3), complex_normal(3)), case(normal(2, 3), complex_normal(2, 3))]
FAR_FROM_ZERO = [
    case(normal(2, 3), above_zero(2, 3)),
    case(normal(2, 1, 3), above_zero(4, 1)),
    case(normal(3), uniform(-2, -0.5, 2, 3)),
]


@op(linear=("x", "y"), cases=PAIRS + COMPLEX)
def add(x, y):
    return np.add(x, y)


add.vjp(x=lambda g: g, y=lambda g: g)


@op(linear=("x", "y"), cases=PAIRS + COMPLEX)
def subtract(x, y):
    return np.subtract(x, y)


subtract.vjp(x=lambda g: g, y=lambda g: -g)


@op(linear=("x", "y"), cases=PAIRS + COMPLEX)
def multiply(x, y):
    return np.multiply(x, y)


multiply.vjp(x=lambda g, y: g * conj(y), y=lambda g, x: g * conj(x))


@op(
    linear=("x",),
    cases=[*FAR_FROM_ZERO, case(complex_normal(2, 3), above_zero(2, 3)), case(1.0, above_zero(3))],
)
def divide(x, y):
    return np.divide(x, y)


divide.vjp(x=lambda g, y: g / conj(y), y=lambda g, y, out: -g * conj(out / y))


@op(linear=("x",), cases=[case(normal(2, 3)), case(complex_normal(2))])
def negative(x):
    return np.negative(x)


negative.vjp(x=lambda g: -g)


@op(linear=("x",))
def positive(x):
    return np.positive(x)


positive.vjp(x=lambda g: g)


@op(
    cases=[
        case(above_zero(2, 3), normal(2, 3)),
        case(above_zero(2, 1, 3), normal(4, 1)),
        case(normal(2, 3), 3),
        case(normal(2, 3), 2.0),
        case(normal(2, 3), 1),
        case(normal(2, 3), 0),
        case(above_zero(2, 3), -0.5),
        case(2.0, normal(2, 3)),
        case(complex_normal(2, 3), complex_normal(3)),
        case(complex_normal(2), 3),
    ]
)
def power(x, y):
    return x**y if hasattr(x, "ndim") else np.power(x, y)


def _power_x(g, x, y):
    if isinstance(y, (int, float)):
        return g * (conj(y * x ** (y - 1)) if y not in (0, 1, 2) else (0, 1, 2 * conj(x))[int(y)])
    slope = y * where((x == 0) & (y == 0), 1, x) ** (y - 1)  # y x^(y-1) is 0 where y is
    return g * conj(slope)


def _power_y(g, x, out):
    if isinstance(x, (int, float)) and x > 0:
        return g * out * math.log(x)
    slope = out * log(where(equal(x, 0), 1, x))  # x^y log(x) tends to 0 with x; NaN where x < 0
    return g * conj(slope)


power.vjp(x=_power_x, y=_power_y)


@op(cases=[case(normal(2, 3)), case(complex_normal(2))])
def square(x):
    return np.square(x)


square.vjp(x=lambda g, x: g * (2 * conj(x)))


@op(cases=[case(above_zero(2, 3)), case(complex_normal(2, 3))])
def sqrt(x):
    return np.sqrt(x)


sqrt.vjp(x=lambda g, out: 0.5 * g / conj(out))


@op(cases=[case(above_zero(2, 3)), case(complex_normal(2, 3))])
def reciprocal(x):
    return np.reciprocal(x)


reciprocal.vjp(x=lambda g, out: -g * conj(square(out)))


@op(cases=[case(distinct(2, 3)), case(complex_normal(2, 3))])
def abs(x):
    return np.abs(x)


def _abs_x(g, x, out):
    return times_sign(g, x) if x.dtype.kind != "c" else g * (x / where(out == 0, 1, out))


abs.vjp(x=_abs_x)  # 0 at 0


@op(cases=[case(uniform(2.1, 2.8, 2, 3), uniform(0.95, 1, 2, 3)), case(uniform(2.1, 2.9, 3), 1.0)])
def remainder(x, y):
    return np.remainder(x, y)


remainder.vjp(x=lambda g: g, y=lambda g, x, y: -g * floor_divide(x, y))


# ------------------------------------------------------------------------- exponentials, logarithms


EVERYWHERE = [case(normal(2, 3)), case(complex_normal(2, 3))]
UPRIGHT = [case(above_zero(2, 3)), case(complex_normal(2, 3))]
WITHIN = [case(uniform(-0.9, 0.9, 2, 3)), case(complex_normal(2, 3))]


@op(cases=EVERYWHERE)
def exp(x):
    if getattr(x, "ndim", 0) and x.dtype.char in "fd":
        return kernels.exp(x)
    return np.exp(x)


exp.vjp(x=lambda g, out: g * conj(out))


@op(cases=EVERYWHERE)
def exp2(x):
    return np.exp2(x)


exp2.vjp(x=lambda g, out: g * conj(out * math.log(2)))


@op(cases=EVERYWHERE)
def expm1(x):
    return np.expm1(x)


expm1.vjp(x=lambda g, out: g * conj(out + 1))


@op(cases=UPRIGHT)
def log(x):
    return np.log(x)


log.vjp(x=lambda g, x: g / conj(x))


@op(cases=UPRIGHT)
def log2(x):
    return np.log2(x)


log2.vjp(x=lambda g, x: g / conj(x * math.log(2)))


@op(cases=UPRIGHT)
def log10(x):
    return np.log10(x)


log10.vjp(x=lambda g, x: g / conj(x * math.log(10)))


@op(cases=UPRIGHT)
def log1p(x):
    return np.log1p(x)


log1p.vjp(x=lambda g, x: g / conj(1 + x))


@op(cases=PAIRS)
def logaddexp(x, y):
    return np.logaddexp(x, y)


logaddexp.vjp(x=lambda g, x, out: g * exp(x - out), y=lambda g, y, out: g * exp(y - out))


# ---------------------------------------------------------------------- trigonometry, hyperbolic


@op(cases=EVERYWHERE)
def sin(x):
    return np.sin(x)


sin.vjp(x=lambda g, x: g * conj(cos(x)))


@op(cases=EVERYWHERE)
def cos(x):
    return np.cos(x)


cos.vjp(x=lambda g, x: -g * conj(sin(x)))


@op(cases=[case(uniform(-1, 1, 2, 3)), case(complex_normal(2, 3))])
def tan(x):
    return np.tan(x)


tan.vjp(x=lambda g, out: g * conj(1 + square(out)))


@op(cases=WITHIN)
def arcsin(x):
    return np.arcsin(x)


arcsin.vjp(x=lambda g, x: g / conj(sqrt(1 - square(x))))


@op(cases=WITHIN)
def arccos(x):
    return np.arccos(x)


arccos.vjp(x=lambda g, x: -g / conj(sqrt(1 - square(x))))


@op(cases=EVERYWHERE)
def arctan(x):
    return np.arctan(x)


arctan.vjp(x=lambda g, x: g / conj(1 + square(x)))


@op(cases=FAR_FROM_ZERO)
def arctan2(y, x):
    return np.arctan2(y, x)


arctan2.vjp(
    y=lambda g, x, y: g * (x / (square(x) + square(y))),
    x=lambda g, x, y: -g * (y / (square(x) + square(y))),
)


@op(cases=EVERYWHERE)
def sinh(x):
    return np.sinh(x)


sinh.vjp(x=lambda g, x: g * conj(cosh(x)))


@op(cases=EVERYWHERE)
def cosh(x):
    return np.cosh(x)


cosh.vjp(x=lambda g, x: g * conj(sinh(x)))


@op(cases=EVERYWHERE)
def tanh(x):
    return np.tanh(x)


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3))])
def tanh_grad(grad, y):
    """tanh's gradient by its input, where it gave y; of real numbers."""
    return kernels.tanh_grad(grad, y)


tanh.vjp(
    x=lambda g, out: (
        tanh_grad(g, out) if out.dtype.kind != "c" else g * conj(1 - square(out))
    )
)
tanh_grad.vjp(grad=lambda g, y: tanh_grad(g, y), y=lambda g, grad, y: -2 * g * grad * y)


@op(cases=EVERYWHERE)
def arcsinh(x):
    return np.arcsinh(x)


arcsinh.vjp(x=lambda g, x: g / conj(sqrt(square(x) + 1)))


@op(cases=[case(uniform(1.5, 3, 2, 3)), case(complex_normal(2, 3))])
def arccosh(x):
    return np.arccosh(x)


arccosh.vjp(x=lambda g, x: g / conj(sqrt(x - 1) * sqrt(x + 1)))


@op(cases=WITHIN)
def arctanh(x):
    return np.arctanh(x)


arctanh.vjp(x=lambda g, x: g / conj(1 - square(x)))


@op(cases=FAR_FROM_ZERO)
def hypot(x, y):
    return np.hypot(x, y)


hypot.vjp(x=lambda g, x, out: g * (x / out), y=lambda g, y, out: g * (y / out))


@composed(cases=[case(normal(2, 3), normal(2, 3), uniform(0, 1, 2, 1))])
def lerp(start: Any, end: Any, weight: Any) -> Tensor:
    """start + weight * (end - start), broadcast together."""
    return add(start, multiply(weight, subtract(end, start)))


absolute, true_divide, mod = abs, divide, remainder  # NumPy's second names

for _op in [each for each in vars().values() if getattr(each, "__module__", "") == __name__]:
    if isinstance(_op, Op):
        _op.elementwise = True
