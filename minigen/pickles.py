"""Weights and data that others wrote as pickles, read without running anything of them.

A pickle is a program. Here it may call a handful of functions only, which make plain holders of
this file, so that neither NumPy's nor torch's own unpickling ever runs; it can change neither the
functions nor what was checked when it was made, nor ask for much more memory than it has bytes.
Nothing here writes.
"""

import codecs
import functools
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np

NUMBERS = frozenset({"u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # with which files begin that torch < 1.6 wrote
_STORAGES = {  # BFloat16 and the like have no NumPy type
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
}  # fmt: skip
_HUGE = 1 << 40  # elements; a length beyond is damage, and would overflow in NumPy
_FAULTS = (  # what reading a damaged file can raise
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, ValueError, TypeError,
    AttributeError, LookupError, OverflowError, MemoryError, RuntimeError,
)  # fmt: skip


class Refused(ValueError):
    """A pickle that asks for something that reading arrays does not need."""


def load_numpy(
    content: bytes, *, dtypes: Iterable[str] = NUMBERS, encoding: str = "ASCII"
) -> Any:  # fmt: skip
    """The lists, dicts, texts, numbers and NumPy arrays of a pickle; arrays only of `dtypes`.

    `encoding` is how texts of Python 2 are read ("bytes": not at all). Raises Refused for a pickle
    that names anything else, ValueError for a damaged one.
    """
    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): _new_array,
        ("numpy._core.multiarray", "_reconstruct"): _new_array,
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): lambda code, *flags: _Dtype(code, frozenset(dtypes)),
        ("_codecs", "encode"): _encode,
    }
    with _one_line():
        return _filled(_run(_Whole(content), allowed, encoding=encoding), {})


