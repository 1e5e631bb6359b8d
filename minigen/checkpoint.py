"""Trading time for memory: a function whose inner arrays are computed again when its gradient is
asked for.
"""

import copy
from collections.abc import Callable
from typing import Any

from minigen.autograd import alias, enable_grad, is_grad_enabled, new_id, reachable, sweep
from minigen.tensor import Node, Tensor


def checkpoint(fn: Callable, *args: Any) -> Any:
    """fn(*args), keeping none of its inner arrays: the backward sweep computes them again.

    Gradients also reach what `fn` closes over, such as a module's weights. A Generator among
    `args` is rewound, so that the second run draws the same numbers; other side effects of `fn`
    happen twice. `fn` returns one Tensor.
    """
    if not is_grad_enabled():
        return fn(*args)
    replay = [copy.copy(a) if hasattr(a, "reserve") else a for a in args]
    start = new_id()
    trial = fn(*[alias(a) if isinstance(a, Tensor) and a.node is not None else a for a in args])
    if trial.node is None:
        return trial
    outer = []  # nodes older than the call that the result depends on: arguments and closure
    for node in reachable([trial.node], -1):
        for edge in node.edges if node.id > start else ():
            if edge is not None and edge[0].id < start and edge not in outer:
                outer.append(edge)

    def rule(g):
        with enable_grad():
            again = fn(*[copy.copy(a) if hasattr(a, "reserve") else a for a in replay])
        found = sweep([((again.node, again.index), g)], outer, is_grad_enabled())
        return tuple(found)

    node = Node(new_id(), _Recompute(rule, len(outer)), tuple(outer))
    node.outputs = ((trial.shape, trial.dtype),)
    node.guards = [("checkpoint", a.version, a.version[0]) for a in args if isinstance(a, Tensor)]
    return Tensor(trial.data, node)


class _Recompute:
    """Stands where an Op stands in a node of `checkpoint`: one rule for all its edges."""

    sequence, name = False, "checkpoint"

    def __init__(self, rule, n):
        self.rules = [(tuple(range(n)), rule, ("g",), True)]
