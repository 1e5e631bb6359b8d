"""Devices and array modules. The only file that names cupy; nothing here knows of Tensor.

NumPy's own functions reach CuPy arrays through NumPy's protocols (`np.exp(cupy_array)`), so ops
seldom need to ask for a module; what needs one is making arrays (`zeros`, `asarray`) and moving
them (`to_device`).
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np

from minigen.graph import recorded

CPU = "cpu"
gpu: Any = None  # CuPy, once a GPU has been asked for and found


def device_of(array: Any) -> str:
    """"cpu" or "cuda:0", where an array lies. Looks cupy up only if somebody has imported it."""
    if isinstance(array, (np.ndarray, np.generic)):
        return CPU
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return f"cuda:{array.data.device_id}"
    return CPU


def module(device: str) -> Any:
    """NumPy for "cpu", CuPy for "cuda" or "cuda:N"; one clear error where there is no such GPU."""
    if device == CPU:
        return np
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise ValueError(f"device: {device!r} is unknown; there are 'cpu', 'cuda' and 'cuda:N'")
    known = gpu is not None and gpu is sys.modules.get("cupy")
    cupy: Any = gpu if known else _find_gpu(device)
    if number and int(number) >= (count := cupy.cuda.runtime.getDeviceCount()):
        raise ValueError(f"device {device!r}: there are {count} GPUs, counted from 'cuda:0'")
    return cupy


def _find_gpu(device):
    """CuPy, after seeing that it works here."""
    global gpu
    if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
        raise RuntimeError(f"device {device!r} needs CuPy: pip install 'minigen[cuda]'")
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    # No driver, an old one, no GPU (CUDARuntimeError), CUDA's libraries missing or of another kind.
    except (ImportError, OSError, RuntimeError) as error:
        lines = [line.strip(" =") for line in str(error).splitlines()]
        reason = next((line for line in reversed(lines) if line), type(error).__name__)
        raise RuntimeError(f"device {device!r}: CuPy finds no usable GPU ({reason})") from None
    if not count:
        raise RuntimeError(f"device {device!r}: CuPy finds no GPU")
    gpu = cupy
    return cupy


@contextmanager
def on(device: str) -> Iterator[Any]:
    """The module of `device`, whose arrays are made there: "cuda:1" is the current GPU inside."""
    xp = module(device)
    number = device.partition(":")[2]
    with xp.cuda.Device(int(number)) if number else nullcontext():
        yield xp


def use(device: str) -> None:
    """Let this thread work on `device`: "cuda:1" makes that GPU the one that "cuda" means."""
    xp, number = module(device), device.partition(":")[2]
    if number:
        xp.cuda.Device(int(number)).use()


def to_device(array: Any, device: str) -> Any:
    """The array on that device, in its memory order: itself if it is there, a copy if not."""
    here = device_of(array)
    if here == device or (device == "cuda" and here != CPU):
        return array
    order = None if array.flags.c_contiguous else memory_order(array)
    source = array if order is None else array.transpose(order)
    with on(device) as xp:
        moved = source.get() if xp is np else xp.asarray(source)
    return moved if order is None else moved.transpose(inverse(order))


def memory_order(array: Any) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory: (0, 2, 3, 1) for channels-last images."""
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    return tuple(sorted(range(array.ndim), key=lambda i: -abs(array.strides[i])))


def inverse(order: Any) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def in_memory_order(forward: Callable, values: Any, static: dict) -> Any:
    """An elementwise forward on a GPU, its result lying in memory as the largest operand does.

    NumPy does so by itself; CuPy's results are in C order, and slow to make from other operands.
    """
    arrays = [v for v in values if getattr(v, "ndim", 0) > 1]
    if all([v.flags.c_contiguous for v in arrays]):
        return forward(*values, **static)
    first = max(arrays, key=lambda v: v.size)
    ndim, order = first.ndim, memory_order(first)
    if first.flags.c_contiguous or any(v.ndim > ndim for v in arrays):
        return forward(*values, **static)
    if not first.transpose(order).flags.c_contiguous:
        return forward(*values, **static)
    moved = [
        v.reshape((1,) * (ndim - v.ndim) + v.shape).transpose(order)
        if getattr(v, "ndim", 0)
        else v
        for v in values
    ]
    return forward(*moved, **static).transpose(inverse(order))


