"""Trading time for memory: inner arrays that are computed again when a gradient is asked for."""

import copy
from collections.abc import Callable
from typing import Any

from minigen.autograd import alias
from minigen.graph import Node, enable_grad, is_grad_enabled, new_id, reachable
from minigen.sweep import sweep
from minigen.tensor import Tensor


def checkpoint(fn: Callable, *args: Any) -> Any:
    """fn(*args), keeping none of its inner arrays: the backward sweep computes them again.

    Gradients also reach what `fn` closes over, such as a module's weights. A Generator among
    `args` is rewound, so that the second run draws the same numbers; other side effects of `fn`
    happen twice. Raises TypeError unless `fn` returns one Tensor. Chen et al. 2016.
    """
    if not is_grad_enabled():
        return fn(*args)
    kept = [_rewound(a) for a in args]
    start = new_id()
    trial = fn(*[alias(a) if isinstance(a, Tensor) and a.node is not None else a for a in args])
    if not isinstance(trial, Tensor):
        raise TypeError(f"checkpoint: fn returned {type(trial).__name__}; it must be one Tensor")
    if trial.node is None or trial.node.id < start:  # nothing was recorded inside
        return trial
    inside = [n for n in reachable([trial.node], after=start) if n.id > start]
    edges = dict.fromkeys(e for n in inside for e in n.edges if e is not None)
    outer = [e for e in edges if e[0].id < start]  # the arguments, and what fn closes over

    def rule(g, kept):
        begin = new_id()
        with enable_grad():
            again = fn(*map(_rewound, kept))
        seeds = [((again.node, again.index), g)]
        return tuple(sweep(seeds, outer, is_grad_enabled(), begin, free=begin))

    node = Node(new_id(), _Recompute(rule, len(outer)), tuple(outer))
    node.saved = {"kept": kept}
    node.outputs = ((trial.shape, trial.dtype),)
    node.guards = [("checkpoint", a.version, a.version[0]) for a in args if isinstance(a, Tensor)]
    node.guards += [guard for n in inside for guard in n.guards]  # for what fn closes over
    out = Tensor(trial.data, node)
    out.version = trial.version  # fn may have returned a view of an argument
    return out


def _rewound(argument):
    """A copy of a Generator as it stands; anything else as it is."""
    return copy.copy(argument) if hasattr(argument, "reserve") else argument


class _Recompute:
    """Stands where an Op stands in a node of `checkpoint`: one rule for all its edges."""

    sequence, name = False, "checkpoint"

    def __init__(self, rule, n):
        self.rules = [(tuple(range(n)), rule, ("g", "kept"), True)]
        self.due = {}
