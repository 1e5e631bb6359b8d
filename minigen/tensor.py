"""Tensor: an array, its place in the graph, and its version. `minigen.ops` attaches its operators.

What may never live here: numerical work (that is `ops`) and devices (that is `backend`).

In-place use. `x += y` and `x[i] = y` write into the array when no gradient is involved, and every
view of it sees the change. Inside a recorded computation they make a new array instead: the name
moves to the result, views taken earlier keep the old values. Writing to a leaf that requires a
gradient raises unless `no_grad` is on. Each write raises the version that all views of one array
share; `grad` refuses a graph whose saved arrays have changed since.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from minigen import backend
from minigen.graph import Node, is_grad_enabled, refuse_capture


class Tensor:
    """An n-dimensional array that can be differentiated: `data`, not copied (see `tensor`)."""

    __slots__ = ("__weakref__", "data", "index", "node", "version")
    __array_ufunc__ = None  # so that ndarray + Tensor is Tensor.__radd__
    __array_priority__ = 1000

    if TYPE_CHECKING:  # attached by minigen.ops: what type checkers do not ask __getattr__ for
        backward: Any
        index_put: Any

        def _unary(self) -> "Tensor": ...
        def _binary(self, other: Any) -> "Tensor": ...
        def __add__(self, other: Any) -> "Tensor": ...
        def __sub__(self, other: Any) -> "Tensor": ...
        def __mul__(self, other: Any) -> "Tensor": ...
        def __truediv__(self, other: Any) -> "Tensor": ...

        __neg__ = __pos__ = __abs__ = __invert__ = _unary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __matmul__ = __rmatmul__ = _binary
        __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _binary
        __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __getitem__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = _binary
        __eq__ = __ne__ = _binary  # type: ignore[assignment]

    def __init__(self, data: Any, node: Node | None = None, index: int = 0):
        self.data = data if type(data) is np.ndarray else backend.as_array(data)
        self.node, self.index = node, index
        self.version = [0]

    # what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def device(self) -> str:
        return backend.device_of(self.data)

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise ValueError("requires_grad: only a leaf's can be set; use detach()")
        if value and self.dtype.kind not in "fc":
            raise TypeError(f"requires_grad: {self.dtype} has no gradient; use a floating dtype")
        if value and self.node is None:
            self.node = Node(-1)
            self.node.outputs = ((self.shape, self.dtype),)
        elif not value:
            self.node = None

    @property
    def is_leaf(self) -> bool:
        return self.node is None or self.node.op is None

    @property
    def grad(self) -> "Tensor | None":
        """What `backward` has accumulated here (leaves only)."""
        refuse_capture("reads .grad")
        return self.node.grad if self.node is not None else None

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        if self.node is None:
            raise ValueError("grad: this tensor does not require a gradient")
        refuse_capture("sets .grad")
        self.node.grad = value

    # leaving the library ---------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array: a view on the CPU, a copy from a GPU."""
        refuse_capture("reads values")
        view = backend.to_device(self.data, backend.CPU).view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The one value as a Python number."""
        refuse_capture("reads values")
        return self.data.item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        refuse_capture("reads values")
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        if name == "__cuda_array_interface__":
            return getattr(self.data, name)  # AttributeError for NumPy arrays, as asked
        raise AttributeError(f"Tensor has no attribute {name!r}")

    # moving and sharing ----------------------------------------------------------------------

    def detach(self) -> "Tensor":
        """The same memory, outside the graph."""
        out = Tensor(self.data)
        out.version = self.version
        return out

    def __setitem__(self, index: Any, value: Any) -> None:
        index = raw_index(index)
        if self._functional("x[...] = value", value):
            new = self.index_put(index, value)
            self.version[0] += 1  # graphs that saved the old value must notice
            self.data, self.node, self.index = new.data, new.node, new.index
            self.version = new.version
        else:
            self.data[index] = raw(value)
            self.version[0] += 1

    def _in_place(self, op: Any, other: Any) -> "Tensor":
        """x += other and its like, which `minigen.ops` attaches: a NumPy ufunc's op and `other`."""
        if not self._functional(op.name, other):
            getattr(np, op.name)(self.data, raw(other), out=self.data)
            self.version[0] += 1
            return self
        out = op(self, other)
        if out.shape != self.shape:
            raise ValueError(f"{op.name}: shape {self.shape} in place cannot become {out.shape}")
        return out if out.dtype == self.dtype else out.astype(self.dtype)

    def _functional(self, write: str, other: Any) -> bool:
        """Whether a write must make a new array, because a graph is being recorded through it."""
        if is_grad_enabled():
            if self.node is not None and self.node.op is None:
                raise RuntimeError(
                    f"{write} in place: this leaf of shape {self.shape} requires a gradient and"
                    " must not be written; use `with mg.no_grad():`"
                )
            if self.node is not None or getattr(other, "requires_grad", False):
                return True
        refuse_capture("writes into a Tensor")
        return False

    # Python's protocols ----------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return bool((self.numpy() == raw(value)).any())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.ndim == 0 else super().__format__(spec)

    def __index__(self) -> int:
        return self.numpy().__index__()

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        return tensor, (self.numpy(), None, "cpu", self.requires_grad)

    def __deepcopy__(self, memo: dict) -> "Tensor":
        return tensor(self, requires_grad=self.requires_grad)  # on its device, unlike pickles

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100)
        extra = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        extra += "" if self.device == "cpu" else f", device={self.device!r}"
        extra += ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{extra})"


