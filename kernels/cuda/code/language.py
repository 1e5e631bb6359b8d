"""The language of device code: Numba-CUDA, and how kernels are declared.

A kernel is declared by a function that makes it, one for each variant:

    @kernel("y: T*, x: T*, slope: float, n: int", T=FLOATS)
    def leaky_relu(T):
        def run(y, x, slope, n):
            i, step = cuda.grid(1), cuda.gridsize(1)
            while i < n:
                ...
        return run

What the outer function takes is known when the kernel is compiled; `run` sees it as constants.
Arguments of `run` are pointers (`T*`, `int64*`), `int` (64 bits) and `float` (float64); `16 T*` is
a tuple of 16, passed one by one.
All integers are signed 64-bit numbers: Numba turns a mix with unsigned ones into floats.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numba import cuda
from numba.types import boolean, float32, float64, int8, int32, int64, uint8, uint32, uint64

FLOATS = ("float32", "float64")
TYPES = {
    "float32": float32, "float64": float64, "int8": int8, "int32": int32, "int64": int64,
    "uint8": uint8, "uint32": uint32, "uint64": uint64, "bool": boolean,
}  # fmt: skip

device = functools.partial(cuda.jit, device=True)  # a part of kernels, which call it
inline = device(forceinline=True)  # the same, never left as a call


class Declared(NamedTuple):
    """A kernel as its module declares it."""

    make: Callable[..., Callable[..., None]]
    signature: str
    variants: dict[str, tuple[Any, ...]]
    threads: int
    registers: int
    doubles: bool
    fused: bool

    def each_variant(self) -> Iterator[dict[str, Any]]:
        """All that are compiled ahead of time."""
        for values in itertools.product(*self.variants.values()):
            yield dict(zip(self.variants, values, strict=True))

    def function(self, variant: dict[str, Any]) -> Callable[..., None]:
        """The kernel of one variant, as Python."""
        named = {k: TYPES.get(v, v) if isinstance(v, str) else v for k, v in variant.items()}
        return self.make(**named)

    def arguments(self, variant: dict[str, Any]) -> list[str]:
        """The types of what is passed: "float32*", "int", "float"."""
        types = []
        for count, kind in self._kinds():
            base = kind.rstrip("*")
            types += [str(variant.get(base, base)) + kind[len(base) :]] * int(count or 1)
        return types

    def grouped(self, values: list[Any]) -> list[Any]:
        """What is passed, as the kernel takes it: several in a tuple where it is declared so."""
        rest = iter(values)
        return [
            tuple(itertools.islice(rest, int(count))) if count else next(rest)
            for count, _ in self._kinds()
        ]

    def _kinds(self) -> list[tuple[str, str]]:
        """(count or "", type) of each argument."""
        kinds = (each.split(":")[1].strip().rpartition(" ") for each in self.signature.split(","))
        return [(count, kind) for count, _, kind in kinds]


def kernel(
    signature: str, *, threads: int = 256, registers: int = 64, doubles: bool = False,
    fused: bool = True, **variants: tuple[Any, ...],
) -> Callable:  # fmt: skip
    """Declare a kernel: its arguments, the values of each variant, the most threads of a block.

    What tests hold it to: a thread takes at most so many `registers`, and there is no arithmetic
    in float64 without a float64 array among the arguments, unless `doubles` says that it is meant.
    Unless `fused`, no a*b+c is rounded only once: each operation is the one of the source.
    """

    def declare(make: Callable[..., Callable[..., None]]) -> Declared:
        return Declared(make, signature, variants, threads, registers, doubles, fused)

    return declare


@device
def divide(a, b):
    """a // b of numbers in [0, 2**32), by the 32-bit division, which is several times faster."""
    return int64(uint32(a) // uint32(b))
