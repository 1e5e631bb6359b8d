"""A stand-in for CuPy where there is no GPU: arrays on the host that behave as if they were not.

As strict as CuPy 14.2 is, or stricter: an array never turns into a NumPy array by itself, NumPy
arrays do not mix with these, NumPy's functions reach them through NumPy's protocols and only where
CuPy has them, results of ufuncs lie in C order whatever their operands' order, and an array is
used on its own GPU alone (there are two). `counts` says how often the host has waited for the
device, and how often memory was copied there. Kernels run in the simulator.
"""

from __future__ import annotations

import contextlib
import sys
import types
import weakref

import numpy as np

from tests.cuda import fake_methods
from tests.cuda.cupy_names import FFT, LACKING, LINALG, NAMES
from tests.cuda.fake_cuda import (
    CUDARuntimeError,
    Device,
    Event,
    Stream,
    alloc_pinned_memory,
    current,
    get_current_stream,
)
from tests.cuda.fake_graph import (  # noqa: F401
    Graph,
    MemoryPool,
    get_default_memory_pool,
    using_allocator,
)
from tests.cuda.fake_rules import (
    AT,
    COMPARING,
    CREATING,
    KEEPING,
    SPECIFIC,
    VIEWS,
    reversed_index,
    turned,
    waits,
)

GPUS = 2
counts = {"waits": 0, "uploads": 0}  # what the host waited for; NumPy arrays copied to the device
SCALARS = (bool, int, float, complex, np.generic)


def _wait():
    """The host reads what the device has computed."""
    get_current_stream().synchronize()
    counts["waits"] += 1


class ndarray(fake_methods.Reading):
    """A host array that only explicit calls copy out of here."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host, base=None, device_id=None):
        assert type(host) is np.ndarray, type(host)
        self._host, self.base = host, base
        self._device_id = current.device if device_id is None else device_id

    # what CuPy refuses
    def __array__(self, dtype=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    # attributes
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    T = property(lambda self: _view(self, self._host.T))
    mT = property(lambda self: _view(self, self._host.mT))
    imag = property(lambda self: _view(self, self._host.imag))
    device = property(lambda self: Device(self._device_id))
    __cuda_array_interface__ = property(
        lambda self: {
            "version": 3, "shape": self.shape, "typestr": self.dtype.str,
            "data": (self.data.ptr, False), "strides": self.strides, "stream": 1,
        }
    )  # fmt: skip

    @property
    def flags(self):
        flags = self._host.flags
        return types.SimpleNamespace(
            c_contiguous=flags.c_contiguous,
            f_contiguous=flags.f_contiguous,
            owndata=self.base is None,
        )

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._host.ctypes.data, device_id=self._device_id)

    @property
    def real(self):
        return _view(self, self._host.real) if self.dtype.kind == "c" else self

    # between host and device
    def get(self, stream=None, order="C", out=None, blocking=True):
        if not blocking:
            assert out is not None and out.dtype == self.dtype and out.shape == self.shape
            host = self._host
            (stream or get_current_stream()).enqueue(lambda: np.copyto(out, host))
            return out
        assert stream is None, "the stand-in only reads from the current stream"
        _wait()
        if out is None:
            return np.array(self._host, order=order)
        assert out.dtype == self.dtype and out.shape == self.shape
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype or self.shape != arr.shape:
            raise TypeError(f"{arr.dtype} {arr.shape} cannot be set to {self.dtype} {self.shape}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        counts["uploads"] += 1
        target, source = self._host, weakref.ref(arr)

        def copy():
            assert source() is not None, "host memory was given up before it was copied"
            np.copyto(target, source())

        (stream or get_current_stream()).enqueue(copy)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device == (1, 0):
            return self.get().__dlpack__()
        return Capsule(self)

    def __dlpack_device__(self):
        return (2, self._device_id)

    # indexing
    def __getitem__(self, at):
        at = _index(at, self)
        parts = at if isinstance(at, tuple) else (at,)
        if any(getattr(p, "dtype", "") == "bool" for p in parts):
            _wait()  # for the number of elements
        found = self._host[at]
        host = np.asarray(found)
        return _view(self, host)

    def __setitem__(self, at, value):
        at = _index(at, self)
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        value = _operand(value)
        places = self._host[at]
        if places.ndim and not np.may_share_memory(places, self._host):
            seen = np.zeros(self.shape, int)
            np.add.at(seen, at, 1)
            if (seen > 1).any() and not isinstance(value, SCALARS):
                # Who writes last is not known on a device: here it is who does not in NumPy.
                turn = turned(at)
                self._host[reversed_index(at)] = np.broadcast_to(value, places.shape)[turn]
                return
        self._host[at] = value

    # NumPy's protocols
    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **named):
        name = ufunc.__name__
        if name not in NAMES and name not in SPECIAL:
            return NotImplemented
        unknown = named.keys() - {"dtype", "casting"}
        if method == "__call__":
            if unknown:
                raise TypeError(f"Wrong arguments {sorted(unknown)}")
            return _call(ufunc, inputs, out, named)
        if method == "at":
            return _at(name, *inputs)
        if method in ("reduce", "accumulate") and name in ("add", "multiply"):
            array, *rest = inputs
            table = {"add": ("sum", "cumsum"), "multiply": ("prod", "cumprod")}
            chosen = table[name][method == "accumulate"]
            return getattr(array, chosen)(*rest or (0,), **named)
        raise TypeError(f"`cupy_{name}.{method}` is not supported yet")

    def __array_function__(self, function, types_, args, named):
        home, name = function.__module__, function.__name__
        known = {"numpy": NAMES, "numpy.linalg": LINALG, "numpy.fft": FFT}.get(home, ())
        if name not in known:
            return NotImplemented
        return _function(home.replace("numpy", "np", 1), function, name)(*args, **named)


SPECIAL = ("erf",)  # ufuncs of SciPy's that cupyx has


class Capsule:
    """What stands for a DLPack capsule of device memory."""

    def __init__(self, array):
        self.array = array


# ---------------------------------------------------------------------------- operands and results


def _operand(value):
    """The host array of an array of this module; scalars as they are; all else is refused."""
    if isinstance(value, ndarray):
        if value._device_id != current.device:
            raise ValueError(
                f"The device where the array resides ({value._device_id}) is different from the"
                f" current device ({current.device}). Peer access is unavailable"
            )
        return value._host
    if value is not None and not isinstance(value, SCALARS):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _view(source, host):
    """A result that is a view of source's memory, or an array of its own."""
    if not np.may_share_memory(host, source._host):
        return ndarray(np.array(host, order="C"), None, source._device_id)
    root = source if source.base is None else source.base
    return ndarray(host, root, source._device_id)


