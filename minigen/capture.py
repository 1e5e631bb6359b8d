"""A training step recorded and then replayed, without graph, Tensors and dispatch.

Two ordinary calls are recorded as Python source: a line for each op's forward, in the order in
which they ran, those of the backward sweep included, and for each whole call of what draws or
writes (`graph.recorded`: generators, optimisers, averages). What a line takes is an argument of the
step, the result of an earlier line, or a constant; where both recordings agree in every line and
constant, the source becomes the program that later calls run. The same forwards see the same
numbers, so a replayed step gives the bits of an ordinary one. On a GPU the program becomes a CUDA
graph (`replay`).
"""

import copy
import re
from collections.abc import Callable, Sequence
from functools import update_wrapper
from itertools import count
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from minigen import backend
from minigen.graph import mode, refuse_capture
from minigen.tensor import Tensor, raw

LIMIT = 8  # programs kept, one for each combination of shapes, dtypes and plain values
PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic, MethodType)


def capture(function: Callable[..., Any]) -> "Captured":
    """`function`, replayed from its third call on: for steps of many small ops.

    It takes arrays, Tensors outside any graph, Generators and plain values, by position, and must
    do the same at every call but for the numbers. It may draw, take gradients, step optimisers and
    averages, clip, and return Tensors outside the graph, also in tuples, lists and dicts. A new
    shape, dtype or plain value, and `no_grad` around it, is recorded anew, and so is a step whose
    parameters were moved, frozen or given another array. The two recorded calls hold everything
    computed in them until they end: they need more memory than others.

    On a GPU the third call makes a CUDA graph, which it and later ones launch: one call for all
    kernels, on the current stream, with fresh noise and the present learning rates. The graph keeps
    the memory that it works in; results are copied out of it. A step that waits for the GPU, or
    uses arrays of the host, gets no graph: a line in the log says why, and the recording runs.

    Raises RuntimeError, in one line, for what a replay would not repeat: values read on the way
    (`item`), writes into Tensors, `backward` and `.grad`, arrays not made by minigen. Not seen, so
    capture again: train() and eval(), another object under an attribute's name, a branch that both
    recordings took to the same side (as one taken every k steps), and what reads or writes `.data`.
    """
    return Captured(function)


class Captured:
    """What `capture` returns: call it like the function."""

    def __init__(self, function: Callable[..., Any]):
        update_wrapper(self, function)
        self.function = function
        self._programs: dict[tuple, tuple[Callable, list]] = {}
        self._tapes: dict[tuple, Tape] = {}  # of what has been recorded once

    def __call__(self, *args: Any, **named: Any) -> Any:
        if mode.tape is not None:  # part of a step that is being recorded
            return self.function(*args, **named)
        if named:
            raise TypeError(f"capture: {next(iter(named))!r} is given by name; pass it by position")
        key = (mode.recording, *[_signature(i, a) for i, a in enumerate(args)])
        program, leaves = self._programs.get(key, (None, ()))
        if program is not None:
            if all([t.data is a and (t.node is None) is free for t, a, free in leaves]):
                return program(*args)
            self._programs.clear()
            self._tapes.clear()
        passed = [_passed(a) for a in args]
        tape = mode.tape = Tape(passed)
        try:
            out = self.function(*passed)
            tape.finish(out)
        finally:
            mode.tape = None
        first = self._tapes.pop(key, None)
        kept: dict = self._tapes if first is None else self._programs
        if len(kept) >= LIMIT:
            kept.pop(next(iter(kept)))
        kept[key] = tape if first is None else (self._program(tape, first, args), tape.leaves)
        return out

    def _program(self, tape, first, args):
        program = tape.program(first, len(args))
        arrays = [*map(raw, args), *[array for _, array, _ in tape.leaves]]
        if all([backend.device_of(array) == backend.CPU for array in arrays]):
            return program
        from minigen.replay import Replay

        return Replay(program, getattr(self, "__qualname__", repr(self.function)))

    def __get__(self, instance: Any, owner: Any = None) -> "Captured":
        """A method's own capture for each object, kept under the method's name."""
        if instance is None or type(self.function) is not FunctionType:
            return self
        bound, name = Captured(MethodType(self.function, instance)), self.function.__name__
        overridden = getattr(type(instance), name, None) is not self  # and called by super()
        return bound if overridden else vars(instance).setdefault(name, bound)

    def __deepcopy__(self, memo: dict) -> "Captured":
        return Captured(copy.deepcopy(self.function, memo))

    def __reduce__(self) -> Any:
        if isinstance(self.function, MethodType):
            owner, name = self.function.__self__, self.function.__name__
            if isinstance(getattr(type(owner), name, None), Captured):  # a decorated method
                return getattr, (owner, name)
        return Captured, (self.function,)


