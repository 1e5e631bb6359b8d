"""The graph: its nodes, and whether calls are recorded in it.

What may never live here: arrays, or how a graph is differentiated (sweep). The graph needs no list
of its own: Tensors hold their nodes, nodes the nodes they came from, and reference counting frees
it.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Node:
    """One call in the graph: its op, where its inputs come from, what its VJPs asked for."""

    __slots__ = ("__weakref__", "edges", "grad", "guards", "id", "op", "outputs", "saved")

    def __init__(self, id: int, op: Any = None, edges: tuple = ()):
        self.id, self.op, self.edges = id, op, edges
        self.saved: dict[str, Any] = {}
        self.guards: list[tuple[str, list[int], int]] = []
        self.outputs: tuple = ()
        self.grad: Any = None  # a leaf's, as a Tensor


def reachable(roots, oldest=-1, after=-2):
    """The nodes that `roots` depend on, from the oldest; those as old as `after` as mere ends."""
    seen, stack = set(roots), list(roots)
    while stack:
        node = stack.pop()
        for edge in node.edges if node.id > after else ():
            if edge is not None and edge[0] not in seen and edge[0].id >= oldest:
                seen.add(edge[0])
                stack.append(edge[0])
    return sorted(seen, key=lambda node: node.id)


class _Mode(threading.local):
    recording = True
    tape: Any = None  # what `capture` records at present
    live: Any = None  # what changes between replays of the CUDA graph that is being made (`replay`)
    graphs = True  # whether captured steps become CUDA graphs on a GPU


mode = _Mode()
new_id = itertools.count().__next__  # creation order is a topological order of any graph


class set_grad_enabled(ContextDecorator):
    """Context manager and decorator: record the graph inside, or not."""

    def __init__(self, enabled: bool):
        self.enabled = enabled
        self.before: list[bool] = []  # a stack: the same manager may be entered again inside

    def _recreate_cm(self):  # of ContextDecorator: a decorated function enters its own
        return set_grad_enabled(self.enabled)

    def __enter__(self):
        self.before.append(mode.recording)
        mode.recording = self.enabled

    def __exit__(self, *error):
        mode.recording = self.before.pop()


def no_grad() -> set_grad_enabled:
    """Inside, nothing is recorded: `with mg.no_grad(): ...` or `@mg.no_grad()`."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Inside, the graph is recorded, also within `no_grad`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether calls are being recorded."""
    return mode.recording


def recorded(function: F) -> F:
    """Decorator of what draws or writes: `capture` notes its calls as a whole, to repeat them.

    For CUDA graphs the function must say what it does besides kernels, by the functions below.
    """

    @wraps(function)
    def run(*args, **static):
        tape = mode.tape
        if tape is None:
            return function(*args, **static)
        tape.check()
        mode.tape = None
        try:
            out = function(*args, **static)
        finally:
            mode.tape = tape
        return tape.call(function, args, static, out)

    return run  # type: ignore[return-value]


# What recorded calls say for CUDA graphs, whose replays repeat kernels and not Python -------------


def changing(compute: Callable[[], Any]) -> Any:
    """compute(): a number that differs from step to step. In a CUDA graph, a 0-d device array."""
    return compute() if mode.live is None else mode.live.number(compute)


def on_host(act: Callable[[], None]) -> None:
    """act(): what a call changes on the host. For a CUDA graph, at each replay instead of now."""
    if mode.live is None:
        act()
    else:
        mode.live.acts.append(act)


def as_long_as(holds: Callable[[], bool]) -> None:
    """What a call took for granted about its objects: a CUDA graph is replayed while it holds."""
    if mode.live is not None:
        mode.live.conditions.append(holds)


def refuse_graph(what: str) -> None:
    """Raise RuntimeError if a CUDA graph is being made, which is not to repeat what follows."""
    if mode.live is not None:
        raise RuntimeError(what)


def written(*tensors: Any) -> None:
    """Raise the versions of Tensors whose arrays a call writes into."""

    def act():
        for t in tensors:
            t.version[0] += 1

    on_host(act)


@contextmanager
def cuda_graphs(enabled: bool) -> Iterator[None]:
    """Inside, steps captured on a GPU become CUDA graphs, or are replayed from Python alone."""
    before, mode.graphs = mode.graphs, enabled
    try:
        yield
    finally:
        mode.graphs = before


def refuse_capture(what: str) -> None:
    """Raise RuntimeError if a step is being captured: it cannot be replayed with what it does."""
    if mode.tape is not None:
        raise RuntimeError(f"capture: the step {what}, which a replay would not repeat")