def _result(value, keep_order=False):
    if isinstance(value, (tuple, list)):
        kind = list if type(value) is list else tuple
        return kind(_result(v, keep_order) for v in value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return value
    if not keep_order and not value.flags.c_contiguous:
        value = np.array(value, order="C")  # of a 0-d array, ascontiguousarray has one axis
    return ndarray(value)


def _call(ufunc, inputs, out, named):
    if ufunc.__name__ in COMPARING:
        inputs = [x.item() if type(x) is np.ndarray and not x.ndim else x for x in inputs]
    given = [_operand(x) for x in inputs]
    if out is None:
        with np.errstate(all="ignore"):
            return _result(ufunc(*given, **named))
    if len(out) != 1:
        raise ValueError("The 'out' parameter must have exactly one array value")
    if not isinstance(out[0], ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    with np.errstate(all="ignore"):
        made = np.asarray(ufunc(*given, **named))
    target = _operand(out[0])
    if made.shape != target.shape:
        raise ValueError("Out shape is mismatched")
    np.copyto(target, made, casting="same_kind")
    return out[0]


def _at(name, array, indices, values):
    if array.dtype.char not in AT.get(name, ""):
        raise TypeError(f"cupy.{name}.at does not support {array.dtype}")
    if name in ("add", "subtract") and array.dtype.kind == "f":
        counts["atomics"] = counts.get("atomics", 0) + 1  # another order of sums in each run
    getattr(np, name).at(_operand(array), _index(indices, array), _operand(values))


def _index(at, array):
    """An index for the host array; as CuPy takes them, NumPy arrays and lists are uploaded."""
    if isinstance(at, tuple):
        return tuple(_index(a, array) for a in at)
    if isinstance(at, (np.ndarray, list)):
        counts["uploads"] += 1
        return np.asarray(at) if len(np.shape(at)) == 0 or np.size(at) else np.asarray(at, int)
    return _operand(at) if isinstance(at, ndarray) else at


# ------------------------------------------------------------------------------ module functions

def _deep(value):
    if isinstance(value, (tuple, list)):
        return type(value)(_deep(v) for v in value)
    if isinstance(value, dict):
        return {k: _deep(v) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")
    return _operand(value) if isinstance(value, ndarray) else value


def _function(home, function, name):
    """CuPy's function of a name: NumPy's, with what CuPy refuses."""

    def run(*args, **named):
        lacking = set(LACKING.get(name, "").split()).intersection(named)
        if lacking:
            raise TypeError(f"{name}() got an unexpected keyword argument {lacking.pop()!r}")
        SPECIFIC.get(name, lambda *a, **k: None)(*args, **named)
        if waits(name, args):
            _wait()
        sources = [a for a in args if isinstance(a, ndarray)]
        with np.errstate(all="ignore"):
            made = function(*_deep(args), **_deep(named))
        if name in VIEWS and len(sources) == 1:
            if isinstance(made, (list, tuple)):
                return type(made)(_view(sources[0], m) for m in made)
            return _view(sources[0], np.asarray(made))
        if type(made) is np.ndarray and made.dtype.kind == "f" and name.startswith("empty"):
            made.fill(np.nan)  # so that what a kernel forgets to write shows
        return _result(made, keep_order=name in KEEPING)

    return run


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray) and a._device_id != current.device:
        return ndarray(np.array(a._host, dtype, order="K"))
    if isinstance(a, ndarray):
        return a if dtype is None else a.astype(dtype, copy=False)
    counts["uploads"] += isinstance(a, np.ndarray) and a.ndim > 0
    fortran = isinstance(a, np.ndarray) and a.flags.fnc and order is None
    return ndarray(np.array(a, dtype, order="F" if fortran else "C"))


def array(obj, dtype=None, copy=True, order="K"):
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, order=order, copy=copy)
    return asarray(obj, dtype)


def ascontiguousarray(a, dtype=None):
    host = _operand(a)
    same = host.flags.c_contiguous and (dtype is None or host.dtype == dtype)
    made = a if same else ndarray(np.array(host, dtype, order="C"))
    return made if host.ndim else made.reshape(1)


def empty(shape, dtype=np.float64, order="C"):
    host = np.empty(shape, dtype, order)
    if host.dtype.kind == "f":
        host.fill(np.nan)
    return ndarray(host)


def arange(*bounds, dtype=None):
    return ndarray(np.arange(*map(_scalar, bounds), dtype=dtype))


def result_type(*values):
    return np.result_type(*[v.dtype if isinstance(v, ndarray) else v for v in values])


def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(a._host, b._host)


def from_dlpack(array, *, device=None, copy=None):
    return _view(array.__dlpack__().array, array.__dlpack__().array._host)


def put_along_axis(arr, indices, values, axis):
    np.put_along_axis(_operand(arr), _operand(indices), _operand(values), axis)


def _scalar(value):
    return value.item() if isinstance(value, ndarray) else value


def __getattr__(name):
    """What is not defined above: CuPy's other functions, ufuncs and types, made from NumPy's."""
    if name not in NAMES:
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    numpys = getattr(np, name)
    if isinstance(numpys, np.ufunc):

        def run(*args, out=None, **named):
            return _call(numpys, args, None if out is None else (out,), named)

        return run
    if name in CREATING:
        return lambda *args, **named: ndarray(np.array(numpys(*map(_scalar, args), **named)))
    return numpys if isinstance(numpys, (type, float)) else _function("np", numpys, name)


linalg = types.SimpleNamespace(
    **{n: _function("np.linalg", getattr(np.linalg, n), n) for n in LINALG}
)
fft = types.SimpleNamespace(**{n: _function("np.fft", getattr(np.fft, n), n) for n in FFT})

fake_methods.attach(sys.modules[__name__])

# ------------------------------------------------------------------------------------- the device


def _device_count():
    return GPUS


def _properties(i):
    return {"name": b"Stand-in", "totalGlobalMem": 1 << 30, "major": 9, "minor": 0}


cuda = types.SimpleNamespace(
    Device=Device,
    Stream=Stream,
    Event=Event,
    Graph=Graph,
    MemoryPool=MemoryPool,
    using_allocator=using_allocator,
    alloc_pinned_memory=alloc_pinned_memory,
    get_current_stream=get_current_stream,
    runtime=types.SimpleNamespace(
        getDeviceCount=_device_count, getDevice=lambda: current.device,
        getDeviceProperties=_properties, CUDARuntimeError=CUDARuntimeError,
    ),
)  # fmt: skip


def install() -> types.ModuleType:
    """Put this module in CuPy's place; returns it."""
    module = sys.modules[__name__]
    sys.modules["cupy"] = module
    return module


@contextlib.contextmanager
def counted(**expected):
    """Inside, what `counts` counts must come to as much: `with counted(waits=0):`."""
    before = dict(counts)
    yield
    for name, n in expected.items():
        found = counts.get(name, 0) - before.get(name, 0)
        assert found == n, f"{name}: {found}, expected {n}"