def load_torch(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch.save wrote (.pth, .pt), of old and new format.

    They are read-only; those of one storage share its memory. Raises Refused for a file that holds
    anything but a state dict, ValueError for a damaged one.
    """
    with _one_line():
        read = _from_zip if zipfile.is_zipfile(io.BytesIO(content)) else _from_legacy
        state, storages = read(content)
        if not isinstance(state, Mapping):
            raise Refused(f"a file of one {type(state).__name__}; expected a state dict of tensors")
        if not state:
            raise Refused("a state dict that holds nothing")
        for name, value in state.items():
            if not isinstance(name, str) or not isinstance(value, _Tensor):
                raise Refused(f"a state dict that holds {_said(name)}, which is no tensor")
        return {name: tensor.array(storages) for name, tensor in state.items()}


@contextmanager
def _one_line() -> Iterator[None]:
    """Whatever is wrong with a file is a ValueError of one line."""
    try:
        yield
    except Refused:
        raise
    except _FAULTS as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise ValueError(f"damaged: {reason}") from error


def _said(value: Any) -> str:
    """A value of a pickle in a message: short and of one line, whatever it is."""
    return repr(value[:60]) if isinstance(value, str | bytes) else f"one {type(value).__name__}"


class _Fixed:
    """What a pickle cannot change any more (its opcode BUILD would set any attribute)."""

    def __setstate__(self, state: Any) -> None:
        raise Refused("a pickle that changes what it has made")


class _Room:
    """How much the calls of a pickle may still be given: as many elements as it has bytes.

    It could else keep one long text and pass it on again and again, until the memory is full.
    """

    def __init__(self, size: int):
        self.left = size

    def take(self, arguments: Iterable[Any]) -> None:
        self.left -= sum(len(each) for each in arguments if isinstance(each, Sized))
        if self.left < 0:
            raise Refused("a pickle that makes more than it has bytes")


class _Call(_Fixed):
    """A function that a pickle may call, but not change."""

    def __init__(self, function: Callable[..., Any], room: _Room):
        self.function, self.room = function, room

    def __call__(self, *arguments: Any) -> Any:
        self.room.take(arguments)
        return self.function(*arguments)


class _Whole(io.BytesIO):
    """A file of which nothing may be missing."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError("it ends too early")
        return found

    def readline(self, size: int | None = -1) -> bytes:
        found = super().readline(size)
        if not found.endswith(b"\n"):
            raise EOFError("it ends too early")
        return found


def _refuse(unpickler: Any) -> None:
    raise Refused("a pickle that makes more than lists, dicts, texts, numbers and arrays")


class _Unpickler(pickle._Unpickler):
    """Admits the names of `allowed`; every other is refused.

    It is Python's own: the one in C sets aside 32 GB for a memo that BINPUT numbers 2**31, and its
    opcodes cannot be taken away. Those for objects and sets, which no array needs, are refused, as
    is BYTEARRAY8, which clears as much memory as it claims.
    """

    dispatch = pickle._Unpickler.dispatch | {
        opcode[0]: _refuse
        for opcode in (
            pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2,
            pickle.EXT4, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8,
            pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
        )
    }  # fmt: skip

    def __init__(self, file: _Whole, allowed: Mapping[tuple[str, str], Any], encoding: str):
        super().__init__(file, encoding=encoding)
        self.allowed, self.room = allowed, _Room(file.getbuffer().nbytes)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            asked = _said(f"{module}.{name}")[1:-1]
            raise Refused(f"a pickle that asks for {asked}, which is never executed")
        found = self.allowed[module, name]
        return _Call(found, self.room) if callable(found) else found

    def persistent_load(self, pid: Any) -> Any:
        """Where torch's pickle stands for numbers that lie elsewhere in the file."""
        if ("torch", "FloatStorage") not in self.allowed:
            raise Refused("a pickle that refers to another file")
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or dtype not in _STORAGES.values() or type(key) is not str:
            raise Refused(
                f"a pickle that refers to {_said(kind)} {_said(key)} of {_said(dtype)};"
                " expected a storage"
            )
        if type(count) is not int or not 0 <= count <= _HUGE:
            raise ValueError(f"a storage {_said(key)} without a length")
        return _Storage(np.dtype(dtype), key, count)


def _run(file: _Whole, allowed: Mapping[tuple[str, str], Any], encoding: str = "ASCII") -> Any:
    return _Unpickler(file, allowed, encoding).load()


# NumPy ---------------------------------------------------------------------------------------


class _Dtype:
    """A pickled dtype of plain numbers: its code and, once filled, its byte order."""

    def __init__(self, code: Any, dtypes: frozenset[str]):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code.lstrip("<>|=") not in dtypes:
            kinds = "integers" if not any("f" in each for each in dtypes) else "numbers"
            raise Refused(f"a pickle of dtype {_said(code)}; expected {kinds}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order: Any = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise Refused(f"a pickle of byte order {_said(order)}")
        self.value = self.value.newbyteorder(order)


class _Array:
    """A pickled array: empty when made, then filled with its shape, dtype and bytes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise Refused("a pickled array that is not filled with bytes of numbers")
        self.value = np.frombuffer(content, dtype.value).reshape(
            shape, order="F" if fortran else "C"
        )


def _new_array(kind: Any, *arguments: Any) -> _Array:
    """The empty array that the pickle then fills."""
    if kind != "ndarray":
        raise Refused("a pickle that builds something else than an array")
    return _Array()


def _encode(text: str, encoding: Any) -> bytes:
    """How Python 3 writes bytes into an old pickle protocol."""
    if encoding not in ("latin1", b"latin1"):
        raise Refused(f"a pickle that encodes to {_said(encoding)}; expected latin1")
    return codecs.encode(text, "latin1")


def _filled(value: Any, done: dict[int, Any]) -> Any:
    """What was read, with NumPy's arrays in the place of their holders.

    `done` has what became of each list, dict and holder: one may be at very many places.
    """
    if not isinstance(value, _Array | dict | list | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    found: Any
    if isinstance(value, _Array):
        found = value.value
        if found is None:
            raise ValueError("an array that was never filled")
    elif isinstance(value, dict):
        found = {key: _filled(each, done) for key, each in value.items()}
    else:
        found = [_filled(each, done) for each in value]
    done[id(value)] = found
    return found


# torch ---------------------------------------------------------------------------------------


class _Storage(_Fixed):
    """Numbers that lie in a part of the file of their own."""

    def __init__(self, dtype: np.dtype, key: str, count: int):
        self.dtype, self.key, self.count = dtype, key, count


class _Tensor(_Fixed):
    """A view of a storage, as torch._utils._rebuild_tensor_v2 describes it."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any):
        if not isinstance(storage, _Storage) or not 0 <= len(shape) == len(strides) <= 32:
            raise Refused("a tensor that is no view of a storage")
        # tuples, as the pickle could change lists later; plain integers before any arithmetic, as
        # it could multiply lists
        shape, strides = tuple(shape), tuple(strides)
        if any(type(n) is not int or not 0 <= n <= _HUGE for n in (offset, *shape, *strides)):
            raise ValueError("a tensor outside of its storage: its lengths are no numbers of it")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        size = math.prod(n or 1 for n in shape)
        inside = size <= _HUGE if 0 in shape else max(last + 1, size) <= storage.count
        if not inside:
            raise ValueError(f"a tensor of shape {shape} outside of its storage")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, storages: Callable[[str], bytes]) -> np.ndarray:
        """What it shows of its storage, without a copy: there may be many such tensors."""
        dtype = self.storage.dtype
        content = storages(self.storage.key)
        if len(content) != self.storage.count * dtype.itemsize:
            raise ValueError(
                f"storage {_said(self.storage.key)} has {len(content)} bytes,"
                f" expected {self.storage.count} numbers of {dtype}"
            )
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        flat = np.frombuffer(content, dtype)[self.offset :]
        strides = [each * dtype.itemsize for each in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)


class _State(dict[Any, Any]):
    """For torch's OrderedDict (dicts are ordered); its attribute _metadata is not needed."""

    def __setstate__(self, state: Any) -> None:
        pass


_TORCH: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
    ("collections", "OrderedDict"): _State,
    **{("torch", name): code for name, code in _STORAGES.items()},
}


