"""How far a kernel is from the reference in float64, and what calls of kernels take and return."""

import numpy as np

DRAWS = ("reparameterize", "philox_bits", "philox_uniform", "philox_normal")


def error(name, arguments, same, device="cpu"):
    """The largest deviation from the reference over its largest value; inf for NaN or wrong ints.

    The reference runs in float64, but for kernels that draw numbers: other dtypes draw others.
    """
    from minigen import kernels

    if name not in DRAWS:
        same = [_double(value) for value in same]
    kernel, _ = kernels.implementation(name, device)
    ours = listed(kernel(*arguments)) or arrays(arguments)
    ours = [a.get() if hasattr(a, "get") else a for a in ours]
    with kernels.use("reference"):
        right = listed(getattr(kernels, name)(*same)) or arrays(same)
    worst = 0.0
    for a, b in zip(ours, right, strict=True):
        if b.dtype.kind == "f":
            gap = float(np.abs(a - b).max() / np.abs(b).max())
            worst = max(worst, gap if np.isfinite(gap) else np.inf)
        elif not np.array_equal(a, b):
            worst = np.inf
    return worst


def _double(value):
    floats = isinstance(value, np.ndarray) and value.dtype == np.float32
    return value.astype(np.float64) if floats else value


def listed(out):
    """What a kernel returned as a tuple, empty for one that works in place."""
    return () if out is None else out if isinstance(out, tuple) else (out,)


def shapes(arguments):
    return " ".join("x".join(map(str, a.shape)) for a in arrays(arguments) if a.ndim > 1)


def arrays(arguments):
    return [a for a in arguments if _is_array(a)]


def _is_array(value):
    return isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__")
