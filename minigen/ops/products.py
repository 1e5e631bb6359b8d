"""Products of vectors, matrices and tensors as in NumPy, and the linear layer's.

What may never live here: einsum (einstein), solving and factoring (linalg). `matmul` and `linear`
are closed families: their gradients are themselves. Matrices are the last two axes, what stands
before is a batch.
"""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.activation import epilogue_slope, leaky_relu_grad
from minigen.ops.cases import case, complex_normal, distinct, normal
from minigen.ops.creation import conj
from minigen.ops.shape import reshape, swapaxes, transpose
from minigen.tensor import Tensor

__all__ = [
    "bmm",
    "dot",
    "inner",
    "linear",
    "matmul",
    "matrix_transpose",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
]


@op(
    linear=("x", "y"),
    cases=[
        case(normal(2, 3), normal(3, 4)),
        case(normal(3), normal(3)),
        case(normal(3), normal(2, 3, 4)),
        case(normal(2, 4, 3), normal(3)),
        case(normal(2, 4, 3), normal(3, 2)),
        case(normal(2, 1, 2, 3), normal(4, 3, 2)),
        case(complex_normal(2, 3), complex_normal(3, 2)),
    ],
)
def matmul(x, y):
    if (
        getattr(x, "ndim", 0) >= 2
        and getattr(y, "ndim", 0) >= 2
        and x.dtype == y.dtype
        and x.dtype.char in "fd"
    ):
        return kernels.matmul(x, y)
    return np.matmul(x, y)


def _matmul_x(g, x, y):
    if x.ndim == 1:
        return g[..., None] * conj(y) if y.ndim == 1 else matmul(conj(y), g[..., None])[..., 0]
    if y.ndim == 1:
        return g[..., None] * conj(y)
    if _by_columns(x):
        return swapaxes(matmul(conj(y), swapaxes(g, -1, -2)), -1, -2)
    return matmul(g, adjoint(y))


def _matmul_y(g, x, y):
    if y.ndim == 1:
        return conj(x) * g[..., None]
    if x.ndim == 1:
        return conj(x)[:, None] * g[..., None, :]
    if y.ndim == 2 and x.ndim > 2:  # one product of two tall matrices, no batch to sum
        x, g = reshape(x, (-1, x.shape[-1])), reshape(g, (-1, g.shape[-1]))
    if _by_columns(y):
        return swapaxes(matmul(swapaxes(g, -1, -2), conj(x)), -1, -2)
    return matmul(adjoint(x), g)


def _by_columns(x):
    """Whether x's matrices lie column by column: then their gradient had better lie so too."""
    down, right = x.data.strides[-2:]
    return right > down


matmul.vjp(x=_matmul_x, y=_matmul_y)


@op(
    linear=("input", "weight"),
    cases=[
        case(normal(2, 3), normal(4, 3), normal(4)),
        case(normal(2, 5, 3), normal(4, 3), None),
        case(normal(3), normal(4, 3), normal(4)),
    ],
)
def affine(input, weight, bias=None):
    """input (..., I) @ weight (O, I).T + bias (O,)."""
    return _affine(input, weight, bias, 1.0)


def _affine(input, weight, bias, slope):
    if input.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"linear: input has {input.shape[-1]} features, weight expects {weight.shape[-1]}"
            f" (weight shape {weight.shape})"
        )
    alike = bias is None or bias.dtype == weight.dtype
    if alike and input.dtype == weight.dtype and weight.dtype.char in "fd":
        return kernels.linear(input, weight, bias, slope)
    out = np.matmul(input, weight.T)
    out = out if bias is None else out + bias
    return out if slope == 1 else kernels.leaky_relu(out, slope)


@op(
    cases=[
        case(normal(2, 3), normal(4, 3), normal(4), 0.2),
        case(normal(2, 2, 3), normal(3, 3), None, 0.0),
        case(normal(3), normal(4, 3), normal(4), 0.0),
    ]
)
def affine_activated(input, weight, bias, slope):
    """`affine` and the leaky relu that follows it."""
    return _affine(input, weight, bias, slope)


@op(
    linear=("grad",),
    cases=[
        case(normal(2, 4), normal(2, 3), normal(4, 3), None, 1.0, (True, True, True)),
        case(normal(2, 4), normal(2, 3), normal(4, 3), distinct(2, 4), 0.2, (False, True, True)),
        case(normal(2, 2, 3), normal(2, 2, 4), normal(3, 4), distinct(2, 2, 3), 0.0, (True,) * 3),
    ],
)
def affine_grads(grad, input, weight, activated, slope, which):
    """The gradients of `affine_activated` by input, weight and bias, as a tuple: those in `which`.

    `activated` is what it gave; with slope 1 nobody asks.
    """
    if not grad.dtype == input.dtype == weight.dtype:
        dtype = np.result_type(grad, input, weight)
        grad, input, weight = (a.astype(dtype, copy=False) for a in (grad, input, weight))
    return kernels.linear_grads(grad, input, weight, activated, slope, which)


def _affine_grads(grad, input, weight, activated, slope, which):
    """affine_grads in plain ops."""
    outputs, inputs = (-1, weight.shape[0]), (-1, weight.shape[1])
    g = reshape(grad, outputs)
    if slope != 1:
        g = leaky_relu_grad(g, reshape(activated, outputs), slope)
    found = []
    if which[0]:
        found.append(reshape(matmul(g, weight), input.shape))
    if which[1]:
        found.append(matmul(transpose(g), reshape(input, inputs)))
    if which[2]:
        found.append(g.sum(0))
    return tuple(found)


