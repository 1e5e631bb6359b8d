"""minigen.kernels: the one dispatch from a kernel's name and its arrays to an implementation.

`kernels.conv2d(...)`, `kernels.matmul(...)` and so on run the kernel of that name on the target
where the arrays live: `cuda` for arrays on a GPU, `cpu` (Numba) for float32 and float64 arrays,
and `reference` (plain NumPy) for every other dtype, or where it is asked for with
`use("reference")` or MINIGEN_KERNELS=reference. The names and which module defines each are the
TABLE of every target's package; modules, and Numba, are imported when a kernel first runs.
Nothing here knows of Tensor, and nothing falls back from the GPU to the CPU.

One machine gives the same bits in every run with the same number of threads. With another number,
matrix products and convolution weight gradients may differ in their last bits; nothing else does.
"""

from __future__ import annotations

if __name__ != "minigen.kernels":
    raise ImportError(
        f"this package is minigen.kernels, but it was imported as {__name__!r}: "
        "write `from minigen import kernels`"
    )

import contextlib
import contextvars
import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import cpu, cuda, reference

TARGETS = ("reference", "cpu", "cuda")
NAMES = tuple(reference.TABLE)
_TABLES: dict[str, dict[str, str]] = {
    "reference": reference.TABLE,
    "cpu": cpu.TABLE,
    "cuda": getattr(cuda, "TABLE", {}),
}

_log = logging.getLogger("minigen")
_functions: dict[tuple[str, str], Callable[..., Any]] = {}  # (name, target) -> loaded function
_last: dict[str, str] = {}  # name -> the target that ran last


def use(
    target: str | None = None, *, convolution: str | None = None, precision: str | None = None
) -> contextlib.AbstractContextManager[None]:
    """Choose inside a `with` block what kernels run.

    `target` "reference" or "cpu" is for every kernel; dtypes other than float32 and float64 have
    the reference alone. `convolution` is for the cpu kernels of convolutions: "direct" sums tap by
    tap, with errors near 1e-7 in float32; "winograd" takes minimal filtering wherever it can, with
    errors near 1e-5; None leaves the choice to the shape, as MINIGEN_CONVOLUTION does where it is
    not set. `precision` is for products of float32 arrays on a GPU: "float32" keeps all digits,
    "tf32" rounds factors to 10 bits after the point for the tensor cores, with errors near 5e-4;
    None leaves it to MINIGEN_PRECISION, and where that is not set takes tf32 for convolutions and
    float32 for matmul and linear, as PyTorch does. The choice holds for the current thread (and
    context) only. Raises ValueError for other names.
    """
    if target is not None:
        _check_forced("use", target)
    _check_convolution("use", convolution)
    _check_precision("use", precision)
    return _use(target, convolution, precision)


def implementation(name: str, array: Any) -> tuple[Callable[..., Any], str]:
    """Return (function, target) that `kernels.<name>` would run on this array.

    `array` decides the device, or is its name ("cuda", "cuda:1"); anything else (for instance
    None) stands for the host. Raises AttributeError for an unknown name and RuntimeError where the
    target lacks it.
    """
    if name not in reference.TABLE:
        raise AttributeError(_unknown(name))
    target = _target(name, (array,))
    return _load(name, target), target


def explain(name: str | None = None) -> dict[str, Any]:
    """Say what serves a kernel: the module for each target, and the target that ran last.

    Returns {"reference": module, "cpu": module or None, "cuda": ..., "last": target or None} for
    one name, with "choices" (the algorithm taken for each problem so far) where a kernel picks one;
    without a name, {kernel name: that record} for all kernels. Imports nothing.
    """
    if name is None:
        return {each: explain(each) for each in NAMES}
    if name not in reference.TABLE:
        raise AttributeError(_unknown(name))
    record: dict[str, Any] = {
        target: f"{__name__}.{target}.{table[name]}" if name in table else None
        for target, table in _TABLES.items()
    }
    record["last"] = _last.get(name)
    function = _functions.get((name, "cpu"))
    choices = getattr(function, "choices", None)
    if choices is not None:
        record["choices"] = choices()
    return record