def _from_zip(content: bytes) -> tuple[Any, Callable[[str], bytes]]:
    """(state, key -> bytes) of torch >= 1.6: a zip of data.pkl and one file a storage."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    files = archive.infolist()
    if any(file.compress_type != zipfile.ZIP_STORED for file in files):
        raise Refused("a compressed zip; torch.save stores its numbers as they are")
    if sum(file.file_size for file in files) > len(content):
        raise ValueError(f"a zip of {len(content)} bytes with longer files in it")
    pickled = [file.filename for file in files if file.filename.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise Refused(f"a zip with {len(pickled)} data.pkl; torch.save writes one")
    root = pickled[0].removesuffix("data.pkl")
    state = _run(_Whole(archive.read(pickled[0])), _TORCH)
    return state, functools.cache(lambda key: archive.read(f"{root}data/{key}"))


def _from_legacy(content: bytes) -> tuple[Any, Callable[[str], bytes]]:
    """(state, key -> bytes) of torch < 1.6: five pickles, then each storage after its length.

    They are a magic number, a version, the machine's types, the state and the storages' keys.
    """
    file = _Whole(content)
    if _run(file, {}) != LEGACY_MAGIC:
        raise Refused("no file of torch.save")
    _run(file, {}), _run(file, {})
    sizes: dict[str, int] = {}
    state = _run(file, _TORCH)
    if isinstance(state, Mapping):
        each = [tensor.storage for tensor in state.values() if isinstance(tensor, _Tensor)]
        sizes = {storage.key: storage.count * storage.dtype.itemsize for storage in each}
    found: dict[str, bytes] = {}
    for key in _run(file, {}):
        count = int.from_bytes(file.read(8), "little")
        if type(key) is not str or key not in sizes:
            raise ValueError(f"storage {_said(key)} of {count} numbers belongs to no tensor")
        found[key] = file.read(sizes[key])
    return state, lambda key: found.get(key, b"")
