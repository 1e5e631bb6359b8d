"""Runs device code without a GPU: every thread of a block is a greenlet, in plain Python.

`load(module)` imports kernels/cuda/code/<module>.py with a language whose `cuda` is the one below.
Threads of a block run one after the other up to the next barrier; blocks run in a shuffled order.
A barrier that not all threads of a block (or lanes of a warp) reach raises, and so does a load or
store outside of an array. Shared and local memory start as NaN or a large number.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import itertools
import math
import random
import sys
import types
from pathlib import Path

import greenlet
import numpy as np

ROOT = "minigen.kernels.cuda.simulated"  # the same sources under another name
CODE = Path(__file__).parents[2] / "kernels" / "cuda" / "code"
WARP = 32


class _Dim(types.SimpleNamespace):
    """.x, .y and .z"""


class Pointer:
    """The memory from an array's first element on, as device code sees it."""

    def __init__(self, flat: np.ndarray):
        self.flat, self.size = flat, flat.size

    def __getitem__(self, i):
        if not 0 <= i < self.size:
            raise IndexError(f"a load at {i} of memory of {self.size} elements")
        return self.flat[i]

    def __setitem__(self, i, value):
        if not 0 <= i < self.size:
            raise IndexError(f"a store at {i} of memory of {self.size} elements")
        self.flat[i] = value


class Array(Pointer):
    """A shared or local array of one or more dimensions; negative indices raise, as they would."""

    def __init__(self, shape, dtype):
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        values = np.empty(shape, _dtype(dtype))
        values.fill(np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).max // 3)
        self.values, self.shape = values, shape

    def __getitem__(self, at):
        self._check(at)
        return self.values[at]

    def __setitem__(self, at, value):
        self._check(at)
        self.values[at] = value

    def _check(self, at):
        if type(at) is int and len(self.shape) == 1 and 0 <= at < self.shape[0]:
            return  # what most are
        at = at if isinstance(at, tuple) else (at,)
        if len(at) != len(self.shape) or not all(
            0 <= int(i) < n for i, n in zip(at, self.shape, strict=True)
        ):
            raise IndexError(f"index {at} of an array of shape {self.shape}")


class _Thread:
    """What one thread knows of itself."""

    def __init__(self, block, thread, lane):
        self.block, self.thread, self.lane = block, thread, lane
        self.shared_count = 0


class _Block:
    def __init__(self, index, block_dim, grid_dim, dynamic=0):
        self.index, self.block_dim, self.grid_dim = index, block_dim, grid_dim
        self.dynamic = dynamic  # bytes of shared memory
        self.shared: list[Array] = []
        self.given: dict[int, object] = {}  # what lanes pass to one another, by thread


def _me() -> _Thread:
    return greenlet.getcurrent().me


def wait(kind: str):
    """Stop here until all threads of the block ("block") or lanes of the warp ("warp") are here."""
    me = greenlet.getcurrent()
    me.waits = kind
    me.parent.switch()


def exchange(value):
    """Give a value to the warp, and get what each lane gave: for shuffles and the like."""
    me = _me()
    me.block.given[me.lane] = value
    wait("warp")
    first = me.lane // WARP * WARP
    given = [me.block.given.get(first + i) for i in range(WARP)]
    wait("warp")
    return given


class _Shared:
    def array(self, shape, dtype, alignment=None):
        me = _me()
        block, at = me.block, me.shared_count
        me.shared_count += 1
        if at == len(block.shared):
            if shape == 0:  # dynamic: what the launch asked for
                shape = block.dynamic // _dtype(dtype).itemsize
            block.shared.append(Array(shape, dtype))
        return block.shared[at]


class _Local:
    def array(self, shape, dtype, alignment=None):
        return Array(shape, dtype)


