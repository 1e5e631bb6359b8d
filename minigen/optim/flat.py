"""Parameters side by side in one flat buffer, so that an optimiser's step is one kernel call.

`flatten` rebinds the arrays of Tensors as views of a 1-D buffer, each in its own memory order
(channels-last weights stay channels-last). `Block` keeps state beside such Tensors (moments,
averages) in 1-D buffers laid out alike, and says over which stretches of memory both can be
walked together. Nothing here knows what a gradient is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigen import backend
from minigen.backend import inverse, memory_order
from minigen.tensor import Tensor

ALIGN = 16  # elements: each parameter starts at a multiple, as vector loads like it


def memory(array: Any) -> Any:
    """The array's elements as a 1-D view in memory order; None if they do not lie side by side."""
    if not array.flags.c_contiguous:
        array = array.transpose(memory_order(array))
        if not array.flags.c_contiguous:
            return None
    return array.reshape(-1)


def flatten(tensors: Sequence[Tensor]) -> None:
    """Rebind the arrays of the tensors as views of one flat buffer (one a dtype and device).

    Those that are such views already, be it of another buffer, stay: several optimisers may share
    parameters. Values, shapes, memory order and the Tensors themselves stay; arrays taken from
    them before go stale.
    """
    loose = [t for t in tensors if not _is_flat(t.data)]
    for members in by_kind(loose):
        arrays = [loose[i].data for i in members]
        offsets, size = _offsets(arrays)
        buffer = backend.like(arrays[0]).zeros(size, arrays[0].dtype)
        for i, view in zip(members, _views(buffer, arrays, offsets), strict=True):
            view[...] = loose[i].data
            loose[i].data = view


def by_kind(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The positions of the tensors, grouped by dtype and device."""
    groups: dict[tuple, list[int]] = {}
    for i, t in enumerate(tensors):
        groups.setdefault((t.dtype, t.device), []).append(i)
    return list(groups.values())


class Block:
    """Named 1-D state buffers beside Tensors of one dtype and device that `flatten` has bound."""

    def __init__(self, tensors: Sequence[Tensor], names: Sequence[str]):
        self.tensors, self.arrays = list(tensors), [t.data for t in tensors]
        self.offsets, self.size = _offsets(self.arrays)
        xp, dtype = backend.like(self.arrays[0]), self.arrays[0].dtype
        self.buffers = {name: xp.zeros(self.size, dtype) for name in names}
        bases: list[Any] = [a.base for a in self.arrays]
        starts = [_start(a, base) for a, base in zip(self.arrays, bases, strict=True)]
        self.bases, self.starts = bases, starts
        # Whether tensor i follows tensor i - 1 in its buffer just as it does in the state.
        self.follows = [False] + [
            bases[i] is bases[i - 1]
            and starts[i] - starts[i - 1] == self.offsets[i] - self.offsets[i - 1]
            for i in range(1, len(bases))
        ]

    def is_current(self) -> bool:
        """Whether the tensors still hold the arrays that this block was made for."""
        return all([t.data is a for t, a in zip(self.tensors, self.arrays, strict=True)])

    def views(self, name: str) -> list[Any]:
        """The state `name` tensor by tensor, as views of the tensors' shapes."""
        return _views(self.buffers[name], self.arrays, self.offsets)

    def stretch(self, first: int, last: int) -> tuple[Any, slice]:
        """The memory of tensors first..last, 1-D, and the slice of the state beside it."""
        start, stop = self.offsets[first], self.offsets[last] + self.arrays[last].size
        at = self.starts[first]
        return self.bases[first][at : at + stop - start], slice(start, stop)

    def stretches(self) -> Iterator[tuple[Any, slice]]:
        """The longest stretches that cover all tensors."""
        first = 0
        for i in range(1, len(self.tensors) + 1):
            if i == len(self.tensors) or not self.follows[i]:
                yield self.stretch(first, i - 1)
                first = i


def _is_flat(array):
    """Whether the array is a dense view of a longer 1-D one of its dtype."""
    base = array.base
    return (
        getattr(base, "ndim", 0) == 1
        and base.dtype == array.dtype
        and base.flags.c_contiguous
        and memory(array) is not None
    )


def _offsets(arrays):
    """Where each array starts in a flat buffer, and the buffer's size."""
    offsets, size = [], 0
    for array in arrays:
        offsets.append(size)
        size += -(-array.size // ALIGN) * ALIGN
    return offsets, size


def _views(buffer, arrays, offsets):
    """Views of the 1-D buffer with each array's shape and memory order."""
    views = []
    for array, offset in zip(arrays, offsets, strict=True):
        order = memory_order(array)
        stored = buffer[offset : offset + array.size].reshape([array.shape[axis] for axis in order])
        views.append(stored.transpose(inverse(order)))
    return views


def _start(array, base):
    """The position of the array's first element in its 1-D base."""
    if array.size == 0:
        return 0
    return (_address(array) - _address(base)) // array.dtype.itemsize


def _address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
