"""Generator: explicit, counter-based random numbers, the same on every device.

A generator is a seed (the 64-bit Philox key) and a counter of 128-bit blocks. A draw takes the next
whole blocks and turns them into numbers as kernels/reference/random.py describes; nothing else
moves the counter, so (seed, counter) is all there is to save. There is no global generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.graph import mode, recorded, refuse_graph
from minigen.tensor import Tensor

_WORD = 1 << 64
_MASK = _WORD - 1
# The upper half of the 128-bit counter keeps what is drawn (0) apart from what children hash.
_CHILD_INT, _CHILD_TEXT = 1, 2


class Generator:
    """A stream of random numbers: Philox4x32-10 (Salmon et al. 2011) keyed by `seed`.

    `seed` is any int in [0, 2**64); arrays are returned on `device`. Raises ValueError for others.
    """

    def __init__(self, seed: int, device: str = "cpu"):
        self.seed = _integer("Generator: seed", seed)
        self.counter = 0
        self.device = device

    @recorded
    def normal(
        self, shape: int | Sequence[int] = (), mean: float = 0.0, std: float = 1.0,
        dtype: Any = np.float32,
    ) -> Tensor:  # fmt: skip
        """Normal numbers of the given mean and standard deviation, by Box & Muller."""
        values = self._floats("normal", shape, dtype)
        if std != 1:
            values *= std
        if mean != 0:
            values += mean
        return Tensor(values)

    @recorded
    def uniform(
        self, shape: int | Sequence[int] = (), low: float = 0.0, high: float = 1.0,
        dtype: Any = np.float32,
    ) -> Tensor:  # fmt: skip
        """Numbers in [low, high): 2**24 equidistant values in float32, 2**53 in float64."""
        values = self._floats("uniform", shape, dtype)
        if (low, high) != (0, 1):
            values *= high - low
            values += low
            # Rounding can reach `high`, which does not belong to the interval.
            top = np.nextafter(values.dtype.type(high), values.dtype.type(low))
            np.minimum(values, float(top), out=values) if high > low else None
        return Tensor(values)

    @recorded
    def bernoulli(self, p: float, shape: int | Sequence[int] = ()) -> Tensor:
        """bool, True with probability p (in steps of 2**-24)."""
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli: p is {p}, expected a probability in [0, 1]")
        return Tensor(self._floats("uniform", shape, np.float32) < p)

    @recorded
    def integers(
        self, low: int, high: int | None = None, shape: int | Sequence[int] = ()
    ) -> Tensor:  # fmt: skip
        """int64 in [low, high), or [0, low) without high; every value is equally likely.

        A 64-bit word times the range, shifted right by 64; words that would favour some values are
        drawn again from later blocks (Lemire 2019, algorithm 5).
        """
        low, high = (0, low) if high is None else (low, high)
        if not -(1 << 63) <= low < high <= 1 << 63:
            raise ValueError(
                f"integers: the range is [{low}, {high}), expected low < high within int64"
            )
        shape = _shape(shape)
        below = _below(high - low, _count(shape), self._words)
        values = (below + np.uint64(low & _MASK)).view(np.int64)  # wraps to negative numbers
        return Tensor(backend.to_device(values.reshape(shape), self.device))

    @recorded
    def permutation(self, n: int) -> Tensor:
        """The numbers 0..n-1 in random order, int64 (n,): the order of n random 64-bit words."""
        if n < 0:
            raise ValueError(f"permutation: n is {n}, expected a length of at least 0")
        order = np.argsort(self._words(n), kind="stable").astype(np.int64, copy=False)
        return Tensor(backend.to_device(order, self.device))

    @recorded
    def reserve(self, n: int) -> tuple[int, int]:
        """(key, counter) for a kernel that makes n 32-bit numbers of its own; they are used up."""
        return self.seed, self._advance(-(-n // 4))

    def spawn(self, label: int | str) -> Generator:
        """An independent generator that depends on this seed and the label alone.

        Its seed is the first half of the Philox block of this key whose counter has the label in
        its lower and 1 in its upper 64 bits. For text, the key is hashed so with every 8 bytes of
        UTF-8 (zero-padded, little-endian) and at last their count, with 2 in the upper 64 bits.
        """
        seed = self.seed
        if isinstance(label, str):
            text = label.encode()
            for start in range(0, len(text), 8):
                seed = _hash(seed, int.from_bytes(text[start : start + 8], "little"), _CHILD_TEXT)
            seed = _hash(seed, len(text), _CHILD_TEXT)
        else:
            seed = _hash(seed, _integer("spawn: label", label), _CHILD_INT)
        return Generator(seed, self.device)

    def state_dict(self) -> dict[str, int]:
        """{"seed", "counter"}: two plain ints that repeat the rest of the stream."""
        return {"seed": self.seed, "counter": self.counter}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        if set(state) != {"seed", "counter"}:
            raise ValueError(
                f"Generator: state has {sorted(state)}, expected ['counter', 'seed']"
            )
        seed = _integer("Generator: seed", state["seed"])
        self.counter = _integer("Generator: counter", state["counter"])
        self.seed = seed

    def __repr__(self) -> str:
        device = "" if self.device == "cpu" else f", device={self.device!r}"
        return f"Generator(seed={self.seed}, counter={self.counter}{device})"

    def _floats(self, kind: str, shape: int | Sequence[int], dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"{kind}: dtype is {dtype}, expected float32 or float64")
        shape = _shape(shape)
        n = _count(shape)
        wide = kind == "uniform" and dtype == np.float64
        if self.device == backend.CPU:
            refuse_graph("a generator on the cpu draws numbers")
        counter = self._advance(-(-n // 2) if wide else -(-n // 4))
        draw = kernels.implementation(f"philox_{kind}", self.device)[0]
        with backend.on(self.device):
            return draw(self.seed, counter, n, dtype).reshape(shape)

    def _words(self, n: int) -> np.ndarray:
        """n uint64: the first of two 32-bit words is the lower half."""
        halves = kernels.philox_bits(self.seed, self._advance(-(-n // 2)), 2 * n)
        low, high = halves[::2].astype(np.uint64), halves[1::2].astype(np.uint64)
        return low | (high << np.uint64(32))

    def _advance(self, blocks: int) -> Any:
        """The counter before `blocks` are used up: an int, or for kernels of a CUDA graph a pair
        (0-d device array, int) whose sum it is."""
        if mode.live is not None:
            return mode.live.draw(self, blocks)
        counter = self.counter
        if counter + blocks >= _WORD:
            raise OverflowError(f"{self!r} has no {blocks} blocks left of 2**64: spawn a new one")
        self.counter = counter + blocks
        return counter


def _below(bound: int, n: int, words: Any) -> np.ndarray:
    """n uint64 in [0, bound), bound <= 2**64, from a function that draws 64-bit words."""
    drawn = words(n)
    if bound == _WORD:
        return drawn
    value, fraction = _multiply(drawn, bound)
    if mode.live is not None and bound <= 1 << 32:
        return value  # a CUDA graph cannot draw again; a word is unfair once in 2**64 / bound
    unfair = np.flatnonzero(fraction < np.uint64(_WORD % bound))
    if len(unfair):
        value[unfair] = _below(bound, len(unfair), words)
    return value


def _multiply(words: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """The upper and lower 64 bits of words * bound, by 32-bit halves."""
    half, low_bits = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0 = words >> half, words & low_bits
    b1, b0 = np.uint64(bound >> 32), np.uint64(bound & 0xFFFFFFFF)
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & low_bits)
    return a1 * b1 + (middle >> half) + (other >> half), words * np.uint64(bound)


def _hash(key: int, low: int, high: int) -> int:
    first, second = kernels.philox_bits(key, low | high << 64, 4)[:2].tolist()
    return first | second << 32


def _integer(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} is {value!r}, expected an int in [0, 2**64)")
    if not 0 <= value < _WORD:
        raise ValueError(f"{what} is {value}, expected an int in [0, 2**64)")
    return int(value)


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(map(int, shape))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        if extent < 0:
            raise ValueError(f"Generator: shape {shape} has a negative size, expected sizes >= 0")
        count *= extent
    return count
