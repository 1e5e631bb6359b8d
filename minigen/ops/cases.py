"""What the gradient checks feed to an op: a `case` says, input by input, what kind of array."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spec:
    """An input to draw: `shape` and how. `elementwise` checks may ask for another shape."""

    kind: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    shape: tuple[int, ...]
    differentiable: bool = True

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...] | None = None) -> np.ndarray:
        return self.kind(rng, self.shape if shape is None else shape)


@dataclass(frozen=True)
class Case:
    """Inputs and static parameters of one check.

    An input is a spec, a list of specs for a sequence, or a value that is passed as it is.
    """

    inputs: tuple[Any, ...]
    static: dict[str, Any] = field(default_factory=dict)


def case(*inputs: Any, **static: Any) -> Case:
    """One check of an op: `case(normal(2, 3), normal(3), axis=0)`."""
    return Case(inputs, static)


def normal(*shape: int) -> Spec:
    """Standard normal values."""
    return Spec(lambda rng, s: rng.standard_normal(s), shape)


def uniform(low: float, high: float, *shape: int) -> Spec:
    """Uniform values in [low, high)."""
    return Spec(lambda rng, s: rng.uniform(low, high, s), shape)


def positive(*shape: int) -> Spec:
    """Values in [0.5, 2)."""
    return uniform(0.5, 2.0, *shape)


def distinct(*shape: int) -> Spec:
    """Values 0.1 apart from one another and 0.05 from zero: for functions with kinks or ties."""

    def draw(rng, s):
        n = int(np.prod(s))
        steps = rng.permutation(n) - n // 2
        return (0.1 * steps + 0.05).reshape(s)

    return Spec(draw, shape)


def complex_normal(*shape: int) -> Spec:
    """Complex values with standard normal parts."""
    return Spec(lambda rng, s: rng.standard_normal(s) + 1j * rng.standard_normal(s), shape)


def integers(low: int, high: int, *shape: int) -> Spec:
    """Integers in [low, high); not differentiated."""
    return Spec(lambda rng, s: rng.integers(low, high, s), shape, differentiable=False)


def draw(inputs: Any, rng: np.random.Generator) -> Any:
    """The arrays of a case's inputs: specs drawn, lists likewise, other values as they are."""
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(draw(i, rng) for i in inputs)
    return inputs.draw(rng) if isinstance(inputs, Spec) else inputs
