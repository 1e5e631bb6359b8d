"""Learning rates over time: callables of the step, counted from 0, that hold no state.

Adam(model, lr=linear_warmup(cosine(2e-4, steps=100_000), steps=1000))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class constant:
    """lr at every step."""

    lr: float

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class linear_warmup:
    """`schedule` (or a number) times (step + 1) / steps for `steps` steps, then as it is."""

    schedule: float | Schedule
    steps: int

    def __post_init__(self) -> None:
        _positive("linear_warmup", "steps", self.steps)

    def __call__(self, step: int) -> float:
        lr = self.schedule(step) if callable(self.schedule) else self.schedule
        return lr * min((step + 1) / self.steps, 1.0)


@dataclass(frozen=True)
class cosine:
    """From lr to `final` along half a cosine in `steps` steps (Loshchilov & Hutter 2017, eq. 5)."""

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("cosine", "steps", self.steps)

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class step_decay:
    """lr, times `factor` after every `every` steps."""

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive("step_decay", "every", self.every)

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclass(frozen=True)
class exponential:
    """lr * rate^step."""

    lr: float
    rate: float

    def __call__(self, step: int) -> float:
        return self.lr * self.rate**step


@dataclass(frozen=True)
class polynomial:
    """From lr to `final` as (1 - step / steps)^power, linearly by default."""

    lr: float
    steps: int
    final: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        _positive("polynomial", "steps", self.steps)

    def __call__(self, step: int) -> float:
        left = max(1 - step / self.steps, 0.0)
        return self.final + (self.lr - self.final) * left**self.power


def _positive(name: str, what: str, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{name}: {what} is {value}, expected at least 1")
