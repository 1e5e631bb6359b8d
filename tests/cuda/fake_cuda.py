"""Devices, streams, events and pinned memory of the stand-in for CuPy.

Work on the default stream is done at once. On any other it is put off as long as the program
allows: until somebody waits for the stream or for an event after it. So a buffer that is used, or
written again, too early shows.
"""

from __future__ import annotations

import threading

import numpy as np


class CUDARuntimeError(RuntimeError):
    """As CuPy raises where there is no driver or no GPU."""


class _Current(threading.local):
    device, streams = 0, ()


current = _Current()  # of each thread


class Device:
    """A GPU; as a context, the thread's current one."""

    compute_capability = "90"

    def __init__(self, id=None):
        self.id = current.device if id is None else int(id)
        self._before = []

    def __enter__(self):
        self._before.append(current.device)
        current.device = self.id
        return self

    def __exit__(self, *error):
        current.device = self._before.pop()

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def use(self):
        current.device = self.id

    def synchronize(self):
        get_current_stream().synchronize()


class Stream:
    """A queue of work that waits for somebody to need it."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.null, self._queue = null, []

    def enqueue(self, work):
        if self.null:
            work()
        else:
            self._queue.append(work)

    def synchronize(self):
        while self._queue:
            self._queue.pop(0)()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        event.synchronize()

    def begin_capture(self, mode=None):
        fake_graph.begin_capture(self)

    def end_capture(self):
        return fake_graph.end_capture(self)

    def is_capturing(self):
        return fake_graph.is_capturing(self)

    def __enter__(self):
        current.streams = (*current.streams, self)
        return self

    def __exit__(self, *error):
        current.streams = current.streams[:-1]


_default = Stream(null=True)


def get_current_stream():
    return current.streams[-1] if current.streams else _default


class Event:
    """A place in a stream's queue."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._before, self._stream = [], _default

    def record(self, stream=None):
        self._stream = stream or get_current_stream()
        self._before = list(self._stream._queue)

    @property
    def done(self):
        return not any(work in self._stream._queue for work in self._before)

    def synchronize(self):
        for work in self._before:
            if work in self._stream._queue:
                self._stream._queue.remove(work)
                work()


def alloc_pinned_memory(size):
    """Memory that offers the buffer protocol."""
    return memoryview(np.full(max(size, 1), 255, np.uint8))


from tests.cuda import fake_graph  # noqa: E402  which needs the names above