def _affine_rule(g, input, weight, needed, out=None, slope=1.0):
    found = iter(affine_grads(g, input, weight, out, slope, needed))
    return tuple([next(found) if wanted else None for wanted in needed])


affine.vjp_together(
    ("input", "weight", "bias"),
    lambda g, input, weight, needed: _affine_rule(g, input, weight, needed),
)
affine_activated.vjp_together(
    ("input", "weight", "bias"),
    lambda g, input, weight, out, slope, needed: _affine_rule(g, input, weight, needed, out, slope),
)
affine_grads.vjp(activated=lambda: None)  # zero
affine_grads.vjp_from(("grad", "input", "weight"), _affine_grads)


@composed(
    cases=[
        case(normal(2, 3), normal(4, 3), normal(4)),
        case(normal(2, 3), normal(4, 3), negative_slope=0.2),
    ]
)
def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    negative_slope: float | None = None,
) -> Tensor:
    """input (..., I) @ weight (O, I).T + bias (O,) -> (..., O) (torch F.linear).

    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    Raises ValueError for shapes that do not fit or a negative slope.
    """
    if negative_slope is None:
        return affine(input, weight, bias)
    slope = epilogue_slope("linear", negative_slope)
    return affine_activated(input, weight, bias, slope)


@composed(cases=[case(normal(2, 3, 4), normal(2, 4, 2))])
def bmm(x: Any, y: Any) -> Tensor:
    """Batched products (B, m, k) @ (B, k, n) (torch.bmm)."""
    x, y = _tensor(x), _tensor(y)
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"bmm: shapes {x.shape} and {y.shape}; they must be (B, m, k) and (B, k, n)"
        )
    return matmul(x, y)


@composed(
    cases=[
        case(normal(3), normal(3)),
        case(normal(2, 3), normal(3)),
        case(normal(2, 3), normal(4, 3, 2)),
        case(normal(), normal(3)),
    ]
)
def dot(x: Any, y: Any) -> Tensor:
    """The last axis of x against the last but one of y (numpy.dot)."""
    x, y = _tensor(x), _tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        return x * y
    if y.ndim <= 2:
        return matmul(x, y)
    return tensordot(x, y, ((-1,), (-2,)))


@composed(cases=[case(normal(2, 3), normal(3, 2))])
def vdot(x: Any, y: Any) -> Tensor:
    """The inner product of two arrays as vectors, the first conjugated."""
    return matmul(conj(reshape(x, -1)), reshape(y, -1))


@composed(cases=[case(normal(2, 3), normal(3)), case(normal(3, 2), normal(3, 1), axis=0)])
def vecdot(x: Any, y: Any, axis: int = -1) -> Tensor:
    """The inner products along one axis, the others broadcast."""
    x, y = _tensor(x), _tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"vecdot: shapes {x.shape} and {y.shape}; both need an axis to sum over")
    if x.shape[axis] != y.shape[axis]:
        raise ValueError(f"vecdot: axis {axis} of shapes {x.shape} and {y.shape} must be equal")
    products = conj(x) * y
    return products.sum(axis, products.dtype)


@composed(cases=[case(normal(2, 3), normal(4, 3)), case(normal(3), normal(3))])
def inner(x: Any, y: Any) -> Tensor:
    """The last axis of x against the last of y."""
    x, y = _tensor(x), _tensor(y)
    return x * y if x.ndim == 0 or y.ndim == 0 else tensordot(x, y, ((-1,), (-1,)))


@composed(cases=[case(normal(2), normal(3)), case(normal(2, 2), normal(3))])
def outer(x: Any, y: Any) -> Tensor:
    """All products of the elements of x and y, (x.size, y.size)."""
    return reshape(x, (-1, 1)) * reshape(y, (1, -1))


@composed(
    cases=[
        case(normal(2, 3, 4), normal(3, 4, 2)),
        case(normal(2, 3), normal(3, 2), axes=((0, 1), (1, 0))),
        case(normal(2), normal(3), axes=0),
    ]
)
def tensordot(x: Any, y: Any, axes: Any = 2) -> Tensor:
    """Summed products over pairs of axes: the last and first `axes`, or (axes of x, axes of y)."""
    x, y = _tensor(x), _tensor(y)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ValueError(f"tensordot: axes is {axes}, the shapes are {x.shape} and {y.shape}")
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    a, b = ((s,) if isinstance(s, int) else tuple(s) for s in axes)
    for axis, t in ((i, t) for listed, t in ((a, x), (b, y)) for i in listed):
        if not -t.ndim <= axis < t.ndim:
            raise IndexError(f"tensordot: axis {axis} is out of range for shape {t.shape}")
    a, b = tuple(i % x.ndim for i in a), tuple(i % y.ndim for i in b)
    summed, other = [x.shape[i] for i in a], [y.shape[i] for i in b]
    if summed != other:
        raise ValueError(f"tensordot: axes {a} of x have lengths {summed}, axes {b} of y {other}")
    free_x = [i for i in range(x.ndim) if i not in a]
    free_y = [i for i in range(y.ndim) if i not in b]
    shape = [x.shape[i] for i in free_x] + [y.shape[i] for i in free_y]
    n = math.prod(summed)
    rows = reshape(transpose(x, (*free_x, *a)), (math.prod(x.shape[i] for i in free_x), n))
    columns = reshape(transpose(y, (*b, *free_y)), (n, math.prod(y.shape[i] for i in free_y)))
    return reshape(matmul(rows, columns), shape)


@composed(cases=[case(normal(2, 3, 4))])
def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


def adjoint(x):
    return conj(swapaxes(x, -1, -2))


def _tensor(x):
    return x if isinstance(x, Tensor) else Tensor(x)
