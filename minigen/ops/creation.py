"""Making tensors and changing what they are made of: constants, dtype, device, complex parts.

What may never live here: arithmetic. Where NumPy would make float64 of nothing but numbers, float32
is made, the working precision; `dtype` and `device` ("cpu", "cuda", "cuda:1") say otherwise.
"""

from typing import Any

import numpy as np

from minigen import backend
from minigen.autograd import composed, op
from minigen.graph import recorded
from minigen.ops.cases import case, complex_normal, normal
from minigen.tensor import Tensor, raw

__all__ = [
    "arange",
    "astype",
    "conj",
    "copy",
    "empty",
    "eye",
    "full",
    "full_like",
    "imag",
    "linspace",
    "ones",
    "ones_like",
    "real",
    "to_device",
    "zeros",
    "zeros_like",
]


@recorded
def zeros(shape: Any, dtype: Any = np.float32, *, device: str = "cpu") -> Tensor:
    """A tensor of zeros."""
    with backend.on(device) as xp:
        return Tensor(xp.zeros(shape, dtype))


@recorded
def ones(shape: Any, dtype: Any = np.float32, *, device: str = "cpu") -> Tensor:
    """A tensor of ones."""
    with backend.on(device) as xp:
        return Tensor(xp.ones(shape, dtype))


def empty(shape: Any, dtype: Any = np.float32, *, device: str = "cpu") -> Tensor:
    """A tensor whose values are whatever the memory holds."""
    with backend.on(device) as xp:
        return Tensor(xp.empty(shape, dtype))


@recorded
def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: str = "cpu") -> Tensor:
    """A tensor filled with one value; its dtype is the value's (float32 for a Python float)."""
    if dtype is None and type(fill_value) is float:
        dtype = np.float32
    with backend.on(device) as xp:
        return Tensor(xp.full(shape, raw(fill_value), dtype))


@recorded
def arange(*bounds: Any, dtype: Any = None, device: str = "cpu") -> Tensor:
    """[start,] stop[, step]: int64 for integers, float32 if any bound is a float."""
    if dtype is None and any(type(b) is float for b in bounds):
        dtype = np.float32
    with backend.on(device) as xp:
        return Tensor(xp.arange(*bounds, dtype=dtype))


@recorded
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = np.float32,
    *,
    device: str = "cpu",
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`."""
    with backend.on(device) as xp:
        return Tensor(xp.linspace(start, stop, num, endpoint=endpoint, dtype=dtype))


@recorded
def eye(
    N: int, M: int | None = None, k: int = 0, dtype: Any = np.float32, *, device: str = "cpu"
) -> Tensor:
    """The (N, M) matrix with ones on the k-th diagonal."""
    with backend.on(device) as xp:
        return Tensor(xp.eye(N, M, k, dtype))


@op(differentiable=False)
def zeros_like(x, dtype=None):
    return np.zeros_like(x, dtype)


@op(differentiable=False)
def ones_like(x, dtype=None):
    return np.ones_like(x, dtype)


@op(differentiable=False)
def full_like(x, fill_value, dtype=None):
    return np.full_like(x, fill_value, dtype)


# ------------------------------------------------------------------------------- dtype and device


@composed(cases=[case(normal(2, 3), np.float64), case(normal(2), np.complex128)])
def astype(x: Any, dtype: Any, copy: bool = True) -> Tensor:
    """x in another dtype, its gradient in x's own. Integers and booleans end the graph.

    Without `copy` the result shares x's memory if x has that dtype already.
    """
    convert = _cast if np.dtype(dtype).kind in "fc" else _discrete
    return convert(x, dtype, copy)


@op(view=True, linear=("x",), cases=[case(normal(2, 3), np.float64, False)])
def _cast(x, dtype, copy):
    return (x if hasattr(x, "astype") else np.asarray(x)).astype(dtype, copy=copy)


_cast.vjp(x=lambda g: g)  # the engine casts a gradient to its input's dtype


@op(differentiable=False, view=True)
def _discrete(x, dtype, copy):
    return (x if hasattr(x, "astype") else np.asarray(x)).astype(dtype, copy=copy)


@op(view=True, linear=("x",), cases=[case(normal(2, 3), "cpu")])
def to_device(x, device):
    """x on another device; the gradient travels back."""
    return backend.to_device(x, device)


to_device.vjp(x=lambda g, x_device: to_device(g, x_device))


@op(linear=("x",))
def copy(x):
    return np.copy(x, order="K")


copy.vjp(x=lambda g: g)


# ---------------------------------------------------------------------------------- complex parts


@composed(cases=[case(complex_normal(2, 3)), case(normal(2))])
def conj(x: Any) -> Any:
    """The complex conjugate; what is real, or a number, comes back as it is."""
    if type(x) is complex:
        return x.conjugate()
    return _conj(x) if getattr(x, "dtype", _REAL).kind == "c" else x


_REAL = np.dtype(np.float32)


@op(linear=("x",), cases=[case(complex_normal(2, 3))])
def _conj(x):
    return np.conj(x)


_conj.vjp(x=lambda g: conj(g))


@composed(cases=[case(complex_normal(2, 3)), case(normal(2))])
def real(x: Any) -> Tensor:
    """The real part; what is real comes back as it is."""
    return _real(x) if getattr(x, "dtype", _REAL).kind == "c" or isinstance(x, complex) else x


@op(view=True, linear=("x",), cases=[case(complex_normal(2, 3))])
def _real(x):
    return np.real(x)


_real.vjp(x=lambda g: g)


@op(view=True, linear=("x",), cases=[case(complex_normal(2, 3))])
def imag(x):
    return np.imag(x)


imag.vjp(x=lambda g: g * 1j)
