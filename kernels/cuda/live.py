"""Numbers that change from step to step, for the CUDA graphs of `minigen.replay`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .launch import launch

TOGETHER = 8  # numbers of each kind that one launch writes


def storing(
    floats: Any, numbers: list[float], ints: Any, counters: list[int]
) -> Callable[[], None]:
    """A function that writes what the two lists hold then to the beginning of both arrays.

    The numbers travel as arguments of a kernel: the stream orders them among the launches that
    read them, and no memory of the host has to wait until they have been copied. float64 and int64
    arrays of a multiple of 8 elements; of larger counters the lower 64 bits are written.
    """
    starts = range(0, max(len(numbers), len(counters)), TOGETHER)
    parts = [(floats[s : s + TOGETHER], ints[s : s + TOGETHER], s) for s in starts]

    def store() -> None:
        for to_floats, to_ints, s in parts:
            some = [float(v) for v in numbers[s : s + TOGETHER]]
            few = [(int(v) + 2**63) % 2**64 - 2**63 for v in counters[s : s + TOGETHER]]
            some += [0.0] * (TOGETHER - len(some))
            few += [0] * (TOGETHER - len(few))
            launch("live.store", (1,), 32, to_floats, to_ints, *some, *few)

    return store
