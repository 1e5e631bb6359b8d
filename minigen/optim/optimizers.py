"""SGD, RMSprop, Adam and AdamW: one kernel call for each stretch of parameters in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.graph import (
    as_long_as,
    changing,
    mode,
    on_host,
    recorded,
    refuse_capture,
    refuse_graph,
    written,
)
from minigen.optim.flat import Block, by_kind, flatten, memory
from minigen.optim.state import load_views, named_leaves
from minigen.tensor import Tensor, raw

PLAIN = (bool, int, float, tuple)  # types of an optimiser's settings
# Elements from which sparing a gradient's copy is worth a kernel call of its own.
LARGE, LARGE_ON_GPU = 1 << 16, 1 << 20


class Optimizer:
    """What all optimisers share: parameters, their state in flat buffers, saving, learning rate.

    At construction the parameters' arrays become views of one buffer; the Tensors stay the same,
    but arrays taken from them before go stale. Parameters may belong to several optimisers, be
    moved, loaded or rebound: a step notices. Raises ValueError for no parameters, twice the same,
    or one that requires no gradient.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Any, lr: float | Callable[[int], float]):
        self.names, self.parameters = named_leaves(type(self).__name__, parameters)
        if not callable(lr) and not lr >= 0:
            name = type(self).__name__
            raise ValueError(f"{name}: lr is {lr}, expected a number >= 0 or a schedule")
        self.schedule = lr if callable(lr) else None
        self._lr: Any = lr
        self.step_count = 0  # steps taken; what schedules see
        self.steps = [0] * len(self.parameters)  # of each: those without gradient are skipped
        self._groups = by_kind(self.parameters)
        self._blocks: list[Block] = []
        self._arrange()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._lr if self.schedule is None else self.schedule(self.step_count))

    @lr.setter
    def lr(self, value: float | Callable[[int], float]) -> None:
        self.schedule = value if callable(value) else None
        self._lr = value

    def step(self, grads: Sequence[Tensor | None] | None = None) -> None:
        """Update the parameters by `grads`, in their order, or by each `.grad`; None skips one.

        Raises ValueError if the number of gradients or a shape is wrong; nothing has been changed
        then.
        """
        if grads is None:
            refuse_capture("steps by .grad (gradients given to step can be captured)")
            grads = [t.grad for t in self.parameters]
            if all(g is None for g in grads):
                name = type(self).__name__
                raise ValueError(f"{name}.step: no .grad is set; call backward() or pass gradients")
        self._step(grads)

    @recorded
    def _step(self, grads):
        arrays = self._checked(grads)
        if not all(block.is_current() for block in self._blocks):
            self._arrange()
        stepped = [i for i, array in enumerate(arrays) if array is not None]
        if mode.live is not None:  # which does not see the steps before it in this graph
            mode.live.agree(self, stepped, "an optimizer steps over these parameters, then others")
        as_long_as(self._standing(stepped))
        lr, steps = changing(lambda: self.lr), {}
        for group, (members, block) in enumerate(zip(self._groups, self._blocks, strict=True)):
            state = [block.buffers[name] for name in self.state_names]
            for first, last, grad in self._spans(group, arrays):
                param, part = block.stretch(first, last)
                taken = self.steps[members[first]]
                if taken not in steps:
                    steps[taken] = changing(lambda i=members[first]: self.steps[i] + 1)
                self._update(param, grad, [s[part] for s in state], lr, steps[taken])
        written(*[self.parameters[i] for i in stepped])
        on_host(lambda: self._count(stepped))

    def _count(self, stepped):
        for i in stepped:
            self.steps[i] += 1
        self.step_count += 1

    def _standing(self, stepped):
        """Whether what `_step` goes by, but for changing numbers, is still what it is now.

        Of the steps taken that is how they differ, and that no parameter takes its first.
        """

        def now():
            counts = [self.steps[i] for i in stepped] or [1]
            settings = {k: v for k, v in vars(self).items() if type(v) in PLAIN}
            return [n - counts[0] for n in counts], settings | {"_lr": 0, "step_count": 0}

        blocks, before = self._blocks, now()
        return lambda: (
            self._blocks is blocks
            and all([b.is_current() for b in blocks])
            and all([self.steps[i] for i in stepped])
            and now() == before
        )

    def zero_grad(self) -> None:
        """Forget the `.grad` of every parameter."""
        refuse_capture("sets .grad")
        for t in self.parameters:
            if t.node is not None:
                t.node.grad = None

    def state_dict(self) -> dict[str, Any]:
        """State of each parameter as `m.<name>` and so on, steps taken, and lr if a number."""
        state: dict[str, Any] = {"step": self.step_count, "steps": np.array(self.steps, np.int64)}
        if self.schedule is None:
            state["lr"] = self.lr
        for key, view in self._state_views():
            state[key] = Tensor(view).numpy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bit for bit where `state_dict` was taken; raises naming what does not fit."""
        name = type(self).__name__
        if not all(block.is_current() for block in self._blocks):
            self._arrange()
        steps = np.asarray(raw(state.get("steps", self.steps)))
        if steps.shape != (len(self.steps),):
            n = len(self.steps)
            raise ValueError(
                f"{name}.load_state_dict: steps has shape {steps.shape}, expected ({n},)"
            )
        load_views(name, dict(self._state_views()), state, {"step", "steps"}, {"lr"})
        self.step_count, self.steps = int(state["step"]), [int(s) for s in steps]
        if "lr" in state and self.schedule is None:
            self._lr = float(state["lr"])

    def __repr__(self) -> str:
        size = sum(t.size for t in self.parameters)
        lr = self.lr if self.schedule is None else self.schedule
        return f"{type(self).__name__}({len(self.parameters)} tensors, {size} numbers, lr={lr!r})"

    def _update(self, param, grad, state, lr, step):
        """Call the kernel on 1-D arrays, `state` as in `state_names`, `step` counting from 1."""
        raise TypeError(f"{type(self).__name__}: an optimizer must define _update")

    def _state_views(self):
        for members, block in zip(self._groups, self._blocks, strict=True):
            for kind in self.state_names:
                for i, view in zip(members, block.views(kind), strict=True):
                    yield f"{kind}.{self.names[i]}", view

    def _arrange(self):
        """Lay parameters out, anew if they have been moved or rebound, and the state beside."""
        refuse_graph("parameters of an optimizer have been moved")
        old = dict(self._state_views()) if self._blocks else {}
        flatten(self.parameters)
        self._groups = by_kind(self.parameters)
        self._blocks = [
            Block([self.parameters[i] for i in members], (*self.state_names, "grad"))
            for members in self._groups
        ]
        self._gathered = [block.views("grad") for block in self._blocks]
        for key, view in self._state_views() if old else ():
            view[...] = backend.to_device(old[key], backend.device_of(view))

    def _checked(self, grads):
        """The raw gradients, after counting and measuring them."""
        name, parameters = type(self).__name__, self.parameters
        if len(grads) != len(parameters):
            raise ValueError(
                f"{name}.step: got {len(grads)} gradients for {len(parameters)} parameters"
            )
        arrays = [g.data if isinstance(g, Tensor) else g for g in grads]
        for i, (array, t) in enumerate(zip(arrays, parameters, strict=True)):
            if array is not None and array.shape != t.data.shape:
                raise ValueError(
                    f"{name}.step: gradient {i} has shape {array.shape}, its parameter"
                    f" {self.names[i]!r} has {t.shape}"
                )
        return arrays

    def _spans(self, group, arrays):
        """(first, last, 1-D gradient) of each stretch of a group that one kernel call can serve.

        Neighbours are gathered into the block's flat gradient. A large gradient that lies in
        memory as its parameter does is used where it is. A stretch ends where a gradient is
        missing or the steps differ.
        """
        members, block, views = self._groups[group], self._blocks[group], self._gathered[group]
        gathered, first, spans, copies = block.buffers["grad"], None, [], []

        def close(last):
            stop = block.offsets[last] + block.arrays[last].size
            spans.append((first, last, gathered[block.offsets[first] : stop]))

        on_host = isinstance(gathered, np.ndarray)
        large = LARGE if on_host else LARGE_ON_GPU
        for k, i in enumerate(members):
            grad, param = arrays[i], block.arrays[k]
            direct = (
                grad is not None
                and grad.size >= large
                and grad.strides == param.strides
                and grad.dtype == param.dtype
            )
            joined = first is not None and grad is not None and not direct
            joined = joined and block.follows[k] and self.steps[i] == self.steps[members[k - 1]]
            if first is not None and not joined:
                close(k - 1)
                first = None
            if direct:
                spans.append((k, k, memory(grad)))
            elif grad is not None:
                if on_host:
                    views[k][...] = grad
                else:
                    copies += views[k], grad
                first = k if first is None else first
        if first is not None:
            close(len(members) - 1)
        if copies:
            kernels.copy_each(*copies)
        return spans


class SGD(Optimizer):
    """Gradient descent with momentum, or Nesterov's (Sutskever et al. 2013)."""

    def __init__(
        self,
        parameters: Any,
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening 0, got {momentum} and {dampening}"
            )
        self.momentum, self.dampening = momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, nesterov
        self.state_names = ("velocity",) if momentum else ()
        super().__init__(parameters, lr)

    def _update(self, param, grad, state, lr, step):
        first = mode.live is None and step == 1  # no graph is launched for a first step
        dampening = 0.0 if first else self.dampening  # torch does not damp it
        kernels.sgd(
            param, grad, state[0] if state else None,
            lr, self.momentum, dampening, self.weight_decay, self.nesterov,
        )  # fmt: skip


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square (Tieleman & Hinton 2012)."""

    def __init__(
        self,
        parameters: Any,
        lr: float | Callable[[int], float] = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.state_names = (
            "square", *(("velocity",) if momentum else ()), *(("mean",) if centered else ())
        )  # fmt: skip
        super().__init__(parameters, lr)

    def _update(self, param, grad, state, lr, step):
        velocity = state[1] if self.momentum else None
        mean = state[-1] if self.centered else None
        kernels.rmsprop(
            param, grad, state[0], velocity, mean,
            lr, self.alpha, self.eps, self.weight_decay, self.momentum, self.centered,
        )  # fmt: skip


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1); `weight_decay` is added to the gradient."""

    state_names = ("m", "v")
    decoupled = False

    def __init__(
        self,
        parameters: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            name = type(self).__name__
            raise ValueError(f"{name}: betas are {betas}, expected two numbers in [0, 1)")
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        super().__init__(parameters, lr)

    def _update(self, param, grad, state, lr, step):
        kernels.adam(
            param, grad, *state,
            lr, *self.betas, self.eps, self.weight_decay, self.decoupled, step,
        )  # fmt: skip


class AdamW(Adam):
    """Adam whose decay shrinks the weights themselves (Loshchilov & Hutter 2019, algorithm 2)."""

    decoupled = True

    def __init__(
        self,
        parameters: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)
