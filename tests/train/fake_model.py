"""A model in NumPy alone with all that the trainer relies on: weights, momentum, noise."""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

MODEL = "tests.train.fake_model:Fake"


@dataclass(frozen=True)
class Options:
    batch_size: int = 4
    lr: float = field(default=0.01, metadata={"help": "learning rate"})
    width: int = field(default=3, metadata={"least": 1})
    kind: str = field(default="plain", metadata={"choices": ("plain", "fancy")})
    sizes: tuple[int, ...] = field(default=(2, 1), metadata={"least": 1})
    flag: bool = False
    nan_at: int = 0  # the step whose loss is NaN
    sleep: float = 0.0  # seconds a step takes


class Fake:
    """x -> x W W^T, trained with momentum on noisy images."""

    Options = Options
    value_range = (-1.0, 1.0)
    default_steps = 12

    def __init__(self, options: Options, image_shape: tuple[int, ...], *, rng: Any):
        if options.width > 100:
            raise ValueError(f"fake: width is {options.width}, expected at most 100")
        self.options, self.image_shape = options, image_shape
        pixels = int(np.prod(image_shape))
        self.weights = rng.normal((pixels, options.width)).numpy() * np.float32(0.1)
        self.velocity = np.zeros_like(self.weights)
        self.count = 0

    def step(self, images: Any, labels: Any, rng: Any) -> dict[str, Any]:
        time.sleep(self.options.sleep)
        x = np.asarray(images).reshape(len(images), -1)
        x = x + np.float32(0.01) * rng.normal(x.shape).numpy()
        code = x @ self.weights
        error = code @ self.weights.T - x
        gradient = (x.T @ (error @ self.weights) + error.T @ code) / len(x)
        self.velocity = np.float32(0.9) * self.velocity - np.float32(self.options.lr) * gradient
        self.weights = self.weights + self.velocity
        self.count += 1
        if self.count == self.options.nan_at:
            self.weights = self.weights * np.float32("nan")
            return {"error": np.float32("nan"), "norm": np.float32(1)}
        return {"error": np.mean(error**2), "norm": np.linalg.norm(self.weights)}

    def sample(self, n: int, rng: Any) -> np.ndarray:
        code = rng.normal((n, self.options.width)).numpy()
        return np.clip(code @ self.weights.T, 0, 1).reshape(n, *self.image_shape)

    def interpolate(self, n: int, rng: Any) -> np.ndarray:
        return np.linspace(0, 1, n)[:, None, None, None] * self.sample(1, rng)

    def evaluate(self, batches: Any, rng: Any) -> dict[str, dict[str, float]]:
        means = [float(np.mean(image)) for images, _ in batches for image in images]
        value = float(np.mean(means))
        return {"mean": {"value": value, "low": value - 1, "high": float("nan")}}

    def named_parameters(self) -> list[tuple[str, Any]]:
        return [("weights", SimpleNamespace(data=self.weights))]

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "optimizer.velocity": self.velocity, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["weights"].shape != self.weights.shape:
            raise ValueError(f"weights are {state['weights'].shape}: another width")
        self.weights, self.velocity = state["weights"], state["optimizer.velocity"]
        self.count = state["count"]
