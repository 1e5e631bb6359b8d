"""Captured steps as CUDA graphs: a program's kernels recorded once, then launched by one call.

The program that `capture` made is run once with the stream recording what it is given instead of
doing it. Arguments stand in memory of their own, into which later calls copy theirs; results are
copied out, so that one step's stay when the next is launched. What a graph would repeat unchanged
is numbers that the host passes (counters of noise, learning rates, steps): `Live` keeps them in
device memory and writes them before each launch. What a call does on the host (counting steps) is
noted as it is recorded (`graph.on_host`), and done at each replay, in the same order.
"""

import logging
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.graph import mode
from minigen.tensor import Tensor, raw

CHANCES = 8  # times that one program's graph is made, as what it took for granted changes
NUMBERS = 64  # changing numbers of each kind that a graph has room for

log = logging.getLogger(__name__)


class Replay:
    """A program of `capture` as a function that launches its CUDA graph, made at the first call.

    Where no graph can be made of it, one line in the log says why, and the program itself runs.
    """

    def __init__(self, program: Callable[..., Any], name: str):
        self.program, self.name = program, name
        self._graph: _Graph | None = None
        self._chances = CHANCES

    def __call__(self, *args: Any) -> Any:
        if not mode.graphs:
            return self.program(*args)
        if self._graph is None or not self._graph.fits(args):
            self._graph = None  # frees its memory before the next one takes as much
            self._graph = self._made(args)
        return self.program(*args) if self._graph is None else self._graph.launch(args)

    def _made(self, args):
        if not self._chances:
            return None
        self._chances -= 1
        if not self._chances:
            self._log(f"what it relies on has changed {CHANCES - 1} times")
            return None
        try:
            graph = _Graph(self.program, args)
        except Exception as error:  # of any kind: run without a graph, the step tells by itself
            self._chances = 0
            self._log(f"{type(error).__name__}: {error}")
            return None
        return graph if graph.fits(args) else None

    def _log(self, reason):
        reason = " ".join(reason.split())
        log.warning("capture: no CUDA graph of %s, it runs without: %s", self.name, reason)


class _Graph:
    """A program recorded for given arguments. Nothing has been computed before the first launch."""

    def __init__(self, program, args):
        self.inputs: list[tuple[int, Any]] = []  # (argument, the memory that stands for it)
        self.generators: list[tuple[int, Any]] = []
        given = [self._stand_in(i, a) if program.uses[i] else None for i, a in enumerate(args)]
        live = mode.live = self.live = Live()
        try:
            self.result, self.graph = backend.record_graph(lambda: program(*given))
        finally:
            mode.live = None
        self.program = program  # holds the arrays that the recorded kernels read
        self.kept = {id(value) for value in program.__globals__.values()}
        live.close()

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether all is still so that a replay does what the program would."""
        same = [vars(args[i]) is vars(generator) for i, generator in self.generators]
        return all(same) and all([holds() for holds in self.live.conditions])

    def launch(self, args: tuple[Any, ...]) -> Any:
        if self.inputs:
            kernels.copy_each(*chain.from_iterable([(to, raw(args[i])) for i, to in self.inputs]))
        self.live.advance()
        self.graph.launch()
        copies: list[Any] = []
        result = self._copied(self.result, copies)
        if copies:
            kernels.copy_each(*copies)
        return result

    def _stand_in(self, i, value):
        if hasattr(value, "reserve"):
            self.generators.append((i, value))
        value = raw(value)
        if backend.device_of(value) != backend.CPU:
            array = backend.like(value).empty_like(value)
            self.inputs.append((i, array))
            return array
        if hasattr(value, "shape") and not isinstance(value, np.generic):
            raise ValueError(f"argument {i} is on the cpu; move it to the GPU first")
        return value

    def _copied(self, value, copies):
        """The result in memory of its own, which `copies` tells how to fill.

        What is no result of the program is the same object.
        """
        if isinstance(value, (tuple, list)):
            return type(value)([self._copied(v, copies) for v in value])
        if isinstance(value, dict):
            return {key: self._copied(v, copies) for key, v in value.items()}
        if id(value) in self.kept:
            return value
        if isinstance(value, Tensor):
            return Tensor(self._copied(value.data, copies))
        if backend.device_of(value) == backend.CPU:
            return value
        copies += backend.like(value).empty_like(value), value
        return copies[-2]


class Live:
    """What changes from replay to replay: numbers in device memory, and what the host does.

    While a graph is recorded, nothing on the host changes: `acts` lists what to do at each replay,
    in order, `conditions` what has to hold for it.
    """

    def __init__(self):
        self.acts: list[Callable[[], Any]] = []
        self.conditions: list[Callable[[], bool]] = []
        xp = backend.module("cuda")
        self._floats, self._ints = xp.empty(NUMBERS, "float64"), xp.empty(NUMBERS, "int64")
        self._numbers: list[float] = []
        self._counters: list[int] = []
        self._told: dict[int, Any] = {}
        self._drawn: dict[int, list] = {}  # by generator: [its counter, blocks drawn in this step]

    def number(self, compute: Callable[[], Any]) -> Any:
        """A 0-d float64 array that holds compute() in each replay."""
        return self._slot(self._floats, self._numbers, compute)

    def draw(self, generator: Any, blocks: int) -> tuple[Any, int]:
        """Where a generator stands: (a 0-d array, what is to be added). `blocks` are used up."""
        key = id(vars(generator))  # which the objects that `capture` hands out share
        if key not in self._drawn:
            seed = generator.seed
            counter = self._slot(self._ints, self._counters, lambda: generator.counter)
            self._drawn[key] = [counter, 0]
            self.conditions.append(lambda: generator.seed == seed)
        counter, before = self._drawn[key]
        self._drawn[key][1] += blocks
        self.acts.append(lambda: generator._advance(blocks))
        return counter, before

    def agree(self, owner: Any, what: Any, otherwise: str) -> None:
        """Raise RuntimeError if an earlier call in this step told another thing of `owner`."""
        if self._told.setdefault(id(owner), what) != what:
            raise RuntimeError(otherwise)

    def close(self) -> None:
        """Nothing is to be added: take the arrays apart that `advance` writes."""
        from minigen.kernels.cuda import live

        self._store = live.storing(self._floats, self._numbers, self._ints, self._counters)

    def advance(self) -> None:
        """Do on the host what a step does, and write this replay's numbers."""
        for act in self.acts:
            act()
        self._store()

    def _slot(self, array, values, compute):
        i = len(values)
        if i == NUMBERS:
            raise RuntimeError(
                f"a step has more than {NUMBERS} numbers that change from step to step"
            )
        values.append(0)

        def act():
            values[i] = compute()

        self.acts.append(act)
        return array[i]