class _Cuda:
    """The part of numba.cuda that kernels use."""

    shared, local = _Shared(), _Local()
    threadIdx = property(lambda self: _Dim(x=_me().thread, y=0, z=0))
    blockIdx = property(lambda self: _Dim(**dict(zip("xyz", _me().block.index, strict=True))))
    blockDim = property(lambda self: _Dim(x=_me().block.block_dim, y=1, z=1))
    gridDim = property(lambda self: _Dim(**dict(zip("xyz", _me().block.grid_dim, strict=True))))
    laneid = property(lambda self: _me().thread % WARP)
    warpsize = WARP

    def grid(self, dims):
        assert dims == 1
        me = _me()
        return me.block.index[0] * me.block.block_dim + me.thread

    def gridsize(self, dims):
        assert dims == 1
        block = _me().block
        return block.grid_dim[0] * block.block_dim

    def syncthreads(self):
        wait("block")

    def syncwarp(self, mask=0xFFFFFFFF):
        wait("warp")

    def shfl_sync(self, mask, value, lane):
        return exchange(value)[lane % WARP]

    def shfl_xor_sync(self, mask, value, with_):
        return exchange(value)[self.laneid ^ with_]

    def shfl_down_sync(self, mask, value, by):
        given, lane = exchange(value), self.laneid
        return given[lane + by] if lane + by < WARP else value

    def fma(self, a, b, c):
        return type(a)(float(a) * float(b) + float(c))


cuda = _Cuda()


def _language() -> types.ModuleType:
    """kernels/cuda/code/language.py in plain Python."""
    source = (CODE / "language.py").read_text()
    fake_numba, fake_types = types.ModuleType("numba"), types.ModuleType("numba.types")
    fake_numba.cuda = cuda
    cuda.jit = lambda function=None, **options: function or (lambda f: f)
    for name in ("float32", "float64"):
        setattr(fake_types, name, getattr(np, name))
    for name in ("int8", "int32", "int64", "uint8", "uint32", "uint64"):
        setattr(fake_types, name, _Integer(name))
    fake_types.boolean = np.bool_
    kept = {name: sys.modules.get(name) for name in ("numba", "numba.types")}
    sys.modules.update({"numba": fake_numba, "numba.types": fake_types})
    try:
        module = types.ModuleType(f"{ROOT}.language")
        module.__package__ = ROOT
        sys.modules[module.__name__] = module
        exec(compile(source, str(CODE / "language.py"), "exec"), vars(module))
    finally:
        for name, each in kept.items():
            if each is None:
                del sys.modules[name]
            else:
                sys.modules[name] = each
    return module


class _Integer:
    """An integer type of device code: casts wrap around and give Python ints.

    But uint64 gives NumPy's, whose arithmetic wraps too.
    """

    def __init__(self, name):
        self.dtype = np.dtype(name)
        self.info = np.iinfo(self.dtype)

    def __call__(self, value):
        wrapped = (int(value) - self.info.min) % (1 << self.info.bits) + self.info.min
        return np.uint64(wrapped) if self.dtype == np.uint64 else wrapped


def _dtype(kind):
    return kind.dtype if isinstance(kind, _Integer) else np.dtype(kind)


@functools.cache
def load(module: str) -> types.ModuleType:
    """kernels/cuda/code/<module>.py for the simulator."""
    if ROOT not in sys.modules:
        package = types.ModuleType(ROOT)
        package.__path__ = [str(CODE)]
        sys.modules[ROOT] = package
        package.language = _language()
        special = Path(__file__).parent / "simulated_intrinsics.py"
        if special.is_file():  # inline assembly has a twin in Python
            sys.modules[f"{ROOT}.intrinsics"] = importlib.import_module(
                "tests.cuda.simulated_intrinsics"
            )
    loaded = importlib.import_module(f"{ROOT}.{module}")
    for name, each in sys.modules.items():
        if name.startswith(f"{ROOT}.") and hasattr(each, "math"):
            each.math = _Math()
    return loaded


class _Math:
    """`math` as device code has it: in the precision of the argument, and nothing overflows."""

    def __getattr__(self, name):
        value = getattr(math, name)
        if not callable(value):
            return value
        return getattr(np, name, None) or (lambda x: type(x)(value(x)))  # NumPy has no erf


