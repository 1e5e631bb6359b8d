"""Reading and writing by index: indexing and its adjoint, sorting, diagonals, embedding.

What may never live here: moving whole axes (shape). `getitem` (gather) and `index_add` (its
adjoint, scatter-add) are each other's VJP; almost everything else here is one of the two with a
well-made index.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

import minigen.kernels as kernels
from minigen import backend
from minigen.autograd import composed, op
from minigen.ops.cases import case, distinct, integers, normal
from minigen.ops.choosing import where
from minigen.ops.shape import moveaxis, reshape
from minigen.tensor import Tensor, raw, raw_index

__all__ = [
    "argsort",
    "diag",
    "diagonal",
    "embedding",
    "getitem",
    "index_add",
    "index_put",
    "median",
    "nonzero",
    "repeat",
    "sort",
    "take",
    "take_along_axis",
    "topk",
    "trace",
]

TWICE = np.array([2, 0, 2, -1])  # an index that names one place three times
INDEX_CASES = [
    case(normal(3, 4), index)
    for index in (
        1,
        (slice(None), -1),
        (Ellipsis, None, slice(None, None, -2)),
        TWICE,
        (slice(1), TWICE),
        (TWICE, slice(None)),
        (np.array([[0], [2]]), np.array([1, 1, 3])),
        np.array([True, False, True]),
        (slice(None), [True, False, False, True]),
        (Ellipsis, np.array([], int)),
    )
] + [case(normal(2, 3, 4), (TWICE - 1, slice(1, 3), np.array([0, 1, 1, 0])))]


@op(view=True, linear=("x",), cases=INDEX_CASES)
def getitem(x, index):
    """x[index], every form that NumPy knows; Tensors may stand in the index."""
    return x[raw_index(index)]


getitem.vjp(x=lambda g, index, x_shape: index_add(g, index, x_shape))


@op(
    linear=("y",),
    cases=[
        case(normal(4, 3), TWICE, (3, 3)),
        case(normal(2, 4), (slice(0, 3, 2), TWICE), (3, 4)),
        case(normal(2), (0, slice(1, 3)), (2, 4)),
    ],
)
def index_add(y, index, shape):
    """Zeros of `shape` with y added at `index`: the adjoint of getitem."""
    index = raw_index(index)
    parts = index if isinstance(index, tuple) else (index,)
    if _is_rows(index) and y.dtype.char in "fd" and len(shape) and index.size:
        return kernels.scatter_add_rows(y, np.where(index < 0, index + shape[0], index), shape[0])
    if any(map(_may_repeat, parts)) and not isinstance(y, np.ndarray):
        return _add_at_places(y, index, shape)
    same = getattr(y, "ndim", -1) == len(shape)  # then y's memory order (channels-last) is kept
    out = np.zeros_like(y, shape=shape) if same else backend.like(y).zeros(shape, y.dtype)
    if any(map(_may_repeat, parts)):
        np.add.at(out, index, y)
    else:
        out[index] = y
    return out


index_add.vjp(y=lambda g, index: getitem(g, index))


def _add_at_places(y, index, shape):
    """index_add by a kernel that adds in one order: on a GPU, add.at has another in each run."""
    places = _places(y, index, shape).reshape(-1)
    parts = y.dtype.type(0).real.dtype if y.dtype.kind == "c" else y.dtype
    rows = y.reshape(-1).view(parts).reshape(len(places), y.dtype.itemsize // parts.itemsize)
    total = kernels.scatter_add_rows(rows, places, math.prod(shape))
    return total.reshape(-1).view(y.dtype).reshape(shape)


def _places(like, index, shape):
    """What stands at `index` of an array of this shape that holds its own positions 0, 1 ..."""
    return backend.like(like).arange(math.prod(shape)).reshape(shape)[index]


def _is_rows(index):
    return getattr(index, "ndim", 0) > 0 and index.dtype == np.int64


def _may_repeat(part):
    """Whether an index part may name an element twice: integer arrays and lists, not masks."""
    if isinstance(part, (list, tuple)):
        part = np.asarray(part)
    return getattr(part, "ndim", 0) > 0 and part.dtype != bool


@op(
    linear=("x", "value"),
    cases=[
        case(normal(3, 4), 1, normal(4)),
        case(normal(3, 4), (slice(None), slice(0, 2)), normal(3, 1)),
        case(normal(3, 4), TWICE, normal(4, 4)),
        case(normal(3, 4), (TWICE, 0), 2.0),
        case(normal(3, 4), np.array([True, False, True]), normal(1, 2, 4)),
    ],
)
def index_put(x, index, value):
    """A copy of x in which x[index] is value; of values given twice for a place the last counts."""
    index = raw_index(index)
    parts = index if isinstance(index, tuple) else (index,)
    if not isinstance(x, np.ndarray) and getattr(value, "ndim", 0) and any(map(_may_repeat, parts)):
        last, order = _last(x, index, x.shape)  # on a GPU nobody knows who writes last
        values = np.broadcast_to(value, order.shape).reshape(-1).astype(x.dtype, copy=False)
        return np.where(last < 0, x, values[np.maximum(last, 0)])
    out = np.copy(x, order="K")
    out[index] = value
    return out


def _last(like, index, shape):
    """(for each element of `shape` the number of the value that is put there last, or -1; the
    numbers of the values)."""
    xp, found = backend.like(like), _places(like, index, shape)
    order = xp.arange(found.size).reshape(found.shape)
    last = xp.full(math.prod(shape), -1, np.int64)
    np.maximum.at(last, found.reshape(-1), order.reshape(-1))
    return last.reshape(shape), order


def _index_put_value(g, index, x_shape):
    index, found = raw_index(index), getitem(g, index)
    if any(map(_may_repeat, index if isinstance(index, tuple) else (index,))):
        last, order = _last(found.data, index, x_shape)
        found = where(last[index] == order, found, 0)
    return found


index_put.vjp(x=lambda g, index: index_put(g, index, 0), value=_index_put_value)


# ------------------------------------------------------------------------------------ along an axis


@composed(cases=[case(normal(3, 4), TWICE), case(normal(3, 4), TWICE, axis=1)])
def take(x: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Tensor:
    """Elements at integer `indices` along an axis (of x flattened without one).

    `mode` says what an index out of range does: "raise", "wrap" around or "clip" to the ends.
    """
    x, indices = _tensor(x), raw(indices)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = _axis("take", axis, x.ndim)
    if mode == "wrap":
        indices = np.mod(indices, x.shape[axis])
    elif mode == "clip":
        indices = np.clip(indices, 0, x.shape[axis] - 1)
    elif mode != "raise":
        raise ValueError(f"take: mode {mode!r} is unknown; there are 'raise', 'wrap' and 'clip'")
    if not hasattr(indices, "ndim"):
        indices = np.asarray(indices, dtype=None if np.size(indices) else np.int64)
    if indices.dtype.kind == "b":
        indices = indices.astype(np.int64)  # places 0 and 1 as in NumPy, not a mask
    if indices.dtype.kind not in "iu":
        raise TypeError(f"take: indices are {indices.dtype}; they must be integers")
    return getitem(x, (slice(None),) * axis + (indices,) if axis else indices)


@composed(cases=[case(normal(2, 3), integers(0, 3, 2, 4), axis=1)])
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """x[..., indices[..., i, ...], ...]: an index of its own for each line along `axis`."""
    x, indices = _tensor(x), raw(indices)
    if axis is None:
        x, axis = reshape(x, -1), 0
    if indices.dtype.kind not in "iu":
        raise IndexError(f"take_along_axis: indices are {indices.dtype}; they must be integers")
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices of {indices.ndim} axes, x of {x.ndim}; they must be equal"
        )
    axis = _axis("take_along_axis", axis, x.ndim)
    return getitem(x, tuple([indices if d == axis else positions(x, d) for d in range(x.ndim)]))


@op(differentiable=False)
def positions(x, axis):
    """0, 1 ... along an axis of x, of length 1 along those after it."""
    places = backend.like(x).arange(x.shape[axis])
    return places.reshape((-1,) + (1,) * (x.ndim - axis - 1))


@composed(cases=[case(normal(2, 3), 2), case(normal(2, 3), [1, 0, 2], axis=1)])
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element (of x flattened without an axis) so many times."""
    x = _tensor(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = _axis("repeat", axis, x.ndim)
    places = backend.like(x.data).arange(x.shape[axis])
    return take(x, np.repeat(places, raw(repeats)), axis)


@op(differentiable=False)
def argsort(x, axis=-1, stable=False):
    return np.argsort(x, axis, kind="stable" if stable else None)


@composed(
    cases=[case(distinct(3, 4)), case(distinct(3, 4), axis=0), case(distinct(3, 2), axis=None)]
)
def sort(x: Any, axis: int | None = -1) -> Tensor:
    """x in ascending order along an axis, NaN last."""
    x = _tensor(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    return take_along_axis(x, argsort(x, axis, stable=True), axis)


@composed(cases=[case(distinct(3, 4), 2), case(distinct(3, 4), 2, axis=0, largest=False)])
def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """(values, indices) of the k largest or smallest along an axis, best first (torch.topk)."""
    x = _tensor(x)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"topk: k is {k}, axis {axis} has {x.shape[axis]} elements")
    order = argsort(x, axis, stable=True).data
    order = np.flip(order, axis) if largest else order
    best = Tensor(order[(slice(None),) * _axis("topk", axis, x.ndim) + (slice(k),)])
    return take_along_axis(x, best, axis), best


@composed(
    cases=[
        case(distinct(3, 5)),
        case(distinct(3, 4), axis=1, keepdims=True),
        case(distinct(3, 2, 2), axis=(0, -1)),
    ]
)
def median(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The middle value along axes, of an even number the mean of two; NaN if any is NaN."""
    x = _tensor(x)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim, "median")
    n = math.prod(x.shape[a] for a in axes)
    others = [length for a, length in enumerate(x.shape) if a not in axes]
    lines = moveaxis(x, axes, tuple(range(len(others), x.ndim)))
    lines = sort(reshape(lines, (*others, n)))
    middle = lines[..., (n - 1) // 2 : n // 2 + 1].mean(-1)
    middle = where(np.isnan(lines.data[..., -1:]).any(-1), math.nan, middle)
    if not keepdims:
        return middle
    return reshape(middle, [1 if a in axes else length for a, length in enumerate(x.shape)])


@op(differentiable=False)
def nonzero(x):
    return np.nonzero(x)


# ---------------------------------------------------------------------------------- diagonals


@composed(
    cases=[case(normal(3, 4)), case(normal(2, 3, 4), 1, 1, 2), case(normal(3, 2, 3), -1, -1, 0)]
)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of the plane of two axes, as the last axis of the result."""
    x = _tensor(x)
    if x.ndim < 2:
        raise ValueError(f"diagonal: x has {x.ndim} axes; it needs at least 2")
    x = moveaxis(x, (axis1, axis2), (0, 1))
    return moveaxis(x[_diagonal(x, x.shape[0], x.shape[1], offset)], 0, -1)


@composed(cases=[case(normal(3)), case(normal(2), 1), case(normal(3, 4), -1)])
def diag(x: Any, k: int = 0) -> Tensor:
    """A square matrix with the vector x on its k-th diagonal, or that diagonal of a matrix x."""
    x = _tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: x has {x.ndim} axes; it must have 1 or 2")
    n = x.shape[0] + abs(k)
    return index_add(x, _diagonal(x, n, n, k), (n, n))


@composed(cases=[case(normal(3, 4)), case(normal(2, 3, 3), -1, 1, 2)])
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum along a diagonal."""
    return diagonal(x, offset, axis1, axis2).sum(-1)


def _diagonal(x, rows, columns, offset):
    top, left = (0, offset) if offset >= 0 else (-offset, 0)
    steps = backend.like(x.data).arange(max(0, min(rows - top, columns - left)))
    return steps + top, steps + left


# ---------------------------------------------------------------------------------- embedding


@op(linear=("weight",), cases=[case(integers(0, 5, 2, 3), normal(5, 4))])
def embedding(input, weight, padding_idx=None):
    """Rows of weight (V, D) by index: integers of any shape -> (..., D) (torch F.embedding).

    The row `padding_idx` gets no gradient. Raises IndexError for an index outside 0..V-1.
    """
    return kernels.gather_rows(weight, _rows(input))


embedding.vjp(
    weight=lambda g, input, weight_shape, padding_idx: _embedding_grad(
        g, input, weight_shape[0], padding_idx
    )
)


@op(
    linear=("g_",),
    cases=[
        case(normal(2, 3, 4), integers(0, 5, 2, 3), 5),
        case(normal(6, 2), integers(0, 3, 6), 3, 1),
    ],
)
def _embedding_grad(g_, input, rows, padding_idx=None):
    total = kernels.scatter_add_rows(g_, _rows(input), rows)
    if padding_idx is not None:
        total[padding_idx] = 0
    return total


def _embedding_grad_g(g, input, padding_idx):
    found = embedding(input, g)
    if padding_idx is None:
        return found
    return where((raw(input) == padding_idx % g.shape[0])[..., None], 0, found)


_embedding_grad.vjp(g_=_embedding_grad_g)


# ------------------------------------------------------------------------------------ helpers


def _rows(input):
    input = input if hasattr(input, "dtype") else np.asarray(input)
    if input.dtype.kind not in "iu":
        raise TypeError(f"embedding: input is {input.dtype}; it must hold integers")
    return input.astype(np.int64, copy=False)


def _tensor(x):
    return x if isinstance(x, Tensor) else Tensor(x)


def _axis(name, axis, ndim):
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim, name)
    return axis % ndim