def from_dlpack(data: Any) -> Any:
    """The memory of another library's array, on whichever device it is, as an array of ours."""
    on_gpu = data.__dlpack_device__()[0] in (2, 13)  # kDLCUDA, kDLCUDAManaged
    return module("cuda").from_dlpack(data) if on_gpu else np.from_dlpack(data)


def as_array(data: Any) -> Any:
    """A NumPy or CuPy array as it is; scalars, lists and subclasses as a NumPy array."""
    return np.asarray(data) if not _on_gpu(data) and device_of(data) == CPU else data


def _on_gpu(array):
    """Whether it is CuPy's, once a GPU has been used; quicker than to ask which GPU's."""
    return gpu is not None and isinstance(array, gpu.ndarray)


def like(array: Any) -> Any:
    """The module that makes arrays where `array` lies."""
    if isinstance(array, np.ndarray):
        return np
    return gpu if _on_gpu(array) else module(device_of(array).partition(":")[0])


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
    if type(a) is not type(b):
        return False
    return (a if a.base is None else a.base) is (b if b.base is None else b.base)  # CuPy's roots


@recorded
def zeros(shape: tuple[int, ...], dtype: Any, beside: Any) -> Any:
    """Zeros on the device of the first Tensor in `beside`."""
    return like(next(t.data for t in beside if t is not None)).zeros(shape, dtype)


@recorded
def ones(shape: tuple[int, ...], dtype: Any, beside: Any) -> Any:
    """Ones on the device of the first Tensor in `beside`."""
    return like(next(t.data for t in beside if t is not None)).ones(shape, dtype)


# CUDA graphs, and reading values back while the GPU works on. ------------------------------------


class Graph:
    """A CUDA graph: what `record_graph` saw, to be launched on the current stream."""

    def __init__(self, graph: Any, pool: Any):
        self._graph, self._pool = graph, pool

    def launch(self) -> None:
        """Let the GPU do it all again; returns at once."""
        self._graph.launch()


def record_graph(run: Callable[[], Any]) -> tuple[Any, Graph]:
    """(what `run` returns, the CUDA graph of the work that it gave to the current GPU).

    None of that work is done yet. What it allocates comes from a pool that lives as long as the
    graph and serves nobody else, so that the addresses in the graph stay its own. Where `run` waits
    for the GPU or calls what cannot be recorded, CuPy raises, and the recording is given up.
    """
    cupy = module("cuda")

    def allocate(size):
        try:
            return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            # In words of our own: for CuPy's the pool would free what the graph uses already.
            raise MemoryError(f"no memory for {size:,} bytes more of a CUDA graph") from error

    cupy.get_default_memory_pool().free_all_blocks()  # which the graph's pool could not take
    pool, stream = cupy.cuda.MemoryPool(allocate), cupy.cuda.Stream(non_blocking=True)
    pool.set_limit(size=0)  # the same happens at a limit
    with cupy.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        try:
            result = run()
        except BaseException:
            with suppress(cupy.cuda.runtime.CUDARuntimeError):  # an invalid graph, as well it may
                stream.end_capture()
            raise
        graph = stream.end_capture()
    return result, Graph(graph, pool)


class Reading:
    """Values of 0-d device arrays on their way to the host, behind the work given so far."""

    def __init__(self, arrays: Sequence[Any]):
        cupy = module("cuda")
        self._hosts = []
        for array in arrays:
            memory = cupy.cuda.alloc_pinned_memory(array.itemsize)
            host = np.frombuffer(memory, array.dtype, 1).reshape(())
            array.get(out=host, blocking=False)
            self._hosts.append(host)
        self._event = cupy.cuda.Event(disable_timing=True)
        self._event.record()

    def done(self) -> bool:
        """Whether `values` would not wait."""
        return self._event.done

    def values(self) -> list[Any]:
        """NumPy scalars, in order; waits for the GPU to come so far."""
        self._event.synchronize()
        return [host[()] for host in self._hosts]
