"""The sweep back through what was recorded: each node's VJPs applied once, newest node first.

What may never live here: how ops are declared and called (autograd).
"""

import heapq

from minigen import backend
from minigen.graph import Node, reachable, set_grad_enabled
from minigen.tensor import Tensor


def sweep(seeds, targets, create_graph, after=-2):
    """Gradients at `targets`, pairs (node, output index); None where no path leads to one.

    `seeds` are pairs ((node, index), gradient). Nodes as old as `after` end the sweep.
    """
    oldest = min((node.id for node, _ in targets), default=0)
    wanted = {node for node, _ in targets}
    through, needed = set(), set()  # on a path to a target: no other VJP is worth computing
    for node in reachable([node for (node, _), _ in seeds], oldest, after):
        if node.id > after and any(e is not None and e[0] in needed for e in node.edges):
            through.add(node)
            needed.add(node)
        elif node in wanted:
            needed.add(node)
    grads: dict[Node, list] = {}
    queue: list[tuple[int, int, Node]] = []
    results: dict[tuple[Node, int], Tensor] = {}

    def add(node, index, g):
        slots = grads.get(node)
        if slots is None:
            slots = grads[node] = [None] * len(node.outputs)
            heapq.heappush(queue, (-node.id, id(node), node))
        slots[index] = g if slots[index] is None else slots[index] + g

    with set_grad_enabled(create_graph):
        for (node, index), g in seeds:
            if node in needed:
                add(node, index, g)
        while queue:
            node = heapq.heappop(queue)[2]
            slots = grads.pop(node)
            if node in wanted:
                results.update({(node, i): g for i, g in enumerate(slots) if g is not None})
            if node in through:
                _pull(node, slots, needed, add)
    if len(results) < len(targets):  # where VJPs said None on the way the gradient is zero
        linked = {edge for node in through for edge in node.edges}
        for node, i in linked.intersection(targets) - results.keys():
            results[node, i] = Tensor(backend.zeros(*node.outputs[i], [g for _, g in seeds]))
    return [results.get(target) for target in targets]


def _pull(node, slots, needed, add):
    """Apply a node's VJPs and hand each gradient to the node it belongs to."""
    for name, version, then in node.guards:
        if version[0] != then:
            raise RuntimeError(
                f"grad: {name!r}, saved by {node.op.name}, was written in place afterwards"
                f" (version {version[0]}, saved at {then}); write to a copy instead"
            )
    if len(slots) == 1:
        g = slots[0]
    else:
        g = tuple(
            slot if slot is not None else Tensor(backend.zeros(shape, dtype, slots))
            for slot, (shape, dtype) in zip(slots, node.outputs, strict=True)
        )
    values = {"g": g, **node.saved}
    if "out" in values:
        out = [Tensor(data, node, i) for i, (data, _) in enumerate(values["out"])]
        for t, (_, version) in zip(out, values["out"], strict=True):
            t.version = version
        values["out"] = out[0] if len(slots) == 1 else tuple(out)
    live = [edge is not None and edge[0] in needed for edge in node.edges]
    for positions, rule, wanted, joint in node.op.rules:
        if node.op.sequence:
            positions = range(len(live))
        positions = [(k, p) for k, p in enumerate(positions) if p < len(live) and live[p]]
        if joint and positions:
            found = rule(*[values[name] for name in wanted])
        for k, p in positions:
            values["i"] = p
            value = found[k] if joint else rule(*[values[name] for name in wanted])
            if value is not None:
                parent, index = node.edges[p]
                add(parent, index, _fit(value, *parent.outputs[index]))


def _fit(g, shape, dtype):
    """Undo broadcasting and promotion: the gradient in its input's shape and dtype."""
    if g.shape != shape:
        lead = g.ndim - len(shape)
        axes = tuple(
            i for i, n in enumerate(g.shape) if i < lead or (shape[i - lead] == 1 and n != 1)
        )
        g = g.sum(axes, keepdims=True).reshape(shape) if axes else g.reshape(shape)
    if g.dtype != dtype:
        g = (g.real if g.dtype.kind == "c" and dtype.kind != "c" else g).astype(dtype, copy=False)
    return g
