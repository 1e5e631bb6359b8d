"""The sweep back through what was recorded: each node's VJPs applied once, newest node first.

What may never live here: how ops are declared and called (autograd).
"""

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.graph import Node, reachable, recorded, set_grad_enabled
from minigen.tensor import Tensor

KEEP = float("inf")  # no node is as new: none is freed
LATER = 1 << 18  # elements up to which terms of a gradient by a leaf are kept, to be added together


def sweep(seeds, targets, create_graph, after=-2, free=KEEP):
    """Gradients at `targets`, pairs (node, output index); None where no path leads to one.

    `seeds` are pairs ((node, index), gradient). Nodes as old as `after` end the sweep; those newer
    than `free` lose what they saved as soon as it has been used, unless `create_graph`.
    """
    free = KEEP if create_graph else free
    oldest = min((node.id for node, _ in targets), default=0)
    wanted = {node for node, _ in targets}
    nodes = reachable([node for (node, _), _ in seeds], oldest, after)
    live: dict[Node, int] = {}  # which inputs lead to a target: no other VJP is worth computing
    for node in nodes:
        mask = 0
        if node.id > after:
            for p, edge in enumerate(node.edges):
                if edge is not None and edge[0] in live:
                    mask |= 1 << p
        if mask or node in wanted:
            live[node] = mask
    grads: dict[Node, list] = {}
    results: dict[tuple[Node, int], Tensor] = {}
    terms: dict[tuple[Node, int], list] = {}  # of leaves' gradients on a GPU: added at the end

    def add(node, index, g):
        slots = grads.get(node)
        if slots is None:
            slots = grads[node] = [None] * len(node.outputs)
        if slots[index] is None:
            slots[index] = g
        elif node.op is None and not create_graph and _is_small(g.data):
            terms.setdefault((node, index), []).append(g)
        else:
            slots[index] = slots[index] + g

    with set_grad_enabled(create_graph):
        for (node, index), g in seeds:
            if node in live:
                add(node, index, g)
        for node in reversed(nodes):
            slots = grads.pop(node, None)
            if slots is None:
                continue
            if node in wanted:
                results.update({(node, i): g for i, g in enumerate(slots) if g is not None})
            if live[node]:
                _pull(node, slots, live[node], add, node.id > free)
        while terms:  # the next term of each, in the order in which they came
            wait, summed = terms, [results[leaf] for leaf in terms]
            terms = {leaf: more[1:] for leaf, more in wait.items() if more[1:]}
            summed = _added(summed, [more[0] for more in wait.values()])
            results.update(zip(wait, summed, strict=True))
    if len(results) < len(targets):  # where VJPs said None on the way the gradient is zero
        linked = {edge for node, mask in live.items() if mask for edge in node.edges}
        for node, i in linked.intersection(targets) - results.keys():
            results[node, i] = Tensor(backend.zeros(*node.outputs[i], [g for _, g in seeds]))
    return [results.get(target) for target in targets]


def _is_small(array):
    """Whether adding it costs a GPU more to launch than to compute."""
    return not isinstance(array, np.ndarray) and array.size <= LATER


@recorded
def _added(xs, ys):
    """The sums of pairs of Tensors, in few launches."""
    pairs = zip([x.data for x in xs], [y.data for y in ys], strict=True)
    return [Tensor(data) for data in kernels.add_each(*[a for pair in pairs for a in pair])]


def _pull(node, slots, mask, add, free):
    """Apply a node's VJPs and hand each gradient to the node it belongs to."""
    op, saved = node.op, node.saved
    if saved is None:
        raise RuntimeError(
            f"grad: what {op.name} saved was freed by an earlier backward() or value_and_grad();"
            " give that backward retain_graph=True, or use grad(), which keeps the graph"
        )
    for name, version, then in node.guards:
        if version[0] != then:
            raise RuntimeError(
                f"grad: {name!r}, saved by {op.name}, was written in place afterwards"
                f" (version {version[0]}, saved at {then}); write to a copy instead"
            )
    values = dict(saved)
    if free:
        node.saved = saved = None
        node.guards = ()
    if len(slots) == 1:
        values["g"] = slots[0]
    else:
        values["g"] = tuple(
            slot if slot is not None else Tensor(backend.zeros(shape, dtype, slots))
            for slot, (shape, dtype) in zip(slots, node.outputs, strict=True)
        )
    if "out" in values:
        out = [Tensor(data, node, i) for i, (data, _) in enumerate(values["out"])]
        for t, (_, version) in zip(out, values["out"], strict=True):
            t.version = version
        values["out"] = out[0] if len(slots) == 1 else tuple(out)
    for rule, wanted, joint, needed, positions in _due(op, mask, len(node.edges)):
        if joint:
            values["needed"] = needed
            found = rule(*[values[name] for name in wanted])
        for k, p in positions:
            values["i"] = p
            value = found[k] if joint else rule(*[values[name] for name in wanted])
            if value is not None:
                parent, index = node.edges[p]
                add(parent, index, _fit(value, *parent.outputs[index]))


def _due(op, mask, n):
    """[(rule, the names it asks for, joint, needed, [(k, input)])] of the inputs in `mask`."""
    key = (mask, n) if op.sequence else mask
    due = op.due.get(key)
    if due is None:
        due = op.due[key] = []
        for positions, rule, wanted, joint in op.rules:
            positions = range(n) if op.sequence else positions
            needed = tuple([bool(mask >> p & 1) for p in positions])
            if any(needed):
                live = [(k, p) for k, p in enumerate(positions) if needed[k]]
                due.append((rule, wanted, joint, needed, live))
    return due


def _fit(g, shape, dtype):
    """Undo broadcasting and promotion: the gradient in its input's shape and dtype."""
    data = g.data
    if data.shape == shape and data.dtype == dtype:
        return g
    if data.shape != shape:
        lead = g.ndim - len(shape)
        inner = [i for i, n in enumerate(g.shape) if i >= lead and n != 1 == shape[i - lead]]
        if lead > 0 or inner:
            g = g.sum((*range(lead), *inner), keepdims=bool(inner))
        if g.shape != shape:
            g = g.reshape(shape)
    if g.dtype != dtype:
        g = (g.real if g.dtype.kind == "c" and dtype.kind != "c" else g).astype(dtype, copy=False)
    return g