def _signature(i, value):
    """What must not change about an argument."""
    if isinstance(value, Tensor):
        if value.node is not None:
            raise RuntimeError(f"capture: argument {i} requires a gradient; pass it detached")
        value = value.data
    if isinstance(value, (bool, int, float, str, type(None), np.generic)):
        return type(value), repr(value)  # apart: 0.0 and -0.0
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value.shape, value.dtype, backend.device_of(value)
    if hasattr(value, "reserve"):
        return (type(value),)
    raise RuntimeError(
        f"capture: argument {i} is a {type(value).__name__}, expected an array, a Tensor, a"
        " Generator or a plain value"
    )


def _passed(value):
    """The same array or Generator as an object of its own, which names this argument alone.

    So what the step reaches by other ways too, by another argument or around it, stays apart.
    """
    if isinstance(value, Tensor):
        out = Tensor(value.data.view())
        out.version = value.version
        return out
    if hasattr(value, "reserve"):  # a Generator: another object with the same state
        out = object.__new__(type(value))
        out.__dict__ = value.__dict__
        return out
    on_gpu = backend.device_of(value) != backend.CPU
    return value.view() if on_gpu or isinstance(value, np.ndarray) else value


class _Int(int):
    """An int that a recorded call returned: an object of its own, so that it can be followed."""


class _Float(float):
    """A float, likewise."""


