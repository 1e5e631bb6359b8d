"""Health: what is done about a run that collapses or diverges, and its last good state.

What shows a collapse is the model's affair (`nn.doctor`). All that is decided here is in the run's
state: a run that is resumed, even after having been killed, finds the same at the same steps and
goes back to the same state.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigen.nn.doctor import Finding
from minigen.random import Generator
from minigen.tensor import raw
from minigen.train.config import RunConfig
from minigen.train.errors import Collapsed, RunError

ATTEMPTS = 3  # times that a run goes back before it stops
EVERY = 50  # steps between two states that are kept of models without a doctor
log = logging.getLogger(__name__)


class Health:
    """How one run is doing; `policy` is its "warn", "stop", "rollback" or "off".

    With "stop" and "rollback", `good` is the state of the last step at which nothing was wrong.
    """

    def __init__(self, config: RunConfig, model: Any):
        self.policy, self.keeps = config.on_collapse, config.on_collapse in ("stop", "rollback")
        make = getattr(model, "doctor", None)
        self.doctor = make() if make is not None and self.policy != "off" else None
        self.good: dict[str, Any] | None = None
        self.attempt = 0  # how often the run has gone back
        self._rng = Generator(config.seed, config.device).spawn("doctor")
        self._signs: dict[int, dict[str, float]] = {}  # of steps on their way to the log
        self._told: list[dict[str, Any]] = []  # findings on their way there

    # looking ---------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return self.doctor.due(step) if self.doctor is not None else self.keeps and not step % EVERY

    def examine(
        self, step: int, losses: Mapping[str, Any], images: Any, labels: Any
    ) -> Sequence[Finding]:
        """What is newly wrong after a step on these images that gave these losses."""
        values = {name: float(raw(value)) for name, value in losses.items()}
        if self.doctor is None or not all(map(math.isfinite, values.values())):
            return ()  # the trainer itself stops at losses that are not finite
        rng = self._rng.spawn(step)
        self._signs[step], findings = self.doctor.examine(step, values, images, labels, rng)
        for each in findings:
            self._tell(step, each.name, f"{each.seen}; {each.remedy}")
            if not self.keeps:
                log.warning("step %d: %s", step, each)
        return findings

    def record(self, step: int) -> dict[str, Any]:
        """What a step's line of metrics says of health: its signs, and what was found since."""
        signs, told, self._told = self._signs.pop(step, None), self._told, []
        return {**({"health": signs} if signs else {}), **({"findings": told} if told else {})}

    def judge(self, step: int, findings: Sequence[Finding]) -> bool:
        """Whether the state after this step is one to come back to.

        Raises Collapsed for findings of a run that is not to go on like that.
        """
        if findings and self.keeps:
            text = "; and ".join(map(str, findings))
            raise Collapsed(f"step {step}: {text}", [each.name for each in findings])
        return self.doctor is None or self.doctor.healthy

    def _tell(self, step: int, name: str, text: str) -> None:
        self._told.append({"step": step, "name": name, "text": text})

    # going back ------------------------------------------------------------------------------

    def keep(self, state: Mapping[str, Any]) -> None:
        """Take a copy of the run's state as the last good one."""
        self.good = copied(state)
        self.good["health"]["good"] = None  # itself

    def next_attempt(self, error: RunError) -> int:
        """The number of the return that follows an error; raises it if there is to be none."""
        if self.policy != "rollback" or self.good is None:
            raise error
        if self.attempt == ATTEMPTS:
            message = f"{error}; {ATTEMPTS} returns to a good state have not helped"
            raise type(error)(message) from error
        return self.attempt + 1

    def begin(self, attempt: int, error: RunError, since: int, step: int) -> None:
        """Change what can be changed without asking, at the good state of `step`, and say so."""
        names = error.names if isinstance(error, Collapsed) else ["divergence"]
        done = self.doctor.treat(names) if self.doctor is not None else []
        self.attempt = attempt
        text = f"back to step {step}, {', '.join(['other random numbers', *done])}"
        finding = {"step": since, "name": "rolled back", "text": f"{error}; {text}"}
        self._told = [*self._told, finding]  # after those of returns to the same state before
        log.warning("%s; attempt %d of %d: %s", error, attempt, ATTEMPTS, text)

    # the run's state -------------------------------------------------------------------------

    def state_dict(self, step: int) -> dict[str, Any]:
        """What the next steps depend on; the good state only where it is not that of `step`."""
        good = self.good if self.keeps else None
        return {
            "attempt": self.attempt,
            "told": list(self._told),
            "doctor": None if self.doctor is None else self.doctor.state_dict(),
            "good": None if good is None or good["step"] == step else good,
        }

    def load_state_dict(self, run: Mapping[str, Any]) -> None:
        """Go on where the state of a run was taken, also one that nobody watched."""
        state = run.get("health") or {"attempt": 0, "told": [], "doctor": None, "good": None}
        self.attempt, self._told, self._signs = state["attempt"], list(state["told"]), {}
        if self.doctor is not None and state["doctor"] is not None:
            self.doctor.load_state_dict(state["doctor"])
        self.good = state["good"] or {**run, "health": {**state, "good": None}}


def copied(state: Any) -> Any:
    """The nested state with its arrays copied."""
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [copied(value) for value in state]
    return state.copy() if isinstance(state, np.ndarray) else state
