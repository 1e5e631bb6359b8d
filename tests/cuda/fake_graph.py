"""Stream capture of the stand-in for CuPy: what is called is noted instead of done.

While a stream captures, every function and method of the stand-in, and every kernel, is called once
on what is there, for the shapes of its results; then the memory that it wrote is put back, its
results are spoiled, and the call is noted. `Graph.launch` makes the noted calls, into the same
memory. Who waits for the device or brings memory there while capturing gets CuPy's error.
"""

from __future__ import annotations

import contextlib
import functools
import types
import weakref

import numpy as np

from tests.cuda.fake_cuda import CUDARuntimeError, get_current_stream

UNTOUCHED = (  # of an array: reads nothing, or waits
    "__init__", "__repr__", "__format__", "__len__", "__iter__", "__dlpack_device__", "get", "set",
    "item", "tolist", "tobytes", "__float__", "__int__", "__bool__", "__index__", "__complex__",
)  # fmt: skip
UPLOADS = ("asarray", "array", "_index")
OTHERS = ("install", "counted", "empty")  # of the stand-in's functions
CUBLAS = ("matmul", "dot", "tensordot", "einsum", "vdot", "inner", "outer", "__matmul__")

_capturing: Capture | None = None
_allocators: list = []


class MemoryPool:
    """Where a graph's memory comes from: it must outlive the graph."""

    def __init__(self, allocator=None):
        self.allocator = allocator

    def set_limit(self, size=None, fraction=None):
        pass

    def malloc(self, size):
        raise AssertionError("the stand-in allocates by itself")

    def free_all_blocks(self, stream=None):
        pass


_default_pool = MemoryPool()


def get_default_memory_pool():
    return _default_pool


@contextlib.contextmanager
def using_allocator(allocator=None):
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


class Graph:
    """Noted calls."""

    def __init__(self, calls, pool):
        self.calls, self.pool, self.launches = calls, pool, 0

    def launch(self, stream=None):
        assert _capturing is None, "a graph is launched into a capture"
        assert self.pool() is not None, "the memory of this graph is gone"
        self.launches += 1
        (stream or get_current_stream()).enqueue(self._run)

    def _run(self):
        with np.errstate(all="ignore"):
            for call in self.calls:
                call()


class Capture:
    """A capture under way: the stand-in's functions and the launcher's are wrapped meanwhile."""

    def __init__(self, stream):
        assert not stream.null, "cannot capture on the default (legacy) stream"
        assert _capturing is None and get_current_stream() is stream
        assert _allocators and _allocators[-1] is not None, "no private pool: use using_allocator"
        self.stream, self.calls, self.depth = stream, [], 0
        self.pool = weakref.ref(_allocators[-1].__self__)  # the graph must see that it stays
        self.before: list = []  # (namespace, name, value)

    def begin(self):
        global _capturing
        import cupy
        from minigen.kernels.cuda import launch

        from minigen import kernels

        _capturing = self
        self._replace(vars(cupy), "_wait", _refuse)
        for name in UPLOADS:
            self._replace(vars(cupy), name, self._upload(vars(cupy)[name]))
        for name, each in list(vars(cupy).items()):
            made_here = getattr(each, "__module__", "") == cupy.__name__
            public = not name.startswith("_") and name not in (*UPLOADS, *OTHERS)
            if isinstance(each, types.FunctionType) and made_here and public:
                self._replace(vars(cupy), name, self._noted(each))
        for name, each in list(vars(cupy.ndarray).items()):
            if isinstance(each, types.FunctionType) and name not in UNTOUCHED:
                self.before.append((cupy.ndarray, name, each))
                setattr(cupy.ndarray, name, self._noted(each))
        self.before.append((cupy.ndarray, "set", cupy.ndarray.set))
        cupy.ndarray.set = _refuse
        self.loaded = launch._functions, dict(launch._functions), launch.find
        for key, each in launch._functions.items():
            launch._functions[key] = self._noted(each)
        launch.find = lambda name, variant: self._noted(self.loaded[2](name, variant))
        for key, each in kernels._functions.items():
            if key[1] == "cuda" and each.__module__.startswith("tests."):
                self._replace(kernels._functions, key, self._noted(each))

    def end(self):
        global _capturing
        from minigen.kernels.cuda import launch

        for place, name, value in reversed(self.before):
            if isinstance(place, dict):
                place[name] = value
            else:
                setattr(place, name, value)
        functions, before, launch.find = self.loaded
        functions.clear()
        functions.update(before)
        _capturing = None
        return Graph(self.calls, self.pool)

    def _replace(self, place, name, value):
        self.before.append((place, name, place[name]))
        place[name] = value

    def _upload(self, function):
        @functools.wraps(function)
        def run(value, *args, **named):
            parts = value if isinstance(value, tuple) else (value,)
            kinds = (np.ndarray, list) if function.__name__ == "_index" else object
            if any(isinstance(part, kinds) and not hasattr(part, "_host") for part in parts):
                raise RuntimeError(
                    "the current stream is capturing, so H2D transfers are disallowed"
                )
            return function(value, *args, **named)

        return run

    def _noted(self, function):
        @functools.wraps(function)
        def run(*args, **named):
            if self.depth:
                return function(*args, **named)
            protocol = function.__name__ in ("__array_ufunc__", "__array_function__")
            name = args[1].__name__ if protocol else function.__name__
            if name in CUBLAS:
                raise RuntimeError("calling cuBLAS API during stream capture is unsupported")
            if name in ("concatenate", "stack") and len(args[3][0] if protocol else args[0]) > 8:
                _refuse()  # CuPy brings a table of addresses to the device
            inputs = _arrays((args, named))
            held = [np.array(a._host) for a in inputs]
            out = self._call(function, args, named)
            for array, before in zip(inputs, held, strict=True):
                if array._host.flags.writeable:
                    array._host[...] = before
            fresh = [not _shared(o, inputs) for o in _arrays(out)]
            for array, own in zip(_arrays(out), fresh, strict=True):
                if own and array._host.flags.writeable:
                    array._host.fill(np.nan if array.dtype.kind in "fc" else 0)

            def again():
                found = self._call(function, args, named)
                for to, array, own in zip(_arrays(out), _arrays(found), fresh, strict=True):
                    if own:
                        to._host[...] = array._host

            self.calls.append(again)
            return out

        return run

    def _call(self, function, args, named):
        self.depth += 1
        try:
            with np.errstate(all="ignore"):
                return function(*args, **named)
        finally:
            self.depth -= 1


def begin_capture(stream):
    """What Stream.begin_capture does."""
    Capture(stream).begin()


def end_capture(stream):
    """What Stream.end_capture does."""
    if _capturing is None or _capturing.stream is not stream:
        raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed")
    return _capturing.end()


def is_capturing(stream):
    """Whether the stream notes calls at present."""
    return _capturing is not None and _capturing.stream is stream


def _refuse(*args, **named):
    raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")


def _arrays(value):
    """All arrays of the stand-in within tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        return [a for v in value for a in _arrays(v)]
    if isinstance(value, dict):
        return [a for v in value.values() for a in _arrays(v)]
    return [value] if hasattr(value, "_host") else []


def _shared(array, others):
    return any(np.may_share_memory(array._host, other._host) for other in others)
