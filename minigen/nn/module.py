"""Module: a plain object whose parameters, buffers and parts are found by walking its attributes.

What a module holds is what `vars(module)` holds, also inside lists, tuples and dicts: a Tensor
that requires a gradient is a parameter, another leaf Tensor a buffer, a Module a part, and any
other object with `state_dict` and `load_state_dict` (an optimiser, an EMA, a Generator) is
*stateful*: saved and loaded, not otherwise looked into. There is nothing to register, no
`super().__init__()` to forget, and no numerical work here.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from minigen import backend
from minigen.graph import written
from minigen.tensor import Tensor


class Module:
    """Base class of layers, networks and models: define `forward`, call the object."""

    training = True  # `train()` and `eval()` set it on the instance
    _frozen: set[Tensor]  # what `freeze` froze; not walked, as sets are not

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes; every module defines its own."""
        raise TypeError(f"{type(self).__name__}: has no forward method, so it cannot be called")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # what it holds ---------------------------------------------------------------------------

    def parameters(self) -> list[Tensor]:
        """The leaves that require a gradient, in the order of the attributes, shared ones once."""
        return [v for _, v in self._walk(None) if isinstance(v, Tensor) and v.node is not None]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """(dotted name, Tensor) of each parameter; a shared one under its first name."""
        return [(n, v) for n, v in self._walk() if isinstance(v, Tensor) and v.node is not None]

    def buffers(self) -> list[Tensor]:
        """The leaves that require no gradient: running statistics, constants, frozen parameters."""
        return [value for _, value in self.named_buffers()]

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """(dotted name, Tensor) of each buffer."""
        return [(n, v) for n, v in self._walk() if isinstance(v, Tensor) and v.node is None]

    def stateful(self) -> list[Any]:
        """The other objects with a state: optimisers, averages, generators of random numbers."""
        return [v for _, v in self._walk(None) if not isinstance(v, (Tensor, Module))]

    def modules(self) -> list["Module"]:
        """This module and all modules within, each once, parents before their parts."""
        return [self, *(value for _, value in self._walk() if isinstance(value, Module))]

    def named_modules(self) -> list[tuple[str, "Module"]]:
        """(dotted name, module) of this module, named "", and of all modules within."""
        return [("", self), *((n, v) for n, v in self._walk() if isinstance(v, Module))]

    def num_parameters(self) -> int:
        """How many numbers the parameters hold together."""
        return sum(p.size for p in self.parameters())

    def _members(self) -> Iterable[tuple[str, Any]]:
        """The attributes to walk; containers override it to leave their own name out."""
        return vars(self).items()

    def _walk(self, prefix: str | None = "") -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        _collect(self._members(), prefix, found, {id(self)})
        return found

    # saving and loading ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Every parameter and buffer by its dotted name, and what stateful objects give.

        Arrays are read-only views of the living memory (copies from a GPU): write them to a file
        at once, or copy them to keep them. Numbers of stateful objects stay numbers.
        """
        state: dict[str, Any] = {}
        for name, value in self._walk():
            if isinstance(value, Tensor):
                state[name] = value.numpy()
            elif not isinstance(value, Module):
                state.update((f"{name}.{key}", v) for key, v in value.state_dict().items())
        return state

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values in, keeping Tensors, dtypes and devices; returns (missing, unexpected).

        Raises KeyError naming them if any are missing or unexpected, unless `strict` is False,
        and ValueError where shapes or kinds of numbers differ; nothing has been written then.
        Stateful objects come last, and check what is theirs themselves.
        """
        tensors, stateful, rest = {}, {}, dict(state)
        missing: list[str] = []
        for name, value in self._walk():
            if isinstance(value, Tensor):
                if name in rest:
                    tensors[name] = (value, _array(rest.pop(name)))
                else:
                    missing.append(name)
            elif not isinstance(value, Module):
                keys = [key for key in rest if key.startswith(name + ".")]
                if keys:
                    part = {key[len(name) + 1 :]: _number(rest.pop(key)) for key in keys}
                    stateful[name] = (value, part)
                else:
                    missing += [f"{name}.{key}" for key in value.state_dict()]
        self._check_loaded(tensors, missing if strict else [], list(rest) if strict else [])
        for target, array in tensors.values():
            target.data[...] = backend.to_device(array, target.device)
            target.version[0] += 1
        for target, part in stateful.values():
            target.load_state_dict(part)
        return missing, list(rest)

    def _check_loaded(self, tensors, missing, unexpected):
        name = type(self).__name__
        if missing or unexpected:
            named = (("missing", missing), ("unexpected", unexpected))
            parts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in named if names]
            raise KeyError(f"{name}.load_state_dict: {'; '.join(parts)}")
        wrong = [
            f"{key} has {array.shape}, expected {target.shape}"
            for key, (target, array) in tensors.items()
            if array.shape != target.shape
        ]
        if wrong:
            raise ValueError(f"{name}.load_state_dict: {len(wrong)} shapes differ: {_some(wrong)}")
        wrong = [
            f"{key} is {array.dtype}, expected {target.dtype}"
            for key, (target, array) in tensors.items()
            if not np.can_cast(array.dtype, target.dtype, "same_kind")
        ]
        if wrong:
            raise ValueError(f"{name}.load_state_dict: {len(wrong)} dtypes differ: {_some(wrong)}")

    # states it can be in ---------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Put this module and all within in training mode: dropout drops, and so on."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all within in evaluation mode."""
        return self.train(False)

    def freeze(self) -> Self:
        """Make the parameters buffers: no gradients, no updates; `unfreeze` undoes it."""
        for module in self.modules():
            own = [v for _, v in _own(module) if v.node is not None]
            for t in own:
                t.requires_grad = False
            module._frozen = getattr(module, "_frozen", set()) | set(own)
        return self

    def unfreeze(self) -> Self:
        """Make what `freeze` froze parameters again."""
        for module in self.modules():
            for t in vars(module).pop("_frozen", ()):
                t.requires_grad = True
        return self

    def to(self, device: str | None = None, dtype: Any = None) -> Self:
        """Move every parameter and buffer, in place; `dtype` changes the floating ones.

        The Tensors stay the same objects, in the same memory order; gradients in `.grad` are
        dropped.
        """
        for _, t in self._walk():
            if not isinstance(t, Tensor):
                continue
            array = t.data if device is None else backend.to_device(t.data, device)
            if dtype is not None and array.dtype.kind in "fc":
                array = array.astype(dtype, copy=False)
            if array is not t.data:
                trained, t.requires_grad = t.requires_grad, False
                t.data = array
                t.version[0] += 1
                t.requires_grad = trained
        return self

    # showing it ------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr of a module without parts."""
        return ""

    def __repr__(self) -> str:
        lines = []
        found: list[tuple[str, Any]] = []
        for name, value in self._members():
            if isinstance(value, Module):
                lines.append((name, value))
            elif isinstance(value, (list, tuple, dict)):
                found.clear()
                _collect(((name, value),), "", found, {id(self)}, deep=False)
                lines += [(n, v) for n, v in found if isinstance(v, Module)]
        name, extra = type(self).__name__, self.extra_repr()
        if not lines:
            return f"{name}({extra})"
        body = "".join(f"\n({n}): {v!r}" for n, v in lines).replace("\n", "\n  ")
        return f"{name}({extra}{body}\n)"


