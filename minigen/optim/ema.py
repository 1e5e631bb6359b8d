"""EMA: a slow copy of a model's weights, which samples better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import minigen.kernels as kernels
from minigen import backend
from minigen.graph import as_long_as, changing, on_host, recorded, refuse_graph
from minigen.optim.flat import Block, by_kind, flatten
from minigen.optim.state import load_views, named_leaves
from minigen.tensor import Tensor


class EMA:
    """The moving average of parameters: average = decay * average + (1 - decay) * parameter.

    Buffers are copied as they are at each update: batch norm's running statistics are averages
    already. With `warmup`, the decay of update t is at most (1 + t) / (10 + t), so that early
    weights are soon forgotten.
    """

    def __init__(self, model: Any, decay: float = 0.999, warmup: bool = False):
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay is {decay}, expected a number in [0, 1]")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.names, self.parameters = named_leaves("EMA", model)
        self.buffers = model.named_buffers() if hasattr(model, "named_buffers") else []
        self._copies = [t.data.copy() for _, t in self.buffers]
        self._blocks: list[Block] = []
        self._arrange()
        for view, t in self._pairs():
            view[...] = t.data

    @recorded
    def update(self) -> None:
        """Take the present weights into the average."""
        on_host(self._count)
        decay = changing(self._decay)
        if not all(block.is_current() for block in self._blocks):
            self._arrange()
        as_long_as(self._standing())
        for block in self._blocks:
            average = block.buffers["average"]
            for param, part in block.stretches():
                kernels.ema(average[part], param, decay)
        pairs = zip(self._copies, [t.data for _, t in self.buffers], strict=True)
        if self.buffers:
            kernels.copy_each(*chain.from_iterable(pairs))

    def _count(self):
        self.updates += 1

    def _decay(self):
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    def _standing(self):
        """Whether the arrays that `update` reads and writes are still those of now."""
        blocks, copies, buffers = self._blocks, self._copies, [t.data for _, t in self.buffers]
        return lambda: (
            self._blocks is blocks
            and self._copies is copies
            and all([block.is_current() for block in blocks])
            and all([t.data is a for (_, t), a in zip(self.buffers, buffers, strict=True)])
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own, whatever was written."""
        if not all(block.is_current() for block in self._blocks):
            self._arrange()
        averages = [*self._pairs(), *zip(self._copies, (t for _, t in self.buffers), strict=True)]
        before = [t.data.copy() for _, t in averages]
        try:
            for average, t in averages:
                _write(t, average)
            yield
        finally:
            for array, (_, t) in zip(before, averages, strict=True):
                _write(t, array)

    def state_dict(self) -> dict[str, Any]:
        """The averages and copied buffers by the model's names, and the number of updates."""
        state = {key: Tensor(view).numpy() for key, view in self._state_views().items()}
        return {"updates": self.updates, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; raises naming what does not fit."""
        load_views("EMA", self._state_views(), state, {"updates"})
        self.updates = int(state["updates"])

    def _pairs(self):
        """(average, parameter) of each parameter, block by block."""
        return [
            pair
            for block in self._blocks
            for pair in zip(block.views("average"), block.tensors, strict=True)
        ]

    def _state_views(self):
        names = {id(t): name for name, t in zip(self.names, self.parameters, strict=True)}
        views = {f"average.{names[id(t)]}": view for view, t in self._pairs()}
        copies = zip(self.buffers, self._copies, strict=True)
        return views | {f"buffer.{name}": copy for (name, _), copy in copies}

    def _arrange(self):
        """Lay the averages out beside the parameters, anew if these have been moved or rebound."""
        refuse_graph("parameters of an average have been moved")
        old = {id(t): view for view, t in self._pairs()}
        flatten(self.parameters)
        self._blocks = [
            Block([self.parameters[i] for i in members], ("average",))
            for members in by_kind(self.parameters)
        ]
        for view, t in self._pairs() if old else ():
            view[...] = backend.to_device(old[id(t)], t.device)
        copies = zip(self._copies, self.buffers, strict=True)
        self._copies = [backend.to_device(copy, t.device) for copy, (_, t) in copies]


def _write(t, array):
    t.data[...] = array
    t.version[0] += 1
