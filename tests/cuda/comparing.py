"""A CUDA kernel against its reference, on a GPU or in the simulator."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from minigen import kernels


def reference(name: str) -> Any:
    """The plain NumPy kernel of that name."""
    module = kernels.reference.TABLE[name]
    return getattr(importlib.import_module(f"minigen.kernels.reference.{module}"), name)


def check(name: str, *args: Any, rtol: float = 1e-5, atol: float = 1e-5, **named: Any) -> Any:
    """kernels.<name> of the arguments, NumPy arrays moved to the device, equals the reference's.

    Floats are compared with the reference in float64, relative to the largest value (`rtol`) and
    elementwise (`atol` times the largest). Inputs must come back unchanged. Returns the result.
    """
    import cupy

    wide = [a.astype(np.float64) if _is_float(a) else a for a in args]
    expected = reference(name)(*wide, **named)
    given = [_to_device(cupy, a) for a in args]
    found = getattr(kernels, name)(*given, **named)
    for a, b in zip(args, given, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(b.get(), a, err_msg=f"{name} wrote into an input")
    dtype = next(a.dtype for a in args if _is_float(a))
    _compare(name, expected, found, dtype, rtol, atol)
    return found


def _compare(name, expected, found, dtype, rtol, atol):
    if isinstance(expected, (tuple, list)):
        assert len(expected) == len(found), name
        for e, f in zip(expected, found, strict=True):
            _compare(name, e, f, dtype, rtol, atol)
        return
    if expected is None:
        assert found is None, name
        return
    expected = np.asarray(expected)
    host = found.get()
    assert host.shape == expected.shape, (name, host.shape, expected.shape)
    if expected.dtype.kind != "f":
        assert host.dtype == expected.dtype, (name, host.dtype, expected.dtype)
        np.testing.assert_array_equal(host, expected, err_msg=name)
        return
    assert host.dtype == dtype, (name, host.dtype, dtype)
    finite = expected[np.isfinite(expected)]
    scale = np.abs(finite).max(initial=0.0) or 1.0
    if dtype == np.float64:
        rtol, atol = min(rtol, 1e-11), min(atol, 1e-11)
    np.testing.assert_allclose(host, expected, rtol=rtol, atol=atol * scale, err_msg=name)


def _is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _to_device(cupy, value):
    """The array with its strides, in memory of its own."""
    if not isinstance(value, np.ndarray):
        return value
    order = sorted(range(value.ndim), key=lambda i: -abs(value.strides[i]))
    moved = cupy.asarray(np.array(value.transpose(order), order="C"))
    return moved.transpose(np.argsort(order).tolist())
