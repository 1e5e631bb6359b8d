"""How CPU kernels are compiled: the decorators every kernel of this package uses.

`@kernel` makes a serial function, `@parallel_kernel` one whose `prange` loops run on
`minigen.kernels.get_num_threads()` threads. Both keep machine code on disk (cache.py), release the
GIL, divide as NumPy does. The first compilation of a process logs one line; loading from disk logs
nothing.

Nothing about any particular kernel lives here.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba.core import event

from .. import get_num_threads
from .cache import keep
from .linking import KernelCompiler, PartCompiler

# Sums may be reordered and a*b+c fused, so that loops vectorise; but NaN and infinity stay exactly
# as IEEE has them: "nnan" and "ninf" (and with them "fast") would let the compiler drop tests.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}


def kernel(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a serial function; it can be called from Python and from other kernels."""
    options = OPTIONS | {"no_cfunc_wrapper": True, "pipeline_class": KernelCompiler} | options
    return keep(numba.njit(**options)(function))


def helper(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a part of kernels, which call it; it has no machine code of its own."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Any = numba.njit(pipeline_class=PartCompiler, **OPTIONS | wrappers | options)(function)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{function.__name__} is called from compiled kernels only")

    # What Numba calls when Python does, and what would let Python call machine code at once.
    made._compile_for_args = refuse
    made.add_overload = lambda result: made.overloads.update({result.signature.args: result})
    return made


def inline_kernel(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A small helper that LLVM always inlines."""
    return helper(function, forceinline=True, **options)


def parallel_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with `prange` loops; call it from Python, by position."""
    jitted = kernel(function, parallel=True)

    @functools.wraps(function)
    def launch(*args: Any) -> Any:
        # Numba keeps the count per Python thread: pass on minigen's, once a thread and change.
        if getattr(_thread, "count", 0) != get_num_threads():
            _pass_on_thread_count()
        if _turn is None:
            return jitted(*args)
        with _turn:
            return jitted(*args)

    return launch


def _pass_on_thread_count() -> None:
    global _turn
    count = get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    _thread.count = count
    if _turn is None and numba.threading_layer() == "workqueue":
        with _choosing:
            _turn = _turn or threading.RLock()


class _CompileNotice(event.Listener):
    """Logs one line when a kernel of this package is compiled, which takes seconds in all."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if not self.said and function.__module__.startswith("minigen.kernels"):
            self.said = True
            logging.getLogger("minigen").info(
                "compiling CPU kernels on first use; the machine code is kept on disk"
            )

    def on_end(self, event: Any) -> None:
        pass

    said = False


def _keep_freed_memory() -> None:
    """Let glibc reuse big arrays instead of giving their pages back after each one.

    A fresh block above M_MMAP_THRESHOLD is mapped and zeroed page by page by the kernel, and
    unmapped when freed: a training step pays that for every large array. The largest threshold that
    glibc accepts is 32 MiB; up to 512 MiB of freed memory stay with the process.
    MINIGEN_MALLOC=default leaves the allocator alone, and so does a C library other than glibc.
    """
    if os.environ.get("MINIGEN_MALLOC") == "default" or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, 32 << 20)
    libc.mallopt(m_trim_threshold, 512 << 20)


_thread = threading.local()
# Without OpenMP or TBB, Numba aborts the process if two Python threads run parallel loops at once:
# there they take turns.
_turn: threading.RLock | None = None
_choosing = threading.Lock()
event.register("numba:compile", _CompileNotice())
_keep_freed_memory()
