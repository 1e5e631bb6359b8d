"""Moving elements without changing them: reshape, transpose, join, split, pad, flip, tile.

What may never live here: arithmetic, or choosing elements by index arrays (index). Adjoints stand
in pairs. Views are made where NumPy makes views. Images that lie channels-last in memory stay so
through `pad` and `concatenate`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.borders import PAD_MODES, borders_of, pad_widths
from minigen.ops.cases import case, normal
from minigen.tensor import Tensor

__all__ = [
    "array_split",
    "broadcast_to",
    "concat",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "hstack",
    "moveaxis",
    "pad",
    "permute_dims",
    "ravel",
    "reshape",
    "roll",
    "rot90",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unpad",
    "vstack",
]


@op(
    view=True,
    linear=("x",),
    cases=[
        case(normal(2, 3, 4), (6, -1)),
        case(normal(2, 6), 12),
        case(normal(2, 3, 4), (4, 6), order="F"),
        case(normal(), (1, 1)),
    ],
)
def reshape(x, shape, order="C"):
    if order not in ("C", "F"):
        raise ValueError(f"reshape: order is {order!r}; it must be 'C' or 'F'")
    if order == "C" and getattr(x, "ndim", 0) == 4 and x.size >= 16384 and _channels_last(x):
        try:
            return x.reshape(shape, copy=False)
        except ValueError:  # it must be copied, and NumPy is slow at that
            x = kernels.contiguous(x)
    return np.reshape(x, shape, order=order)


reshape.vjp(x=lambda g, x_shape, order: reshape(g, x_shape, order))


@op(
    view=True,
    linear=("x",),
    cases=[
        case(normal(2, 3)),
        case(normal(2, 3, 4), (1, 2, 0)),
        case(normal(2, 3, 4), (-1, 0, -2)),
    ],
)
def transpose(x, axes=None):
    return np.transpose(x, axes)


def _transpose_x(g, axes):
    if axes is None:
        return transpose(g)
    back = [0] * len(axes)
    for i, axis in enumerate(axes):
        back[axis] = i
    return transpose(g, tuple(back))


transpose.vjp(x=_transpose_x)
permute_dims = transpose


@op(view=True, linear=("x",), cases=[case(normal(2, 3, 4), 0, -1)])
def swapaxes(x, axis1, axis2):
    return np.swapaxes(x, axis1, axis2)


swapaxes.vjp(x=lambda g, axis1, axis2: swapaxes(g, axis1, axis2))


@op(
    view=True,
    linear=("x",),
    cases=[case(normal(2, 3, 4), 0, -1), case(normal(2, 3, 4), (0, 1), (2, 0))],
)
def moveaxis(x, source, destination):
    return np.moveaxis(x, source, destination)


moveaxis.vjp(x=lambda g, source, destination: moveaxis(g, destination, source))


@op(view=True, linear=("x",), cases=[case(normal(2, 1, 3, 1)), case(normal(2, 1, 3, 1), -1)])
def squeeze(x, axis=None):
    return np.squeeze(x, axis)


squeeze.vjp(x=lambda g, x_shape: reshape(g, x_shape))


@op(view=True, linear=("x",), cases=[case(normal(2, 3), -1), case(normal(2, 3), (0, 2))])
def expand_dims(x, axis):
    return np.expand_dims(x, axis)


expand_dims.vjp(x=lambda g, x_shape: reshape(g, x_shape))


@op(view=True, linear=("x",), cases=[case(normal(3), (2, 3)), case(normal(2, 1, 3), (4, 2, 5, 3))])
def broadcast_to(x, shape):
    return np.broadcast_to(x, shape)


broadcast_to.vjp(x=lambda g: g)  # the engine sums a gradient down to its input's shape


@composed(cases=[case(normal(2, 3))])
def ravel(x: Any, order: str = "C") -> Tensor:
    """x as a vector, a view where possible."""
    return reshape(x, -1, order)


@composed(cases=[case(normal(2, 3, 4), 1), case(normal())])
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from `start_dim` to `end_dim`, both included, as one (torch.flatten)."""
    shape = np.shape(x if not isinstance(x, Tensor) else x.data)
    ndim = max(len(shape), 1)
    if not (-ndim <= start_dim < ndim and -ndim <= end_dim < ndim):
        raise IndexError(f"flatten: dims {start_dim} to {end_dim} do not fit shape {shape}")
    first, last = start_dim % ndim, end_dim % ndim
    if first > last:
        raise ValueError(
            f"flatten: start_dim {start_dim} comes after end_dim {end_dim}, shape {shape}"
        )
    merged = int(np.prod(shape[first : last + 1], dtype=int))
    return reshape(x, (*shape[:first], merged, *shape[last + 1 :]))


# ----------------------------------------------------------------------------- joining, splitting