class Weighted(Module):
    """A layer whose calls may use another weight than `weight` itself, made from it each time."""

    weight: Tensor
    reweight: Module | None = None  # what makes it, such as a SpectralNorm

    def used_weight(self) -> Tensor:
        """The weight that a call uses."""
        return self.weight if self.reweight is None else self.reweight(self.weight)


def _collect(members, prefix, found, seen, deep=True):
    """Append (name, object) of each Tensor, Module and stateful object under `members`, once.

    With prefix None the names are None: training asks for parameters at every step.
    """
    for name, value in members:
        kind = _kind(type(value))
        if kind == "plain":
            continue
        name = None if prefix is None else f"{prefix}{name}"
        if kind == "sequence" or kind == "dict":
            inner = enumerate(value) if kind == "sequence" else value.items()
            _collect(inner, name if name is None else name + ".", found, seen, deep)
            continue
        if id(value) in seen:
            continue
        if kind == "tensor" and value.node is not None and value.node.op is not None:
            continue  # a kept result of ops is neither parameter nor buffer
        seen.add(id(value))
        found.append((name, value))
        if kind == "module" and deep:
            _collect(value._members(), name if name is None else name + ".", found, seen)


@functools.lru_cache(maxsize=4096)
def _kind(type_: type) -> str:
    """What `_collect` does with objects of this type."""
    for kind, classes in _KINDS.items():
        if issubclass(type_, classes):
            return kind
    stateful = hasattr(type_, "state_dict") and hasattr(type_, "load_state_dict")
    return "stateful" if stateful and type_ is not type else "plain"


_KINDS: dict[str, Any] = {
    "dict": dict, "sequence": (list, tuple), "tensor": Tensor, "module": Module,
}  # fmt: skip


@contextmanager
def keeping(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the Tensors may be written into; afterwards they hold what they held before."""
    before = [t.data.copy() for t in tensors]
    try:
        yield
    finally:
        for t, array in zip(tensors, before, strict=True):
            t.data[...] = array
        written(*tensors)


def _own(module: Module) -> Iterator[tuple[str, Tensor]]:
    """The leaf Tensors that a module holds itself, not in its parts."""
    found: list[tuple[str, Any]] = []
    _collect(module._members(), "", found, {id(module)}, deep=False)
    return ((name, value) for name, value in found if isinstance(value, Tensor))


def _array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data
    return value if hasattr(value, "dtype") else np.asarray(value)


def _number(value: Any) -> Any:
    """A file's 0-d array as the Python number that it was; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _some(names: list[str], limit: int = 8) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
