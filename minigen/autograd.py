"""The engine: how an op is declared and recorded, and gradients as users ask for them.

What may never live here: any particular op, or anything that knows of a device. (The sweep through
what was recorded is in sweep.) An op is declared once,

    @op
    def multiply(x, y):
        return np.multiply(x, y)
    multiply.vjp(x=lambda g, y: g * y, y=lambda g, x: g * x)

its forward on raw arrays and under it, for each input, the vector-Jacobian product (VJP) written
with ops on Tensors, so that gradients can be differentiated again, to any order. A VJP asks for
what it needs by name: `g` (the output's gradient), `out`, any input or parameter, or
`<input>_shape`; only what is named is kept.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from typing import Any

import numpy as np

from minigen import backend
from minigen.graph import (
    Node,
    enable_grad,
    is_grad_enabled,  # noqa: F401  (offered here too)
    mode,
    new_id,
    no_grad,  # noqa: F401
    reachable,
    refuse_capture,
    set_grad_enabled,  # noqa: F401
)
from minigen.sweep import KEEP, sweep
from minigen.tensor import Tensor

REGISTRY: dict[str, Any] = {}  # every declared op and composed function, by name
OFFERED = {"g", "out", "i", "needed"}  # what a VJP may ask for besides the op's own parameters


# ------------------------------------------------------------------------------------ declaration


class Op:
    """A differentiable function of arrays. Made by `@op`; called with Tensors, arrays or numbers.

    The graph it records holds, for each call, the edges to the nodes of its inputs and the values
    that the VJPs of those inputs name. `sequence` says that the first argument is a list of
    arrays; `view` that the output may share the input's memory; `linear` which inputs it is linear
    in (they get an adjoint test).
    """

    def __init__(
        self, forward, *, differentiable=True, sequence=False, view=False, linear=(), cases=()
    ):
        wraps(forward)(self)
        parameters = inspect.signature(forward).parameters.values()
        self.forward, self.name = forward, forward.__name__
        self.names = tuple(p.name for p in parameters)
        if not OFFERED.isdisjoint(self.names):
            taken = sorted(OFFERED.intersection(self.names))
            raise TypeError(f"{self.name}: {taken} are names of what VJPs are offered; rename them")
        self.position = {name: i for i, name in enumerate(self.names)}
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.differentiable, self.sequence, self.view = differentiable, sequence, view
        self.linear, self.cases = tuple(linear), list(cases)
        self.elementwise = False  # whether operands may be transposed together; ops set it
        self.rules: list[tuple[tuple[int, ...], Callable, tuple[str, ...], bool]] = []
        self.due: dict[Any, list] = {}  # by mask of inputs: the rules that the sweep applies
        self._plans: dict[int, list] = {}  # by mask of inputs: what a call keeps
        REGISTRY[self.name] = self

    def vjp(self, **rules: Callable) -> None:
        """Declare the VJP of each input: `multiply.vjp(x=lambda g, y: g * y, y=...)`."""
        for name, rule in rules.items():
            self._add_rule((name,), rule, tuple(inspect.signature(rule).parameters), joint=False)

    def vjp_together(self, inputs: tuple[str, ...], rule: Callable) -> None:
        """Declare one VJP that returns the gradients of several inputs at once, as a tuple.

        It may ask for `needed`: which of them are wanted, a bool each; None will do for the others.
        """
        self._add_rule(inputs, rule, tuple(inspect.signature(rule).parameters))

    def vjp_from(self, inputs: tuple[str, ...], composite: Callable) -> None:
        """Derive the VJPs from `composite`: the same function of the same arguments, of ops."""

        def rule(g, needed, *args):
            fresh, begin = list(args), new_id()
            places = [self.position[name] for name in inputs]
            with enable_grad():
                for p, wanted in zip(places, needed, strict=True):
                    fresh[p] = alias(args[p]) if wanted else args[p]
                out = composite(*fresh)
            pairs = zip(_listed(out), _listed(g), strict=True)
            seeds = [((o.node, o.index), v) for o, v in pairs if o.node is not None]
            chosen = [p for p, wanted in zip(places, needed, strict=True) if wanted]
            targets = [(fresh[p].node, 0) for p in chosen]
            found = iter(sweep(seeds, targets, mode.recording, free=begin))
            return tuple([next(found) if wanted else None for wanted in needed])

        self._add_rule(inputs, rule, ("g", "needed", *self.names))

    def _add_rule(self, inputs, rule, wanted, joint=True):
        for name in wanted:
            if name not in OFFERED and _stem(name, self.names) is None:
                raise TypeError(f"{self.name}.vjp: no parameter {name!r} among {self.names}")
        self.rules.append((tuple(self.position[name] for name in inputs), rule, wanted, joint))

    def __call__(self, *args, **static):
        if static and (not self._inputs.isdisjoint(static) or Tensor in map(type, static.values())):
            args, static = self._by_position(args, static)
        tensors = args
        if self.sequence:
            tensors = list(args[0])
            args = (tensors, *args[1:])
        raw = [t.data if isinstance(t, Tensor) else t for t in tensors]
        try:
            if self.sequence:
                out = self.forward(raw, *args[1:], **static)
            elif self.elementwise and backend.gpu is not None:
                out = self.in_order(*raw, **static)
            else:
                out = self.forward(*raw, **static)
        except (TypeError, ValueError):
            backend.check_same_device(self.name, raw)
            raise
        if mode.tape is not None:
            out = mode.tape.op(self, tensors, args[1:], static, out)
        if mode.recording and self.differentiable:
            edges, mask = [], 0  # mask: which inputs hang on the graph
            for i, t in enumerate(tensors):
                if isinstance(t, Tensor) and t.node is not None:
                    edges.append((t.node, t.index))
                    mask |= 1 << i
                else:
                    edges.append(None)
            if mask:
                return self._record(edges, mask, args, static, out, raw)
        results = tuple(map(Tensor, out)) if type(out) is tuple else (Tensor(out),)
        if raw and (self.view or out is raw[0]):
            self._share(results, tensors[0])
        return results if type(out) is tuple else results[0]

    def in_order(self, *raw, **static):
        """The forward of an elementwise op, its result lying in memory as its operands do."""
        return backend.in_memory_order(self.forward, raw, static)

    def _record(self, edges, mask, args, static, out, raw):
        """Wrap `out` in Tensors on a new graph node that keeps what the VJPs will ask for."""
        node = Node(new_id(), self, edges)
        if type(out) is tuple:
            results = tuple([Tensor(o, node, i) for i, o in enumerate(out)])
        else:
            results = (Tensor(out, node),)
        if self.view or out is raw[0]:
            self._share(results, (args[0] if self.sequence else args)[0])
        node.outputs = [(t.data.shape, t.data.dtype) for t in results]
        saved, guards = node.saved, node.guards
        plan = self._plans.get(mask)
        for name, i, parameter, what in self._plan(mask) if plan is None else plan:
            if what == "out":  # its arrays, not the Tensors: those hold the node, a circle
                saved[name] = [(t.data, t.version) for t in results]
                guards.extend([(name, t.version, t.version[0]) for t in results])
                continue
            if i < len(args):
                value = args[i]
            else:
                value = static[parameter] if parameter in static else self.defaults[parameter]
            if what is not None:  # the shape or dtype only
                many = self.sequence and i == 0
                value = [_trait(v, what) for v in value] if many else _trait(value, what)
            elif isinstance(value, Tensor):
                guards.append((name, value.version, value.version[0]))
            elif isinstance(value, (tuple, list)):  # a sequence, or Tensors in an index
                for t in value:
                    if isinstance(t, Tensor):
                        guards.append((name, t.version, t.version[0]))
            saved[name] = value
        return results if type(out) is tuple else results[0]

    def _plan(self, mask):
        """What to keep for the inputs in `mask`: (name, position, parameter, what).

        `what` is None (the value), "shape", "dtype", "device", or "out".
        """
        plan: dict[str, tuple] = {}
        for positions, _, wanted, _ in self.rules:
            if self.sequence or any(mask >> p & 1 for p in positions):
                for name in wanted:
                    if name == "out":
                        plan[name] = (name, -1, name, "out")
                    elif name in self.position:
                        plan[name] = (name, self.position[name], name, None)
                    elif name not in OFFERED:
                        stem = _stem(name, self.names)
                        plan[name] = (name, self.position[stem], stem, name.rpartition("_")[2])
        self._plans[mask] = list(plan.values())
        return self._plans[mask]

    def _share(self, results, source):
        """A view has one version with what it is a view of."""
        for t in results if isinstance(source, Tensor) else ():
            if backend.may_share_memory(t.data, source.data):
                t.version = source.version

    def _by_position(self, args, static):
        """The same call with its array inputs, and other Tensors, passed by position."""
        unknown = [k for k in static if k not in self.position]
        if unknown:
            raise TypeError(f"{self.name}: unexpected argument {unknown[0]!r}; has {self.names}")
        arrays = [k for k, v in static.items() if k in self._inputs or isinstance(v, Tensor)]
        last = max(self.position[k] for k in arrays)
        names = self.names[len(args) : last + 1]
        missing = [n for n in names if n not in static and n not in self.defaults]
        if missing:
            raise TypeError(f"{self.name}: argument {missing[0]!r} is missing")
        filled = [static[n] if n in static else self.defaults[n] for n in names]
        return (*args, *filled), {k: v for k, v in static.items() if k not in names}

    @cached_property
    def _inputs(self):
        return {self.names[p] for positions, *_ in self.rules for p in positions}

    def __repr__(self):
        return f"<op {self.name}({', '.join(self.names)})>"


def op(forward=None, **options):
    """Declare an op: `@op` or `@op(differentiable=False, linear=("x",), cases=[...])`."""
    return Op(forward, **options) if forward else lambda fn: Op(fn, **options)


def composed(fn=None, *, differentiable=True, cases=()):
    """Register a function made of other ops, so that the gradient certificate covers it too."""
    if fn is None:
        return lambda f: composed(f, differentiable=differentiable, cases=cases)
    fn.cases, fn.differentiable, fn.linear = list(cases), differentiable, ()
    REGISTRY[fn.__name__] = fn
    return fn


def _stem(name, names):
    """The parameter that `x`, `x_shape`, `x_dtype` or `x_device` speaks of, or None."""
    for suffix in ("", "_shape", "_dtype", "_device"):
        if name.removesuffix(suffix) in names:
            return name.removesuffix(suffix)
    return None


def _trait(value, what):
    found = getattr(value, what, None)
    return np.shape(value) if found is None and what == "shape" else found  # a number or a list


@op(view=True, linear=("x",))
def alias(x):
    """The same array under a node of its own."""
    return x


alias.vjp(x=lambda g: g)


# --------------------------------------------------------------------------------------- gradients


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    retain_graph: bool = True,
) -> tuple[Tensor, ...]:
    """The gradients of sum(outputs * grad_outputs) by each input, as a tuple of Tensors.

    `grad_outputs` may be left out for outputs of one element. With `create_graph` the gradients
    can be differentiated again. An input that the outputs do not depend on raises, or gives None
    with `allow_unused`. The graph stays for other gradients, unless `retain_graph` is False: then
    its memory is freed on the way, and who asks it again gets a RuntimeError.
    """
    free = KEEP if retain_graph else -1
    return _grad(_listed(outputs), _listed(inputs), grad_outputs, create_graph, allow_unused, free)


def _grad(outputs, inputs, grad_outputs, create_graph, allow_unused, free):
    for i, t in enumerate(inputs):
        if not isinstance(t, Tensor) or t.node is None:
            raise ValueError(f"grad: input {i} does not require a gradient (requires_grad=False)")
    targets = [(t.node, t.index) for t in inputs]
    found = sweep(_seeds(outputs, grad_outputs), targets, create_graph, free=free)
    for i, (t, g) in enumerate(zip(inputs, found, strict=True)):
        if g is None and not allow_unused:
            raise ValueError(
                f"grad: the outputs do not depend on input {i} of shape {t.shape};"
                " pass allow_unused=True to get None for it"
            )
    return tuple(found)


def backward(
    outputs: Tensor | Sequence[Tensor], grad_outputs=None, retain_graph: bool = False
) -> None:
    """Add the gradients of the outputs to the `.grad` of every leaf they depend on.

    The graph's memory is freed on the way: another backward through it raises RuntimeError, unless
    this one is told to `retain_graph`.
    """
    refuse_capture("calls backward() (value_and_grad can be captured)")
    seeds = _seeds(_listed(outputs), grad_outputs)
    leaves = [n for n in reachable([node for (node, _), _ in seeds]) if n.op is None]
    taken = {id(g.data) for _, g in seeds}  # held by someone else: .grad is the leaf's own
    found = sweep(seeds, [(n, 0) for n in leaves], False, free=KEEP if retain_graph else -1)
    for leaf, g in zip(leaves, found, strict=True):
        if leaf.grad is not None:
            g = leaf.grad + g
        elif id(g.data) in taken or not getattr(g.data.flags, "writeable", True):
            g = Tensor(g.data.copy())
        taken.add(id(g.data))
        leaf.grad = g


Tensor.backward = backward


def value_and_grad(loss_fn: Callable, model: Any) -> Callable:
    """A function that returns `(loss, grads)`: the loss, and its gradients by the parameters.

    `model` is a Module or a sequence of Tensors; `grads` follows the order of
    `model.parameters()`, with None for a parameter that the loss does not depend on. If `loss_fn`
    returns a tuple, its first element is differentiated and the tuple comes back, detached. The
    memory of what `loss_fn` recorded is freed on the way back through it.
    """

    @wraps(loss_fn)
    def run(*args, **kwargs):
        parameters = list(model.parameters()) if hasattr(model, "parameters") else list(model)
        begin = new_id()
        with enable_grad():
            value = loss_fn(*args, **kwargs)
        loss = value[0] if isinstance(value, tuple) else value
        grads = _grad([loss], parameters, None, False, True, begin)
        if isinstance(value, tuple):
            return tuple(v.detach() if isinstance(v, Tensor) else v for v in value), grads
        return loss.detach(), grads

    return run


def _seeds(outputs, grad_outputs):
    """[((node, index), gradient)] of the outputs that hang on a graph."""
    grads = [None] * len(outputs) if grad_outputs is None else _listed(grad_outputs)
    if len(grads) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs, {len(grads)} grad_outputs; give one each")
    seeds = []
    for i, (t, g) in enumerate(zip(outputs, grads, strict=True)):
        if t.node is None:
            raise ValueError(
                f"grad: output {i} of shape {t.shape} depends on no tensor that requires a gradient"
            )
        if g is None:
            if t.size != 1:
                raise ValueError(
                    f"grad: output {i} has shape {t.shape}; give grad_outputs, or a scalar"
                )
            g = Tensor(backend.ones(t.shape, t.dtype, [t]))
        g = g if isinstance(g, Tensor) else Tensor(g)
        if g.shape != t.shape:
            raise ValueError(f"grad: output {i} has shape {t.shape}, its grad_output {g.shape}")
        seeds.append(((t.node, t.index), g))
    return seeds


def _listed(tensors):
    return [tensors] if hasattr(tensors, "shape") else list(tensors)
