"""Model: what every generative model offers to training, sampling and evaluation."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import field, fields
from typing import Any, ClassVar, TypeVar

import numpy as np

from minigen.nn.doctor import Doctor
from minigen.nn.module import Module
from minigen.random import Generator
from minigen.tensor import Tensor, asarray

F = TypeVar("F", bound=Callable[..., Any])


def option(
    default: Any, help: str, choices: tuple[str, ...] = (), least: float | None = None
) -> Any:
    """A field of a model's Options: its help, its allowed values, the least of its values."""
    return field(default=default, metadata={"help": help, "choices": choices, "least": least})


def default(options: type, name: str, value: Any) -> Any:
    """The field `name` of an Options class with another default, for an Options class below it."""
    known = next(each for each in fields(options) if each.name == name)
    return field(default=value, metadata=known.metadata)


def replayable(step: F) -> F:
    """Decorator of a model's step that does the same at every call, but for the numbers.

    On a GPU the training loop then replays it as a CUDA graph (`mg.capture`, which says more). It
    is not for steps that branch, as one that trains a network every k calls.
    """
    step.replayable = True  # type: ignore[attr-defined]
    return step


class Model(Module):
    """A generative model with its networks, optimisers and training step, all found by walking its
    attributes.

    `Options` is a frozen dataclass of what can be set, with the paper's defaults; `value_range` is
    how `step` and `evaluate` want pixels scaled; `image_shape` is (C, H, W). Samples come back in
    [0, 1].
    """

    Options: ClassVar[type]
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    patch_size: ClassVar[int | None] = None  # of photographs: cut into squares, not resized
    generates: ClassVar[bool] = True  # new images; False: `sample` shows what becomes of others

    def __init__(self, options: Any, image_shape: tuple[int, ...]):
        super().__init__()
        self.options, self.image_shape = options, tuple(image_shape)

    @property
    def classes(self) -> int:
        """How many classes `sample` can be asked for; 0 where the model takes no labels."""
        if getattr(self.options, "conditional", "none") == "none":
            return 0
        return self.options.classes

    def chosen_labels(self, n: int, labels: Any) -> Tensor | None:
        """Labels (n,) int64 on the model's device, checked; None for a model without classes.

        Without `labels` the classes come in turn: 0, 1, 2, ... Raises ValueError.
        """
        name, classes = type(self).__name__, self.classes
        if not classes:
            if labels is not None:
                raise ValueError(
                    f"{name}: takes no labels; train a conditional model, as --set conditional=..."
                    " makes it"
                )
            return None
        chosen = np.arange(n) % classes if labels is None else asarray(labels).numpy()
        if chosen.shape != (n,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: labels are {chosen.dtype} {chosen.shape}, expected integers ({n},)"
            )
        if n and not 0 <= chosen.min() <= chosen.max() < classes:
            raise ValueError(
                f"{name}: labels are {chosen.min()} to {chosen.max()}, expected 0 to {classes - 1}"
            )
        return asarray(chosen.astype(np.int64), device=self.device)

    def known(self, labels: Any) -> Tensor | None:
        """The labels of images that exist where the model is told them; ValueError where the data
        has none. Nothing is read on the host, so that recorded steps can ask.
        """
        if not self.classes:
            return None
        if labels is None:
            raise ValueError(
                f"conditional={self.options.conditional}: the images have no labels; give data"
                " with labels, or --set conditional=none"
            )
        return asarray(labels)

    def labels_of(self, images: Any, labels: Any) -> Tensor | None:
        """As `chosen_labels`, of images that exist: they have labels, and no classes in turn."""
        self.known(labels)
        return self.chosen_labels(len(images), labels)

    @property
    def replays_on_cpu(self) -> bool:
        """Whether a recorded step (`mg.capture`) is faster on a CPU, too: one of many small ops."""
        return False

    @property
    def images_per_step(self) -> int:
        """How many images `step` takes."""
        return getattr(self.options, "batch_size", 32)

    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Any]:
        """One training step on a batch of images (N, C, H, W); the losses by name."""
        raise TypeError(f"{type(self).__name__} has no training step")

    def sample(self, n: int, rng: Generator) -> np.ndarray:
        """n new images, (n, C, H, W) float32 in [0, 1]."""
        raise TypeError(f"{type(self).__name__} cannot sample")

    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """Metrics over (images, labels) not trained on: name -> {"value", "low", "high"}."""
        raise TypeError(f"{type(self).__name__} cannot be evaluated")

    def doctor(self) -> Doctor | None:
        """What is to watch this model's training, or None."""
        return None

    def notice(self, steps: int) -> str:
        """What to be warned of before a training of so many steps in all; "" for nothing."""
        return ""

    @property
    def device(self) -> str:
        """Where the parameters lie."""
        return self.parameters()[0].device

    @contextmanager
    def evaluating(self, ema: Any = None) -> Iterator[None]:
        """Inside: evaluation mode, with an EMA's averaged weights if one is given."""
        training = self.training
        self.eval()
        try:
            with ema.applied() if ema is not None else nullcontext():
                yield
        finally:
            self.train(training)


def mean_interval(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The mean of independent values and its 95% confidence interval (normal approximation)."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    half = 1.96 * float(array.std(ddof=1)) / len(array) ** 0.5 if len(array) > 1 else math.nan
    return {"value": mean, "low": mean - half, "high": mean + half}


def no_interval(value: float) -> dict[str, float]:
    """A value whose confidence interval is not known."""
    return {"value": float(value), "low": math.nan, "high": math.nan}