def convolution() -> str | None:
    """The algorithm asked for convolutions on the host: "direct", "winograd", or None for any."""
    algorithm = _convolution.get()
    if algorithm is not None:
        _check_convolution("MINIGEN_CONVOLUTION", algorithm)
    return algorithm


def precision() -> str | None:
    """What float32 products on a GPU keep: "float32", "tf32", or None for each kernel's default."""
    kept = _precision.get()
    if kept is not None:
        _check_precision("MINIGEN_PRECISION", kept)
    return kept


def set_num_threads(n: int) -> None:
    """Let CPU kernels use n threads from now on, at most as many as this process has cores.

    Until this is called the count comes from MINIGEN_NUM_THREADS (default: all cores).
    """
    global _num_threads
    if int(n) < 1:
        raise ValueError(f"set_num_threads: got {n}, expected a count of at least 1")
    cores = _cores()
    if n > cores:
        _log.warning("set_num_threads: %d threads asked, this process has %d cores", n, cores)
    _num_threads = min(int(n), cores)


def get_num_threads() -> int:
    """The number of threads that CPU kernels use."""
    global _num_threads
    if _num_threads is None:  # read late, so that a wrong value does not break the import
        _num_threads = _threads_from_environment()
    return _num_threads


def __getattr__(name: str) -> Callable[..., Any]:
    """Make the dispatcher of a kernel when its name is first used."""
    if name not in reference.TABLE:
        raise AttributeError(_unknown(name))
    return globals().setdefault(name, _dispatcher(name))


def __dir__() -> list[str]:
    return sorted({*globals(), *NAMES})


def _dispatcher(name: str) -> Callable[..., Any]:
    """The callable behind `kernels.<name>`: it costs well under a microsecond a call."""
    ndarray, forced_target = np.ndarray, _forced.get
    on_host = on_gpu = _HOST_TYPES.issuperset
    float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
    fast: Callable[..., Any] | None = None  # the cpu kernel, once one call went the long way
    gpu_array: Any = None  # the type of a GPU's arrays, likewise, and what stands beside them

    def dispatch(*args: Any, **named: Any) -> Any:
        nonlocal fast, gpu_array, on_gpu
        if fast is not None and not named and forced_target() is None and type(args[0]) is ndarray:
            dtype = args[0].dtype
            if (dtype is float32 or dtype is float64) and on_host(map(type, args)):
                _last[name] = "cpu"
                return fast(*args)
        elif (
            args and type(args[0]) is gpu_array and not named and forced_target() is None
            and on_gpu(map(type, args))
        ):  # fmt: skip
            _last[name] = "cuda"
            return _load(name, "cuda")(*args)
        target = _target(name, (*args, *named.values()))
        function = _load(name, target)
        if target == "cpu":
            fast = function
        elif target == "cuda" and args and _device(args[0]) == "cuda":
            gpu_array = type(args[0])
            on_gpu = (_HOST_TYPES - {ndarray} | {gpu_array}).issuperset
        _last[name] = target
        return function(*args, **named)

    dispatch.__name__ = dispatch.__qualname__ = name
    dispatch.__doc__ = f"The kernel {name!r}, run where its first array lives."
    return dispatch


def _target(name: str, args: tuple[Any, ...]) -> str:
    """Choose the target from the arrays among args, refusing mixed devices."""
    first = None
    devices: dict[str, int] = {}
    for position, value in enumerate(_flatten(args)):
        device = _device(value)
        if device is not None:
            devices.setdefault(device, position)
            first = value if first is None else first
    if len(devices) > 1:
        raise RuntimeError(
            f"{name}: arrays on different devices, "
            + " and ".join(f"argument {at} on {device}" for device, at in devices.items())
            + "; move them to one device first"
        )
    forced = _forced.get()
    if forced is not None:
        _check_forced("MINIGEN_KERNELS", forced)
    if "cuda" in devices:
        if forced is not None:
            raise RuntimeError(
                f"{name}: kernels are set to {forced!r} but the arrays are on cuda; "
                "move them to the cpu first"
            )
        return "cuda"
    if first is not None and first.dtype not in _FLOATS:
        return "reference"
    return forced or ("cpu" if name in cpu.TABLE and _has_numba() else "reference")


