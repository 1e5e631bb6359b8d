"""Upload: a batch on its way to a GPU, copied there while the GPU works on the one before.

Page-locked memory and a stream of their own let copies run beside the work. Nothing here may know
how batches are made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigen import backend


class Uploader:
    """What uploads to one device share: the stream that copies, and copies that have not ended."""

    def __init__(self, device: str):
        with backend.on(device) as xp:
            self.device, self.stream = device, xp.cuda.Stream(non_blocking=True)
        self.flying: list[Upload] = []

    def stage(self, arrays: Sequence[np.ndarray | None]) -> "Upload":
        """The arrays in page-locked memory, in their memory order; may be called by any thread."""
        return Upload(self, arrays)

    def keep(self, upload: "Upload") -> None:
        """Keep the page-locked memory of a copy, and of those before it, until they have ended."""
        self.flying = [*(each for each in self.flying if not each.done()), upload]

    def close(self) -> None:
        """Wait until nothing is being copied."""
        self.stream.synchronize()
        self.flying.clear()


class Upload:
    """One batch, its copy started by `start` and waited for, by the GPU alone, in `arrays`."""

    def __init__(self, uploader: Uploader, arrays: Sequence[np.ndarray | None]):
        self._uploader = uploader
        with backend.on(uploader.device) as xp:
            self._staged = [None if a is None else _staged(xp, a) for a in arrays]
        self._copied: Any = None  # an event behind the copies
        self._there: list[Any] = []

    def start(self) -> None:
        """Let the copies begin once the GPU has done what it was given so far.

        Their memory is of the stream that will use them, and may have been freed by work that is
        still under way there: hence the wait.
        """
        if self._copied is not None:
            return
        stream = self._uploader.stream
        with backend.on(self._uploader.device) as xp:
            self._there = [
                None if s is None else xp.empty(s[0].shape, s[0].dtype) for s in self._staged
            ]
            stream.wait_event(xp.cuda.get_current_stream().record())
            for array, staged in zip(self._there, self._staged, strict=True):
                if staged is not None:
                    array.set(staged[0], stream)
            self._copied = stream.record()
        self._uploader.keep(self)

    def arrays(self) -> tuple[Any, ...]:
        """The device's arrays; what is given to the current stream from now on finds them full."""
        self.start()
        with backend.on(self._uploader.device) as xp:
            xp.cuda.get_current_stream().wait_event(self._copied)
        there, self._there = self._there, []
        return tuple(
            None if staged is None else array.transpose(backend.inverse(staged[1]))
            for array, staged in zip(there, self._staged, strict=True)
        )

    def done(self) -> bool:
        """Whether the copies have ended."""
        return self._copied.done

    def drop(self) -> None:
        """Wait for copies that nobody will ask for, before their memory is given to others."""
        if self._there:
            self._copied.synchronize()


def _staged(xp, array):
    """(a page-locked copy in memory order, that order)"""
    order = backend.memory_order(array)
    source = array.transpose(order)
    memory = xp.cuda.alloc_pinned_memory(source.nbytes)
    host = np.frombuffer(memory, source.dtype, source.size).reshape(source.shape)
    host[...] = source
    return host, order