def tensor(
    data: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A copy of `data`: numbers, nested lists, arrays, Tensors, Pillow images, DLPack.

    Python floats become float32, all else keeps its dtype. A Pillow image gives (H, W) or (H, W, C)
    uint8. The result is a leaf, outside the graph of `data`. Raises TypeError for what is not
    numbers, ValueError for ragged lists.
    """
    array = _as_array(data, dtype)
    if backend.device_of(array) == backend.CPU:
        array = np.array(array, copy=True)
    else:
        array = array.copy(order="K")
    if device is not None:
        array = backend.to_device(array, device)
    out = Tensor(array)
    if requires_grad:
        out.requires_grad = True
    return out


def asarray(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """A Tensor that shares `data`'s memory where it can (arrays, DLPack).

    What is shared must not be written from outside while a gradient needs it: such writes are not
    seen. A Tensor comes back itself, or converted within its graph.
    """
    if isinstance(data, Tensor):
        data = data if dtype is None else data.astype(dtype, copy=False)
        return data if device is None else data.to(device)
    array = _as_array(data, dtype)
    return Tensor(array if device is None else backend.to_device(array, device))


def _as_array(data: Any, dtype: Any) -> Any:
    if isinstance(data, Tensor):
        data = data.data
    if isinstance(data, (np.ndarray, np.generic)) or backend.device_of(data) != backend.CPU:
        return data if dtype is None else data.astype(dtype, copy=False)
    if hasattr(data, "__dlpack__"):
        array = backend.from_dlpack(data)
    elif hasattr(data, "__cuda_array_interface__"):
        array = backend.module("cuda").asarray(data)
    else:
        typed = hasattr(data, "__array__")
        if isinstance(data, (list, tuple)):
            data, typed = _plain(data)
        array = np.asarray(data)
        if array.dtype == np.float64 and not typed:
            array = array.astype(np.float32)  # Python floats: the working precision
    if array.dtype.kind not in "biufc":
        kind = type(data).__name__
        raise TypeError(f"tensor: cannot hold {array.dtype} (from {kind}); give numbers")
    return array if dtype is None else array.astype(dtype, copy=False)


def _plain(data: Any) -> tuple[Any, bool]:
    """Nested lists whose Tensors are replaced by arrays, and whether any element has a dtype."""
    if isinstance(data, (list, tuple)):
        pairs = [_plain(d) for d in data]
        return [d for d, _ in pairs], any(typed for _, typed in pairs)
    return (data.numpy(), True) if isinstance(data, Tensor) else (data, hasattr(data, "dtype"))


def raw(value: Any) -> Any:
    """The array behind a Tensor; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def raw_index(index: Any) -> Any:
    """An index whose Tensors are replaced by their arrays."""
    if isinstance(index, tuple):
        return tuple(map(raw, index))
    return raw(index)