@op(
    sequence=True,
    linear=("xs",),
    cases=[
        case([normal(2, 3), normal(1, 3)]),
        case([normal(2, 3), normal(2, 1), normal(2, 0)], axis=-1),
        case([normal(2, 3), normal(4)], axis=None),
    ],
)
def concatenate(xs, axis=0):
    if axis is not None and all(getattr(x, "ndim", 0) == 4 and _channels_last(x) for x in xs):
        i = (0, 3, 1, 2)[axis]
        return np.concatenate([x.transpose(0, 2, 3, 1) for x in xs], i).transpose(0, 3, 1, 2)
    return np.concatenate(xs, axis)


def _concatenate_x(g, i, xs_shape, axis):
    if axis is None:
        sizes = [int(np.prod(s, dtype=int)) for s in xs_shape]
        start = sum(sizes[:i])
        return reshape(g[start : start + sizes[i]], xs_shape[i])
    start = sum(s[axis] for s in xs_shape[:i])
    return dense(g[_along(g.ndim, axis, slice(start, start + xs_shape[i][axis]))])


concatenate.vjp(xs=_concatenate_x)
concat = concatenate


@op(view=True, linear=("x",))
def dense(x):
    """x, copied in its memory order if that has gaps: what follows reads it more than once."""
    span = sum((n - 1) * abs(s) for n, s in zip(x.shape, x.strides, strict=True)) + x.itemsize
    return x if x.size == 0 or span == x.nbytes else x.copy(order="K")


dense.vjp(x=lambda g: g)


def _channels_last(x):
    return not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous


def _along(ndim, axis, index):
    """The index that applies `index` to one axis and takes all of the others."""
    return (slice(None),) * (axis % ndim) + (index,)


@composed(cases=[case([normal(2, 3), normal(2, 3)]), case([normal(2), normal(2)], axis=-1)])
def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Equal shapes joined along a new axis."""
    shapes = {x.shape if isinstance(x, Tensor) else np.shape(x) for x in xs}
    if len(shapes) > 1:
        raise ValueError(f"stack: all shapes must be equal, got {sorted(shapes)}")
    return concatenate([expand_dims(x, axis) for x in xs], axis)


@composed(cases=[case([normal(3), normal(3)]), case([normal(2, 3), normal(1, 3)])])
def vstack(xs: Sequence[Any]) -> Tensor:
    """Joined along the first axis; vectors become rows first."""
    return concatenate([_rows(x) for x in xs], 0)


@composed(cases=[case([normal(3), normal(2)]), case([normal(2, 3), normal(2, 1)])])
def hstack(xs: Sequence[Any]) -> Tensor:
    """Joined along the second axis, vectors along their only one."""
    xs = [reshape(x, 1) if x.ndim == 0 else x for x in map(_tensor, xs)]
    return concatenate(xs, 0 if xs and xs[0].ndim == 1 else 1)


def _rows(x):
    x = _tensor(x)
    return reshape(x, (1, -1)) if x.ndim < 2 else x


def _tensor(x):
    return x if isinstance(x, Tensor) else Tensor(x)


@composed(cases=[case(normal(4, 3), 2), case(normal(2, 5), [1, 3], axis=1)])
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts of x along an axis: so many equal ones, or cut at indices. A list of views."""
    x = _tensor(x)
    if np.ndim(indices_or_sections) == 0 and x.shape[axis] % indices_or_sections:
        raise ValueError(
            f"split: axis {axis} of length {x.shape[axis]} has no {indices_or_sections} equal"
            " parts; array_split allows unequal ones"
        )
    return array_split(x, indices_or_sections, axis)


