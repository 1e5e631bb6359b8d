"""What the stand-in for CuPy knows of single functions: what each refuses, and how its results lie.

Read from CuPy 14.2's sources.
"""

import numpy as np

# Functions whose results may be views, and those that keep their operand's memory order: results
# of all others lie in C order.
_VIEWS = """
    reshape transpose swapaxes moveaxis rollaxis squeeze expand_dims broadcast_to flip fliplr
    flipud rot90 real imag diagonal ravel atleast_1d atleast_2d atleast_3d split array_split
    einsum matrix_transpose permute_dims hsplit vsplit
"""
_KEEPING = """
    empty_like zeros_like ones_like full_like copy nan_to_num astype
"""
# Functions that wait for the device, to know the size of their results.
_WAITING = """
    nonzero flatnonzero argwhere unique extract compress allclose array_equal repeat where
    setdiff1d intersect1d union1d histogram trim_zeros
"""
VIEWS, KEEPING, WAITING = (frozenset(t.split()) for t in (_VIEWS, _KEEPING, _WAITING))
CREATING = ("zeros", "ones", "full", "eye", "linspace")
COMPARING = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
# The dtypes that ufunc.at takes.
AT = {
    "add": "iIlLqQefd", "maximum": "iIlLqQfd", "minimum": "iIlLqQfd", "subtract": "iI",
}  # fmt: skip


def waits(name, args):
    """Whether a call waits for the device."""
    if name == "where":
        return len(args) == 1
    return name in WAITING and (name != "repeat" or _there(args[1]))


def _check_where(condition, x=None, y=None):
    if not _there(condition):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")


def _check_solve(a, b):
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")


def _check_sort(a, axis=-1, kind=None):
    if kind not in (None, "stable"):
        raise ValueError(f"kind can only be None or 'stable': {kind!r}")


def _check_arrays(arrays, *_, **named):
    if not all(_there(a) for a in arrays):
        raise TypeError("Only cupy arrays can be concatenated")


def _check_clip(a, a_min, a_max, out=None):
    if out is not None and not _there(out):
        raise TypeError("Output arguments type must be cupy.ndarray")


SPECIFIC = {
    "where": _check_where, "solve": _check_solve, "sort": _check_sort, "argsort": _check_sort,
    "concatenate": _check_arrays, "stack": _check_arrays, "clip": _check_clip,
}  # fmt: skip


def _there(value):
    return hasattr(value, "_host")


# ------------------------------------------------------- writing to places that an index has twice


def reversed_index(at):
    """The index whose last integer array (and its fellows) is walked backwards."""
    parts = at if isinstance(at, tuple) else (at,)
    shape = np.broadcast_shapes(*[np.shape(p) for p in parts if isinstance(p, np.ndarray)])
    turned = [
        np.broadcast_to(p, shape)[::-1] if isinstance(p, np.ndarray) else p for p in parts
    ]
    return tuple(turned)


def turned(at):
    """The same turn for the values written there."""
    parts = at if isinstance(at, tuple) else (at,)
    where = [i for i, p in enumerate(parts) if isinstance(p, np.ndarray)]
    together = where == list(range(where[0], where[-1] + 1))
    lead = sum(isinstance(p, slice) for p in parts[: where[0]]) if together else 0
    return (slice(None),) * lead + (slice(None, None, -1),)
