"""Doctor: watches a model's training for signs that it goes wrong, and says what would help.

A family of models brings its own signs (numbers measured at an examination) and its own rules (what
signs seen several times in a row mean). What is then done to the run is for training to decide.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from minigen.nn.module import Module, keeping
from minigen.random import Generator

Signs = Mapping[str, float]
KEPT = 40  # examinations that rules can look back on
EARLY = 200  # steps in which it looks more often
FAIR, ENDS = 10, 6  # examinations that make a median, and those without it that end a finding
OFTEN, SELDOM = 20, 50  # steps between two examinations, before and after that


@dataclass(frozen=True)
class Finding:
    """What is wrong, the figures that show it, and what would help."""

    name: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}; {self.remedy}"


@dataclass(frozen=True)
class History:
    """The signs of the last examinations, newest last, and `best`: the highest that the median of a
    sign over FAIR examinations in a row has been, absent before there are as many. `options` are
    the model's.
    """

    last: Sequence[Signs]
    best: Signs
    options: Any = None

    def recent(self, name: str, count: int) -> list[float]:
        """The newest values of a sign, oldest first; empty before there are `count`."""
        values = [signs[name] for signs in self.last[-count:] if name in signs]
        return values if len(values) == count else []

    def usual(self, name: str) -> float:
        """The median of a sign before the newest three examinations; 0 while they are few."""
        values = [each[name] for each in self.last[:-3] if math.isfinite(each.get(name, math.nan))]
        return statistics.median(values) if len(values) >= FAIR else 0.0


@dataclass(frozen=True)
class Rule:
    """`seen` says what shows at the newest examination, "" for nothing; it is a finding after as
    many `times` in a row. `remedy` turns the model's options into flags. What is `suspected`
    before it is seen makes no finding, but no good state either.
    """

    name: str
    seen: Callable[[History], str]
    remedy: Callable[[Any], str]
    times: int = 3
    slower: tuple[str, ...] = ()  # attributes of the optimisers to slow down
    suspected: Callable[[History], bool] | None = None


class Doctor:
    """Examines a model every so many steps; a rule that holds is told once, until it ends.

    What it has seen is in `state_dict`, so that a run that is resumed hears the same at the same
    steps. Looking changes nothing of the model.
    """

    rules: ClassVar[Sequence[Rule]] = ()

    def __init__(self, model: Any):
        self.model = model
        self._last: list[dict[str, float]] = []
        self._best: dict[str, float] = {}
        self._counts: dict[str, int] = {}  # of rules: examinations in a row, negative if unseen
        self._active: list[str] = []  # the rules that have been told and still hold
        self._suspects = False  # whether the last examination showed anything

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return step % (OFTEN if step <= EARLY else SELDOM) == 0

    def signs(self, images: Any, labels: Any, rng: Generator) -> dict[str, float]:
        """Measure the model on a batch as `step` takes it."""
        raise TypeError(f"{type(self).__name__} must define signs")

    def examine(
        self, step: int, losses: Signs, images: Any, labels: Any, rng: Generator
    ) -> tuple[dict[str, float], list[Finding]]:
        """The signs after `step`, which took these images and gave these losses, and what is new
        about them.
        """
        signs = self.signs(images, labels, rng)
        return signs, self.conclude(step, {**losses, **signs})

    def conclude(self, step: int, signs: Signs) -> list[Finding]:
        """Take the signs of an examination into the history; the findings that begin with it."""
        self._last = [*self._last[1 - KEPT :], {"step": step, **signs}]
        history = History(self._last, self._best, self.model.options)
        for name in signs:
            values = history.recent(name, FAIR)
            if values and all(map(math.isfinite, values)):
                usual = statistics.median(values)
                self._best[name] = max(usual, self._best.get(name, usual))
        findings, self._suspects = [], False
        for rule in self.rules:
            text = rule.seen(history)
            suspected = rule.suspected is not None and rule.suspected(history)
            self._suspects |= bool(text) or suspected
            count = self._counts.get(rule.name, 0)
            count = max(count, 0) + 1 if text else min(count, 0) - 1
            self._counts[rule.name] = count
            if count >= rule.times and rule.name not in self._active:
                self._active.append(rule.name)
                findings.append(Finding(rule.name, text, rule.remedy(self.model.options)))
            elif -count >= max(rule.times, ENDS) and rule.name in self._active:
                self._active.remove(rule.name)
        return findings

    @property
    def healthy(self) -> bool:
        """Whether the last examination showed nothing, not even once."""
        return not self._active and not self._suspects

    def treat(self, names: Iterable[str]) -> list[str]:
        """Slow down what the findings of these names blame; what was done."""
        blamed = [a for rule in self.rules if rule.name in names for a in rule.slower]
        done = []
        for attribute in dict.fromkeys(blamed):
            optimizer = getattr(self.model, attribute)
            if optimizer.schedule is None:
                optimizer.lr = self.slowed(attribute)
                done.append(f"{attribute.replace('_', ' ')}'s learning rate {optimizer.lr:g}")
        return done

    def slowed(self, attribute: str) -> float:
        """The learning rate that an optimiser of the model gets by treatment: half its own."""
        return getattr(self.model, attribute).lr / 2

    def state_dict(self) -> dict[str, Any]:
        """The history and what has been told."""
        return {
            "last": [dict(signs) for signs in self._last],
            "best": dict(self._best),
            "counts": dict(self._counts),
            "active": list(self._active),
            "suspects": self._suspects,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._last = [dict(signs) for signs in state["last"]]
        self._best, self._counts = dict(state["best"]), dict(state["counts"])
        self._active, self._suspects = list(state["active"]), state["suspects"]


@contextmanager
def untouched(model: Module) -> Iterator[None]:
    """Inside, layers compute as in training; afterwards their buffers, and the generators of random
    numbers that they hold, are as before.
    """
    drawn = [(g, g.state_dict()) for g in model.stateful() if isinstance(g, Generator)]
    try:
        with keeping(model.buffers()):
            yield
    finally:
        for generator, state in drawn:
            generator.load_state_dict(state)