@functools.cache
def _has_numba() -> bool:
    """Whether cpu kernels can run; a machine for GPU kernels built elsewhere may go without."""
    found = importlib.util.find_spec("numba") is not None
    if not found:
        _log.warning("Numba is not installed: host arrays are served by plain NumPy, slowly")
    return found


def _flatten(args: tuple[Any, ...]) -> Iterator[Any]:
    for value in args:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _device(value: Any) -> str | None:
    """Where an array lives, without importing a GPU library; None for what is not an array."""
    if isinstance(value, np.ndarray):
        return "cpu"
    if hasattr(type(value), "__cuda_array_interface__"):
        return "cuda"
    if isinstance(value, str) and value.partition(":")[0] == "cuda":  # see `implementation`
        return "cuda"
    return None


def _load(name: str, target: str) -> Callable[..., Any]:
    function = _functions.get((name, target))
    if function is None:
        table = _TABLES[target]
        if name not in table:
            have = ", ".join(each for each, names in _TABLES.items() if name in names)
            raise RuntimeError(f"{name}: no {target} kernel; there is one for: {have}")
        module = importlib.import_module(f"{__name__}.{target}.{table[name]}")
        function = _functions[name, target] = getattr(module, name)
    return function


def _unknown(name: str) -> str:
    return f"minigen.kernels has no kernel {name!r}; there are: {', '.join(NAMES)}"


@contextlib.contextmanager
def _use(target: str | None, algorithm: str | None, kept: str | None) -> Iterator[None]:
    choices = ((_forced, target), (_convolution, algorithm), (_precision, kept))
    tokens = [(choice, choice.set(value)) for choice, value in choices if value is not None]
    try:
        yield
    finally:
        for choice, token in tokens:
            choice.reset(token)


def _check_forced(where: str, target: str) -> None:
    if target not in ("reference", "cpu"):
        raise ValueError(f"{where}: got {target!r}, expected 'reference' or 'cpu'")


def _check_convolution(where: str, algorithm: str | None) -> None:
    if algorithm not in (None, "direct", "winograd"):
        raise ValueError(f"{where}: convolution {algorithm!r}, expected 'direct' or 'winograd'")


def _check_precision(where: str, kept: str | None) -> None:
    if kept not in (None, "float32", "tf32"):
        raise ValueError(f"{where}: precision {kept!r}, expected 'float32' or 'tf32'")


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _threads_from_environment() -> int:
    text = os.environ.get("MINIGEN_NUM_THREADS", "").strip()
    if text and not (text.isdecimal() and int(text) >= 1):
        raise ValueError(f"MINIGEN_NUM_THREADS: got {text!r}, expected a count of at least 1")
    return min(int(text or _cores()), _cores())


_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
# What a call on the host is made of: if every argument is one of these, no device check is needed.
_HOST_TYPES = frozenset(
    {np.ndarray, type(None), bool, int, float, str, np.float32, np.float64, np.int64, type, tuple}
)
_num_threads: int | None = None
_default = os.environ.get("MINIGEN_KERNELS", "").strip() or None
_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar("kernels", default=_default)
_algorithm = os.environ.get("MINIGEN_CONVOLUTION", "").strip() or None
_convolution: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "convolution", default=_algorithm
)
_kept = os.environ.get("MINIGEN_PRECISION", "").strip() or None
_precision: contextvars.ContextVar[str | None] = contextvars.ContextVar("precision", default=_kept)
