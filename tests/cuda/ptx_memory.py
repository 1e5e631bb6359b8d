"""Memory for tests/cuda/ptx_machine.py: arrays of the host, and the shared memory of blocks.

A place is a 64-bit address of a byte. Every access is held against the bounds of what was passed or
declared, and against the alignment that the instruction needs; what lies outside raises.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_NOBODY, _SEVERAL = -1, -2
_SPAN = 36  # each array has 2**36 addresses, of which it fills a few


class Fault(RuntimeError):
    """An access that a GPU would not survive, or would answer with rubbish."""


class _Accesses:
    """Who wrote and read each word of 4 bytes, to find those that nothing puts in an order."""

    def __init__(self, size: int):
        self.writer = np.full(-(-size // 4), _NOBODY, np.int32)
        self.reader = self.writer.copy()

    def forget(self, words: slice) -> None:
        self.writer[words] = self.reader[words] = _NOBODY

    def read(self, first: np.ndarray, length: int, who: np.ndarray, kind: str) -> None:
        """Note accesses of a length by threads or blocks, from the words given."""
        for word in [first + i for i in range(length // 4)]:  # fewer bytes are not looked at
            writer, reader = self.writer[word], self.reader[word]
            if ((writer != _NOBODY) & (writer != who)).any():
                raise Fault(f"a {kind} reads what another has written, in no known order")
            alone = (reader == _NOBODY) | (reader == who)
            self.reader[word] = np.where(alone, who, _SEVERAL)
            others = alone & (self.reader[word] != who)  # by the same instruction
            self.reader[word[others]] = _SEVERAL

    def write(
        self, first: np.ndarray, length: int, who: np.ndarray, kind: str, changed: np.ndarray
    ) -> None:
        """The same for stores, of which some change what is there."""
        for word in [first + i for i in range(length // 4)]:
            writer, reader = self.writer[word], self.reader[word]
            if (changed & (reader != _NOBODY) & (reader != who)).any():
                raise Fault(f"a {kind} writes where another has read, in no known order")
            if (changed & (writer != _NOBODY) & (writer != who)).any():
                raise Fault(f"a {kind} writes where another has written, in no known order")
            self.writer[word] = who


class _Region(NamedTuple):
    start: int
    end: int
    bytes: np.ndarray
    words: dict  # by the size of a word, the aligned words and the address of the first
    accesses: _Accesses

    def of_words(self, size):
        if size not in self.words:
            first = -(-self.start // size) * size
            whole = self.bytes[first - self.start :]
            whole = whole[: whole.size // size * size].view(WORDS[size])
            self.words[size] = (whole, np.uint64(first), np.uint64(size.bit_length() - 1))
        return self.words[size]


class Global:
    """The arrays that a kernel was given."""

    def __init__(self):
        self.regions: dict[int, _Region] = {}
        self.known: dict[tuple, int] = {}  # the same array may be given twice
        self.block = np.zeros(1, np.int32)  # of the threads that run now, by number in the grid

    def add(self, flat: np.ndarray) -> int:
        """The address of the first element of an array in one piece; 0 if there is none."""
        if not flat.size:
            return 0
        root = base = flat
        while base is not None:
            root = base if isinstance(base, np.ndarray) else root
            base = getattr(base, "base", None)
        key = flat.ctypes.data, flat.nbytes
        if key in self.known:
            return self.known[key]
        number = len(self.regions) + 1
        # Memory is allocated at multiples of 256; a view starts where it starts in there.
        offset = (flat.ctypes.data - root.ctypes.data) % 256
        start = (number << _SPAN) + 4096 + offset
        data = flat.view(np.uint8)
        self.regions[number] = _Region(start, start + data.size, data, {}, _Accesses(data.size))
        self.known[key] = start
        return start

    def load(self, at: np.ndarray, size: int, count: int, lanes) -> list[np.ndarray]:
        found = [np.empty(at.size, WORDS[size]) for _ in range(count)]
        block = self.block[lanes]
        for which, region, places, fours in self._places(at, size, count):
            words = region.of_words(size)[0]
            region.accesses.read(fours, size * count, block[which], "block")
            for i, each in enumerate(found):
                each[which] = words[places + i]
        return found

    def store(self, at: np.ndarray, size: int, values: list[np.ndarray], lanes) -> None:
        block = self.block[lanes]
        for which, region, places, fours in self._places(at, size, len(values)):
            words, some = region.of_words(size)[0], [value[which] for value in values]
            changed = _changed(words, places, some)
            length = size * len(values)
            region.accesses.write(fours, length, block[which], "block", changed)
            _write(words, places, some)

    def _places(self, at, size, count):
        """For each array among the addresses: which, the array, its words, and those of 4 bytes."""
        check_alignment(at, size * count)
        numbers = at >> np.uint64(_SPAN)
        if (numbers == numbers[0]).all():
            groups = [(slice(None), int(numbers[0]))]
        else:
            groups = [(numbers == n, int(n)) for n in np.unique(numbers)]
        for which, number in groups:
            some, region = at[which], self.regions.get(number)
            low, high = int(some.min()), int(some.max()) + size * count
            if region is None:
                raise Fault(f"an access at {low:#x}, which is in no array")
            if low < region.start or high > region.end:
                raise Fault(
                    f"an access of {size * count} bytes at {low - region.start} to"
                    f" {high - region.start - size * count} from the start of array {number},"
                    f" which has {region.end - region.start} bytes"
                )
            _, first, shift = region.of_words(size)
            places = ((some - first) >> shift).astype(np.intp)
            yield which, region, places, (some - np.uint64(region.start)).astype(np.intp) // 4


class Shared:
    """The shared memory of each of the blocks that run at the same time."""

    def __init__(self, program, dynamic: int, block_of: np.ndarray):
        self.symbols, size = dict(program.shared), program.static
        if program.dynamic:
            start = -(-size // 128) * 128
            self.symbols[program.dynamic] = (start, dynamic)
            size = start + dynamic
        self.pitch = -(-size // 128) * 128
        blocks = int(block_of[-1]) + 1
        self.bytes = np.full(blocks * self.pitch, 0xFF, np.uint8)  # NaN, as floats
        self.inside = np.zeros(self.pitch, bool)
        for start, length in self.symbols.values():
            self.inside[start : start + length] = True
        self.block, self.first = block_of, block_of.astype(np.int64) * self.pitch
        self.thread = np.arange(block_of.size, dtype=np.int32)
        self.accesses = _Accesses(self.bytes.size)  # since the block's last barrier

    def load(self, at: np.ndarray, size: int, count: int, lanes) -> list[np.ndarray]:
        words, places = self.bytes.view(WORDS[size]), self._places(at, size, count, lanes)
        self.accesses.read(places * size // 4, size * count, self.thread[lanes], "thread")
        return [words[places + i] for i in range(count)]

    def store(self, at: np.ndarray, size: int, values: list[np.ndarray], lanes) -> None:
        words, places = self.bytes.view(WORDS[size]), self._places(at, size, len(values), lanes)
        changed, length = _changed(words, places, values), size * len(values)
        self.accesses.write(places * size // 4, length, self.thread[lanes], "thread", changed)
        _write(words, places, values)

    def barrier(self, lanes) -> None:
        """All threads of the blocks of these are done with what they did before."""
        for block in np.unique(self.block[lanes]):
            self.accesses.forget(slice(block * self.pitch // 4, (block + 1) * self.pitch // 4))

    def _places(self, at, size, count, lanes):
        check_alignment(at, size * count)
        at = at.astype(np.int64)
        last = at + (size * count - 1)
        there = at.min() >= 0 and last.max() < self.pitch
        if not there or not (self.inside[at] & self.inside[last]).all():
            raise Fault(
                f"an access of {size * count} bytes at {at.min()} to {at.max()} of shared memory,"
                f" which has {self.symbols}"
            )
        return (at + self.first[lanes]) // size


def check_alignment(at: np.ndarray, size: int) -> None:
    """Raise unless all addresses are multiples of the size of an access."""
    if (at & at.dtype.type(size - 1)).any():
        raise Fault(f"an access of {size} bytes at an address that is no multiple of it")


def _changed(words, places, values):
    """Which stores of some neighbours each would change what is there."""
    return np.logical_or.reduce([words[places + i] != value for i, value in enumerate(values)])


def _write(words, places, values):
    """Store some neighbours each; threads that write to one place must agree."""
    for i, value in enumerate(values):
        words[places + i] = value
        if (words[places + i] != value).any():
            raise Fault("threads store different values in one place by the same instruction")
