"""Workload: one training step on a fixed batch in minigen, and the same step in PyTorch.

PyTorch is imported only where a peer is made, so that minigen's side runs without it.
"""

import numpy as np
from measure import How

import minigen as mg
from minigen import backend, nn


class Workload:
    """Subclasses have `train`, `draw` and `peer`, and set `inputs`, the arrays that both libraries'
    steps take first.
    """

    captured = False  # whether steps are recorded and replayed (mg.capture): many small ops
    formats = ("contiguous", "channels-last")  # of PyTorch's memory, where both make sense
    compiles = True  # whether torch.compile can take the peer's step

    def __init__(self):
        self.rng = mg.Generator(0)
        self.inputs = ()
        self.dtype = np.dtype(np.float32)
        self.device = "cpu"
        self.run = mg.capture(self.train) if self.captured else self.train

    def double(self):
        """The same workload in float64."""
        self.dtype = np.dtype(np.float64)
        self.inputs = tuple(array.astype(self.dtype) for array in self.inputs)
        for part in vars(self).values():
            if isinstance(part, nn.Module):
                part.to(dtype=self.dtype)
        return self

    def on(self, device, captured=True):
        """The same workload on a device; on a GPU every step is captured, or none."""
        if device == "cpu":
            return self
        self.device, self.rng = device, mg.Generator(0, device)
        self.inputs = tuple(backend.to_device(array, device) for array in self.inputs)
        for part in vars(self).values():
            if isinstance(part, nn.Module):
                part.to(device)
        self.run = mg.capture(self.train) if captured else self.train
        return self

    def step(self):
        """One training step; its losses as a tuple of floats."""
        return tuple([loss.item() for loss in self.run(*self.inputs, self.rng)])

    def timed(self):
        """The step as benchmarks call it; on a GPU losses are not waited for."""
        return self.step if self.device == "cpu" else lambda: self.run(*self.inputs, self.rng)

    def train(self, *arguments):
        """The step in minigen: (*inputs, rng) -> its losses, Tensors outside the graph."""
        raise TypeError(f"{type(self).__name__} has no train")

    def draw(self, rng):
        """The random arrays that a step takes from rng, in its order: a peer's last arguments."""
        return ()

    def peer(self, how):
        """The step in PyTorch, from minigen's weights as they are now: arrays -> losses."""
        raise TypeError(f"{type(self).__name__} has no peer")

    def peers(self, compile=False, graph=False):
        """{format: the peer's step on the same batch, with random numbers made beforehand}."""
        made = self._peers(compile, graph)
        arrays = self._arrays(mg.Generator(0))
        return {label: peer.timed(arrays) for label, peer in made.items()}

    def parity(self, steps=3, compile=False):
        """(minigen's losses, {format: the peer's}) of each step, with the same random numbers."""
        peers = self._peers(compile)
        rows = []
        for _ in range(steps):
            ahead = mg.Generator(0)
            ahead.load_state_dict(self.rng.state_dict())
            arrays = self._arrays(ahead)
            ours = self.step()
            if self.rng.counter != ahead.counter:
                raise ValueError(f"{type(self).__name__}: draw() does not draw what step() does")
            rows.append((ours, {label: peer(*arrays) for label, peer in peers.items()}))
        return rows

    def _peers(self, compile, graph=False):
        return {
            label: self.peer(How(label == "channels-last", compile, self.device, graph))
            for label in self.formats
        }

    def _arrays(self, rng):
        """What the peer's step takes, on the host."""
        inputs = (backend.to_device(array, "cpu") for array in self.inputs)
        return (*inputs, *map(self._cast, self.draw(rng)))

    def _cast(self, array):
        return array.astype(self.dtype) if array.dtype.kind == "f" else np.array(array)


def relu(layer):
    """A layer and the relu that follows it."""
    return [layer, nn.ReLU()]


def images(*shape, seed=0):
    """Smooth random values in (-1, 1), float32."""
    return np.tanh(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
