"""The fake model with a doctor: it falls ill once steps times the learning rate exceed a limit."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigen.nn.doctor import Doctor, Rule
from tests.train.fake_model import Fake, Options

MODEL = "tests.train.patient:Patient"


@dataclass(frozen=True)
class PatientOptions(Options):
    ill_above: float = 0.5


class Patient(Fake):
    """Steps of the doctor's 20, 40 ... 200, 250 ...: with lr 0.01 the first ill one is 60."""

    Options = PatientOptions

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Any):
        super().__init__(options, image_shape, rng=rng)
        self.pace = SimpleNamespace(lr=options.lr, schedule=None)

    def step(self, images: Any, labels: Any, rng: Any) -> dict[str, Any]:
        before = self.weights, self.velocity
        losses = super().step(images, labels, rng)
        if self.count == self.options.nan_at and self.pace.lr < self.options.lr:
            self.weights, self.velocity = before  # a slower one gets past it
            return {"error": np.float32(1), "norm": np.float32(1)}
        return losses

    def doctor(self) -> Doctor:
        return PatientDoctor(self)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pace": self.pace.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.pace.lr = state["pace"]


class PatientDoctor(Doctor):
    """Told after two examinations; it draws numbers, as examinations of GANs do."""

    def signs(self, images: Any, labels: Any, rng: Any) -> dict[str, float]:
        return {"distance": self.model.count * self.model.pace.lr, "drawn": rng.normal(()).item()}

    @property
    def rules(self):
        limit = self.model.options.ill_above
        return (
            Rule(
                "fever", lambda h: f"at {h.last[-1]['distance']:.3g}" *
                (h.last[-1]["distance"] > limit), lambda o: f"try --set lr={o.lr / 2:g}",
                2, ("pace",),
            ),
            Rule("divergence", lambda h: "", lambda o: "", 1, ("pace",)),
        )  # fmt: skip
