"""The reference's kernels in the place of the CUDA ones, for tests of what lies above the kernels.

They take the stand-in's arrays and give such, and as a CUDA kernel would they refuse NumPy arrays.
"""

import contextlib
import importlib

import numpy as np

from minigen import kernels
from tests.cuda import fake_cupy

LIVE = ("sgd", "rmsprop", "adam", "ema")  # which take numbers in device memory too


@contextlib.contextmanager
def referenced():
    """Inside, `kernels.<name>` of the stand-in's arrays runs the reference's kernel."""
    before = {key: f for key, f in kernels._functions.items() if key[1] == "cuda"}
    for name, module in kernels.reference.TABLE.items():
        home = importlib.import_module(f"minigen.kernels.reference.{module}")
        kernels._functions[name, "cuda"] = _on_device(getattr(home, name))
    try:
        yield
    finally:
        for key in [key for key in kernels._functions if key[1] == "cuda"]:
            del kernels._functions[key]
        kernels._functions.update(before)


def _on_device(kernel):
    def run(*args, **named):
        with np.errstate(all="ignore"):
            found = kernel(
                *[_host(kernel, a) for a in args],
                **{k: _host(kernel, a) for k, a in named.items()},
            )
        return _device(found)

    return run


def _host(kernel, value):
    if isinstance(value, tuple):
        if len(value) == 2 and isinstance(value[0], fake_cupy.ndarray):  # a counter, as a sum
            return int(value[0]._host) + value[1]
        return tuple(_host(kernel, v) for v in value)
    if isinstance(value, np.ndarray):
        raise TypeError(f"{kernel.__name__}: a NumPy array of {value.shape} among device arrays")
    if kernel.__name__ in LIVE and isinstance(value, fake_cupy.ndarray) and not value.ndim:
        return float(value._host)
    return fake_cupy._operand(value) if isinstance(value, fake_cupy.ndarray) else value


def _device(found):
    if isinstance(found, (tuple, list)):
        return type(found)(map(_device, found))
    if isinstance(found, (np.ndarray, np.generic)):
        return fake_cupy.ndarray(np.array(found, order="K"))
    return found