def find(name: str, variant: dict) -> object:
    """What launch.find returns, for the simulator: called as a loaded kernel is."""
    module, _, kernel = name.partition(".")
    declared = getattr(load(module), kernel)
    check_variant(name, variant, declared)
    function, kinds = declared.function(variant), declared.arguments(variant)

    def run(blocks, threads, args, shared_mem=0):
        passed = check_arguments(name, declared, kinds, threads, args)
        passed = [Pointer(a) if isinstance(a, np.ndarray) else a for a in passed]
        simulate(function, blocks, threads[0], declared.grouped(passed), shared_mem)

    return run


def check_variant(name: str, variant: dict, declared) -> None:
    """Raise unless a kernel is built in this variant."""
    if set(variant) != set(declared.variants):
        raise TypeError(f"{name}: variants {list(variant)}, declared {list(declared.variants)}")
    for key, value in variant.items():
        if value not in declared.variants[key]:
            raise ValueError(f"{name}: {key}={value!r} is not built: {declared.variants[key]}")
    if list(variant) != list(declared.variants):
        raise TypeError(f"{name}: variants {list(variant)} out of order {list(declared.variants)}")


def check_arguments(name: str, declared, kinds: list[str], threads, args) -> list:
    """What is passed to a kernel: for an array its memory, empty where there is none."""
    if len(args) != len(kinds):
        raise TypeError(f"{name}: {len(args)} arguments, declared {len(kinds)}: {kinds}")
    assert threads[0] <= declared.threads, f"{name}: {threads} threads, at most {declared.threads}"
    return [_argument(name, a, k) for a, k in zip(args, kinds, strict=True)]


def _argument(name, value, kind):
    if kind == "int":
        assert type(value) is int, f"{name}: {value!r} for an int"
        return value
    if kind == "float":
        assert type(value) is float, f"{name}: {value!r} for a float"
        return value
    if value is None or (type(value) is int and value == 0):
        return np.empty(0)
    host = value._host
    expected = np.dtype(kind[:-1])
    if host.dtype != expected:
        raise TypeError(f"{name}: an array of {host.dtype} for {kind}")
    return _from_first(host)


def _from_first(array):
    """All elements from the array's first to its last in memory, whatever lies between."""
    if array.size == 0:
        return array.reshape(-1)
    assert all(s >= 0 for s in array.strides), "a pointer to an array with negative strides"
    span = 1 + sum(
        (n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)
    ) // array.itemsize
    return np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,))


def simulate(function, blocks, threads: int, args, dynamic: int = 0) -> None:
    """Run every block of the grid."""
    grid = (tuple(blocks) + (1, 1))[:3]
    order = list(itertools.product(*map(range, grid)))
    random.Random(7).shuffle(order)
    with np.errstate(all="ignore"):
        for index in order:
            _run_block(function, _Block(index, threads, grid, dynamic), args)


def _run_block(function, block, args):
    waiting = []
    for i in range(block.block_dim):
        thread = greenlet.greenlet(function)
        thread.gr_context = contextvars.copy_context()  # NumPy's errstate
        thread.me = _Thread(block, i, i)
        thread.waits = None
        waiting.append(thread)
    first = True
    while waiting:
        still = []
        for thread in waiting:
            thread.waits = None
            thread.switch(*args) if first else thread.switch()
            if not thread.dead:
                still.append(thread)
        first = False
        while any(t.waits == "warp" for t in still):
            still = _run_warps(still, block)
        if still and len(still) != len(waiting):
            raise RuntimeError(
                f"{len(still)} of {len(waiting)} threads of block {block.index} reach a barrier"
            )
        waiting = still


def _run_warps(threads, block):
    """Let warps go on as long as all of their lanes wait for the warp."""
    still = []
    for _, members in itertools.groupby(threads, key=lambda t: t.me.lane // WARP):
        warp = list(members)
        if not any(t.waits == "warp" for t in warp):
            still += warp
            continue
        expected = min(WARP, block.block_dim - warp[0].me.lane // WARP * WARP)
        if len(warp) != expected or not all(t.waits == "warp" for t in warp):
            raise RuntimeError(f"a warp's barrier that not all lanes of block {block.index} reach")
        for thread in warp:
            thread.waits = None
            thread.switch()
        still += [t for t in warp if not t.dead]
    return still
