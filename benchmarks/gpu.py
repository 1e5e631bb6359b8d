"""Kernels on a GPU: their arguments, time without the host's, and what the GPU can do at most.

A call's time is that of a CUDA graph of several calls, so that the host's share is left out; the
host's time is that of giving calls to an idle queue. Limits are measured on the spot: a copy of 1
GB, counting bytes read and written, and matrix products of 8192 by the vendor's library.
"""

import statistics
import time

import cupy
import numpy as np
from minigen.kernels.cuda import launch as launcher

from minigen import backend, kernels

FACTOR = 16  # times the batch that kernel_cases has: arrays far beyond the caches
CALLS = 10  # in one graph
PRODUCTS = ("matmul", "linear", "linear_grads")  # and convolutions: with tensor cores or without


def limits():
    """Bytes a second of a copy, operations a second of products, microseconds of a launch."""
    found: dict[str, float | None] = {"gbs": _copy_gbs()}
    for precision in ("tf32", "float32"):
        found[f"gflops_{precision}"] = _product_gflops(precision)
    found["launch_us"] = _launch_us()
    return found


def _copy_gbs(count=1 << 28):
    """10^9 bytes a second read and written by the driver's copy on the device."""
    source, target = cupy.ones(count, np.float32), cupy.empty(count, np.float32)
    copy = lambda: target.data.copy_from_device_async(source.data, source.nbytes)
    return 2 * source.nbytes / device_ms(copy) / 1e6


def _product_gflops(precision, n=8192):
    """10^9 operations a second of cuBLAS on random numbers; None where it is missing."""
    part = np.random.default_rng(0).standard_normal((n, n // 16), np.float32)
    a = cupy.concatenate([cupy.asarray(part)] * 16, axis=1)
    b = a.T.copy()
    try:
        from cupy._core import _routines_linalg as linalg

        kind = linalg.COMPUTE_TYPE_TF32 if precision == "tf32" else linalg.COMPUTE_TYPE_FP32
        linalg.set_compute_type(np.float32, kind)
        ms = device_ms(lambda: cupy.matmul(a, b), graph=False)
        linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_DEFAULT)
    except (ImportError, RuntimeError):
        return None
    return 2 * n**3 / ms / 1e6


def _launch_us():
    """Microseconds of the host to launch a kernel of four arguments."""
    y, x = cupy.zeros((2, 32), np.float32)
    call = lambda: launcher.launch(
        "elementwise.leaky_relu", (1,), 32, y, x, 0.2, 32, T=np.dtype(np.float32)
    )
    return host_us(call)


def arguments(make, batch):
    """The arguments of a case, of FACTOR times the batch, on the GPU.

    Repeated there along the first axis, for what a host would take long to draw.
    """
    once, twice = make(batch), make(2 * batch)
    return tuple(_grown(a, b) for a, b in zip(once, twice, strict=True))


def _grown(value, twice):
    if isinstance(value, np.ndarray):
        grows = value.ndim and value.shape[0] != twice.shape[0]
        return on_gpu(value, FACTOR if grows else 1)
    grows = isinstance(value, int) and value != twice
    return value * FACTOR if grows else value


def on_gpu(value, times=1):
    """An array on the GPU in its memory order, repeated along the first axis; others unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim == 0:
        return cupy.asarray(value)
    order = sorted(range(value.ndim), key=lambda i: -value.strides[i])
    dense = cupy.asarray(np.ascontiguousarray(value.transpose(order)))
    if times > 1:
        dense = cupy.concatenate([dense] * times)
    return dense.transpose(np.argsort(order).tolist())


def device_ms(call, rounds=9, graph=True):
    """Milliseconds of a call on the GPU, the median of rounds of CALLS calls."""
    call()
    run = lambda: [call() for _ in range(CALLS)]
    if graph:
        kept, recorded = backend.record_graph(run)
        run = recorded.launch
        del kept
    run()
    times = []
    for _ in range(rounds):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / CALLS)
    return statistics.median(times)


def host_us(call, count=50, rounds=7):
    """Microseconds until a call returns, while the GPU's queue has room."""
    times = []
    for _ in range(rounds):
        cupy.cuda.Device().synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        times.append((time.perf_counter() - begin) / count * 1e6)
    cupy.cuda.Device().synchronize()
    return statistics.median(times)


def launches(call):
    """How many kernels a call launches."""
    count, found = 0, launcher._functions

    class Counting(dict):
        def get(self, key, default=None):
            nonlocal count
            count += 1
            return dict.get(self, key, default)

    launcher._functions = Counting(found)
    try:
        call()
    finally:
        found.update(launcher._functions)
        launcher._functions = found
    return count


def precisions(name, arguments):
    """In which precisions a kernel is measured, the default first; [None] without a choice."""
    products = name.startswith("conv") or name in PRODUCTS
    single = any(getattr(a, "dtype", None) == np.float32 for a in arguments)
    if not (products and single):
        return [None]
    return ["tf32", "float32"] if name.startswith("conv") else ["float32", "tf32"]


def measured(name, full, precision, flops):
    """A row's times and rates of a call with these arguments."""
    kernel, _ = kernels.implementation(name, "cuda")
    with kernels.use(precision=precision):
        call = lambda: kernel(*full)
        out = call()
        outs = () if out is None else out if isinstance(out, tuple) else (out,)
        moved = sum(a.nbytes for a in (*full, *outs) if isinstance(a, cupy.ndarray))
        count = launches(call)
        ms, host = device_ms(call), host_us(call)
    return {
        "ms": ms,
        "gflops": flops(outs[0], full) / ms / 1e6 if flops else None,
        "gbs": moved / ms / 1e6,
        "launches": count,
        "host_us": host,
    }
