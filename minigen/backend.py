"""Devices and array modules. The only file that names cupy; nothing here knows of Tensor.

NumPy's own functions reach CuPy arrays through NumPy's protocols (`np.exp(cupy_array)`), so ops
seldom need to ask for a module; what needs one is making arrays (`zeros`, `asarray`) and moving
them (`to_device`).
"""

import importlib.util
import sys
from typing import Any

import numpy as np

from minigen.graph import recorded

CPU = "cpu"


def device_of(array: Any) -> str:
    """"cpu" or "cuda:0", where an array lies. Looks cupy up only if somebody has imported it."""
    if isinstance(array, (np.ndarray, np.generic)):
        return CPU
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return f"cuda:{array.device.id}"
    return CPU


def module(device: str) -> Any:
    """NumPy for "cpu", CuPy for "cuda" or "cuda:N"; one clear error where there is no GPU."""
    if device == CPU:
        return np
    if device.partition(":")[0] != "cuda":
        raise ValueError(f"device: {device!r} is unknown; there are 'cpu', 'cuda' and 'cuda:N'")
    if importlib.util.find_spec("cupy") is None:
        raise RuntimeError(f"device {device!r} needs CuPy: pip install 'minigen[cuda]'")
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"device {device!r}: CuPy finds no usable GPU ({error})") from None
    return cupy


def to_device(array: Any, device: str) -> Any:
    """The array on that device: itself if it is there already, a copy if not."""
    here = device_of(array)
    if here == device or (device == "cuda" and here.startswith("cuda")):
        return array
    xp = module(device)
    if xp is np:
        return array.get()
    with xp.cuda.Device(int(device.partition(":")[2] or 0)):
        return xp.asarray(array)


def as_array(data: Any) -> Any:
    """A NumPy or CuPy array as it is; scalars, lists and subclasses as a NumPy array."""
    return np.asarray(data) if device_of(data) == CPU else data


def like(array: Any) -> Any:
    """The module that makes arrays where `array` lies."""
    return np if isinstance(array, np.ndarray) else module(device_of(array))


def check_same_device(name: str, values: Any) -> None:
    """Raise one line that names both devices if arrays of two devices meet in op `name`."""
    devices: dict[str, int] = {}
    for i, value in enumerate(values):
        if hasattr(value, "shape"):
            devices.setdefault(device_of(value), i)
    if len(devices) > 1:
        (a, i), (b, j) = list(devices.items())[:2]
        raise ValueError(
            f"{name}: argument {i} is on {a}, argument {j} on {b}; move one with .to({a!r})"
        )


def channels_last(shape: tuple[int, ...], dtype: Any, xp: Any = np) -> Any:
    """An uninitialised image array of shape (N, C, H, W) whose memory is (N, H, W, C)."""
    n, c, h, w = shape
    return xp.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def may_share_memory(a: Any, b: Any) -> bool:
    """Whether two arrays may overlap (bounds only, so it is cheap)."""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return np.may_share_memory(a, b)
    return like(a).may_share_memory(a, b) if device_of(a) == device_of(b) else False


@recorded
def zeros(shape: tuple[int, ...], dtype: Any, beside: Any) -> Any:
    """Zeros on the device of the first Tensor in `beside`."""
    return like(next(t.data for t in beside if t is not None)).zeros(shape, dtype)


@recorded
def ones(shape: tuple[int, ...], dtype: Any, beside: Any) -> Any:
    """Ones on the device of the first Tensor in `beside`."""
    return like(next(t.data for t in beside if t is not None)).ones(shape, dtype)