class Tape:
    """One recording: lines of source and the constants in them, k0, k1 ..."""

    def __init__(self, args: Sequence[Any]):
        self.lines: list[tuple[str, str]] = []  # (who is called, source)
        self.constants: list[tuple[str, Any]] = []  # (who takes it, value)
        self.leaves: list[tuple[Tensor, Any, bool]] = []  # (Tensor, its array, needs no gradient)
        self._names: dict[int, str] = {}  # by id
        self._alive: list[Any] = []  # so that no id passes to another object
        self._filled: list[tuple[str, list]] = []  # lists in which an op has left arrays
        self._seen: list[tuple[list, int]] = []  # versions of the leaves
        self._fresh = map("v{}".format, count())
        for i, value in enumerate(args):
            if not isinstance(value, PLAIN):
                self._name(raw(value), f"a{i}")

    def op(self, op: Any, inputs: Any, rest: tuple, static: dict, out: Any) -> Any:
        """Note an op's forward; returns its output as the arrays that the program will see."""
        self.check()
        given = [self._text(op.name, v, True) for v in inputs]
        if op.sequence:
            given = [f"[{', '.join(given)}]", *[self._text(op.name, v, True) for v in rest]]
        outs = out if type(out) is tuple else (out,)
        arrays = tuple([backend.as_array(o) for o in outs])
        forward = op.in_order if op.elementwise and backend.gpu is not None else op.forward
        call = self._call(op.name, forward, given, static, True)
        names = [self._name(a) for a in arrays]
        self.lines.append((op.name, f"{', '.join(names)}{',' * (out is outs)} = {call}"))
        for name, array, o in zip(names, arrays, outs, strict=True):
            if array is not o:  # a NumPy scalar
                self.lines.append((op.name, f"{name} = asarray({name})"))
        while self._filled:
            name, found = self._filled.pop()
            self._parts(op.name, found, name)
        return arrays if out is outs else arrays[0]

    def call(self, function: Callable, args: tuple, static: dict, out: Any) -> Any:
        """Note a whole call; returns its output, the numbers in it such as can be followed."""
        self._seen = [(version, version[0]) for version, _ in self._seen]
        where = function.__qualname__
        given = [self._text(where, a, False) for a in args]
        call, result = self._call(where, function, given, static, False), next(self._fresh)
        self.lines.append((where, f"{result} = {call}"))
        return self._parts(where, out, result)

    def check(self) -> None:
        """Refuse a step that writes into its parameters by itself."""
        if any([version[0] != then for version, then in self._seen]):
            refuse_capture("writes into a Tensor")

    def finish(self, out: Any) -> None:
        """Note what the step returns; let go of its arrays."""
        self.check()
        self.lines.append(("return", f"return {self._text('return', out, False)}"))
        self.leaves = list({id(leaf[0]): leaf for leaf in self.leaves}.values())
        self._names.clear()
        self._alive.clear()

    def program(self, first: "Tape", n: int) -> Callable:
        """The function of n arguments that both tapes agree on; raises where they do not."""
        for (a, line), (b, other) in zip(first.lines, self.lines, strict=False):
            if (a, line) != (b, other):
                what = f"{a} was called, then {b}" if a != b else f"{a} was called in two ways"
                raise RuntimeError(f"capture: two steps differ: {what}; they must do the same")
        if len(first.lines) != len(self.lines):
            counts = f"{len(first.lines)} and {len(self.lines)} calls"
            raise RuntimeError(f"capture: two steps differ: {counts}; they must do the same")
        for (where, a), (_, b) in zip(first.constants, self.constants, strict=True):
            if not _same(a, b):
                raise RuntimeError(
                    f"capture: {where} takes {_described(b)} that is neither an argument, nor"
                    f" computed by minigen, nor what it was one step before: {_described(a)}"
                )
        values = {f"k{i}": value for i, (_, value) in enumerate(self.constants)}
        body = [line for _, line in self.lines]
        uses = [bool(re.search(rf"\ba{i}\b", "\n".join(body))) for i in range(n)]
        lines = [f"a{i} = raw(a{i})" for i in range(n) if uses[i]] + body
        last = {name: i for i, line in enumerate(lines) for name in re.findall(r"\bv\d+", line)}
        for name, i in last.items():
            if i < len(lines) - 1:  # free each array as soon as it has been used
                lines[i] += f"; del {name}"
        head = f"def step({', '.join(f'a{i}' for i in range(n))}):\n    "
        values.update(raw=raw, Tensor=Tensor, asarray=backend.as_array)
        exec(compile(head + "\n    ".join(lines), "<captured step>", "exec"), values)
        values["step"].uses = uses  # which arguments it reads
        return values["step"]

    def _call(self, where, function, given, static, arrays):
        named = [f"{k}={self._text(where, v, arrays)}" for k, v in static.items()]
        return f"{self._constant('call', function)}({', '.join([*given, *named])})"

    def _name(self, value, name=None):
        name = self._names[id(value)] = name or next(self._fresh)
        self._alive.append(value)
        return name

    def _constant(self, where, value):
        self.constants.append((where, value))
        return f"k{len(self.constants) - 1}"

    def _parts(self, where, out, path):
        """Name what stands at `path` of a result; returns it, numbers exchanged."""
        if isinstance(out, (tuple, list)):
            return type(out)([self._parts(where, o, f"{path}[{i}]") for i, o in enumerate(out)])
        if type(out) in (int, float):
            out = _Int(out) if isinstance(out, int) else _Float(out)
        if not isinstance(out, (bool, str, bytes, type(None))):  # shared objects: ids say nothing
            array = f"{path}.data" if isinstance(out, Tensor) else path
            self.lines.append((where, f"{self._name(raw(out))} = {array}"))
        return out

    def _text(self, where, value, arrays):
        """An expression for a value: for the raw array of a Tensor, or for the Tensor itself."""
        if isinstance(value, Tensor):
            if where == "return" and not value.is_leaf:
                raise RuntimeError("capture: the step returns a Tensor in a graph; detach it")
            name = self._names.get(id(value.data))
            if name is not None:
                return name if arrays else f"Tensor({name})"
            self.leaves.append((value, value.data, value.node is None))
            self._seen.append((value.version, value.version[0]))
            return self._constant(where, value) + ".data" * arrays
        if id(value) in self._names:
            return self._names[id(value)]
        if isinstance(value, list) and value and all(map(self._is_new, value)):
            name = self._name(value)
            self._filled.append((name, value))
            self.lines.append((where, f"{name} = []"))
            return name
        if isinstance(value, (tuple, list)):
            inner = "".join([self._text(where, v, arrays) + ", " for v in value])
            return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
        if isinstance(value, dict):
            pairs = [f"{k!r}: {self._text(where, v, arrays)}" for k, v in value.items()]
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return f"slice({', '.join([self._text(where, v, arrays) for v in parts])})"
        self._alive.append(value)
        return self._constant(where, value)

    def _is_new(self, value):
        array = isinstance(value, np.ndarray) or backend.device_of(value) != backend.CPU
        return array and id(value) not in self._names


def _same(a, b):
    """Whether a constant is the same object, or a plain value that is equal (NaN too)."""
    if a is b:
        return True
    return type(a) is type(b) and isinstance(a, PLAIN) and (a == b or (a != a and b != b))


def _described(value):
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else repr(value)