@composed(cases=[case(normal(5, 2), 3)])
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """As `split`, where so many parts may differ in length by one."""
    x = _tensor(x)
    length = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        parts = int(indices_or_sections)
        if parts <= 0:
            raise ValueError(f"array_split: {parts} parts asked for; it must be 1 or more")
        each, longer = divmod(length, parts)
        cuts = [i * each + min(i, longer) for i in range(1, parts)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    bounds = [0, *cuts, length]
    if sorted(bounds) == bounds:
        return list(cut(x, tuple(cuts), axis))
    return [x[_along(x.ndim, axis, slice(a, b))] for a, b in pairwise(bounds)]


@op(view=True, linear=("x",), cases=[case(normal(2, 5), (1, 1, 3), 1), case(normal(4), (), -1)])
def cut(x, indices, axis):
    """The parts of x between ascending indices, as a tuple of views."""
    bounds = pairwise((0, *indices, x.shape[axis]))
    return tuple([x[_along(x.ndim, axis, slice(a, b))] for a, b in bounds])


cut.vjp(x=lambda g, axis: concatenate(g if isinstance(g, tuple) else (g,), axis))


# ----------------------------------------------------------------------------------- padding

PAD_CASES = [
    case(normal(2, 3, 4), ((0, 1), (2, 0), (2, 3)), mode) for mode in PAD_MODES if mode != "reflect"
] + [
    case(normal(3, 4), ((1, 0), (2, 3)), "reflect"),
    case(normal(3), 5, "wrap"),
    case(normal(2, 3), (1, 2), constant_values=2.0),
    case(normal(1, 2, 3, 3), ((0, 0), (0, 0), (1, 1), (2, 2)), "reflect"),
]


@op(linear=("x",), cases=PAD_CASES)
def pad(x, pad_width, mode="constant", constant_values=0):
    x = np.asarray(x) if isinstance(x, (int, float)) else x
    widths = pad_widths(x.ndim, pad_width, mode)
    if mode == "constant" and np.ndim(constant_values):
        return np.pad(x, widths, mode, constant_values=constant_values)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    if mode == "constant":
        out = np.full_like(x, constant_values, shape=shape)  # keeps x's memory order
    else:
        out = np.empty_like(x, shape=shape)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
    for axis, border, source in borders_of(x.shape, widths, mode):
        out[_along(x.ndim, axis, border)] = out[_along(x.ndim, axis, source)]
    return out


pad.vjp(x=lambda g, x_shape, pad_width, mode: unpad(g, x_shape, pad_width, mode))


@op(
    view=True,
    linear=("y",),
    cases=[case(normal(4, 7), (3, 4), ((1, 0), (1, 2)), m) for m in PAD_MODES],
)
def unpad(y, shape, pad_width, mode="constant"):
    """The adjoint of `pad`: y's padding is added to the elements it was copied from."""
    widths = pad_widths(y.ndim, pad_width, mode)
    borders = borders_of(shape, widths, mode)
    out = np.copy(y, order="K") if borders else y
    for axis, border, source in reversed(borders):
        added = out[_along(y.ndim, axis, border)]
        if source.stop is not None and source.stop - source.start == 1:  # many from one
            added = added.sum(axis, keepdims=True)
        out[_along(y.ndim, axis, source)] += added
    return out[tuple(slice(a, a + n) for n, (a, _) in zip(shape, widths, strict=True))]


unpad.vjp(y=lambda g, pad_width, mode: pad(g, pad_width, mode))


# ---------------------------------------------------------------------------- turning and repeating


@op(view=True, linear=("x",), cases=[case(normal(2, 3)), case(normal(2, 3, 2), axis=(0, -1))])
def flip(x, axis=None):
    return np.flip(x, axis)


flip.vjp(x=lambda g, axis: flip(g, axis))


@composed(cases=[case(normal(2, 3))])
def flipud(x: Any) -> Tensor:
    """x upside down: the first axis reversed."""
    return flip(x, 0)


@composed(cases=[case(normal(2, 3))])
def fliplr(x: Any) -> Tensor:
    """x mirrored: the second axis reversed."""
    return flip(x, 1)


@op(linear=("x",), cases=[case(normal(2, 3), 2), case(normal(2, 3), (1, -1), axis=(0, 1))])
def roll(x, shift, axis=None):
    return np.roll(x, shift, axis)


roll.vjp(x=lambda g, shift, axis: roll(g, np.negative(shift).tolist(), axis))


@op(view=True, linear=("x",), cases=[case(normal(2, 3)), case(normal(2, 3, 2), 3, axes=(2, 0))])
def rot90(x, k=1, axes=(0, 1)):
    return np.rot90(x, k, axes)


rot90.vjp(x=lambda g, k, axes: rot90(g, -k, axes))


@op(
    linear=("x",),
    cases=[case(normal(2, 3), 2), case(normal(3), (2, 1, 3)), case(normal(2, 3), (3, 1))],
)
def tile(x, reps):
    return np.tile(x, reps)


def _tile_x(g, x_shape, reps):
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    ndim = max(len(reps), len(x_shape))
    reps = (1,) * (ndim - len(reps)) + reps
    sizes = (1,) * (ndim - len(x_shape)) + tuple(x_shape)
    blocks = reshape(g, [n for pair in zip(reps, sizes, strict=True) for n in pair])
    return reshape(blocks.sum(tuple(range(0, 2 * ndim, 2))), x_shape)


tile.vjp(x=_tile_x)


@op(linear=("x",), cases=[case(normal(2, 3, 4)), case(normal(3, 3), k=-1)])
def tril(x, k=0):
    return np.tril(x, k)


tril.vjp(x=lambda g, k: tril(g, k))


@op(linear=("x",), cases=[case(normal(2, 3, 4)), case(normal(3, 3), k=1)])
def triu(x, k=0):
    return np.triu(x, k)


triu.vjp(x=lambda g, k: triu(g, k))
