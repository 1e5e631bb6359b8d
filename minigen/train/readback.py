"""Losses on their way from the device to the log, behind the steps that are still to come."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minigen import backend
from minigen.tensor import raw

AHEAD = 4  # steps that the host may be ahead of the oldest losses that it has not seen


@dataclass
class Losses:
    """The losses of one step as floats, and the seconds trained when it had been given."""

    step: int
    seconds: float
    values: dict[str, float]
    shown: bool


class Readback:
    """Takes each step's losses, and gives them back as floats once they have arrived.

    Those of a GPU are copied behind the step that computes them, while the host goes on; those
    on the CPU are there at once.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Losses, list[str], backend.Reading | None]] = deque()

    def put(self, step: int, seconds: float, losses: Mapping[str, Any], shown: bool) -> None:
        """`losses` are numbers, NumPy's too, or 0-d arrays and Tensors; `shown` comes back."""
        arrays = {k: raw(v) for k, v in losses.items()}
        remote = [k for k, v in arrays.items() if backend.device_of(v) != backend.CPU]
        values = {k: float("nan") if k in remote else float(v) for k, v in arrays.items()}
        reading = backend.Reading([arrays[k] for k in remote]) if remote else None
        self._waiting.append((Losses(step, seconds, values, shown), remote, reading))

    def close(self) -> None:
        """Let the copies under way end, whose memory serves others then."""
        while self._waiting:
            *_, reading = self._waiting.popleft()
            if reading is not None:
                reading.values()

    def take(self, wait: bool = False) -> Iterator[Losses]:
        """The losses that have arrived, oldest first; with `wait`, all that were put in."""
        while self._waiting:
            losses, remote, reading = self._waiting[0]
            if reading is not None:
                if not (wait or len(self._waiting) > AHEAD or reading.done()):
                    return
                losses.values.update(zip(remote, map(float, reading.values()), strict=True))
            self._waiting.popleft()
            yield losses
