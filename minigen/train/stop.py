"""Stop: how a signal ends a loop after the step in hand, so that nothing is lost."""

import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Inside: the first Ctrl-C (or SIGTERM) is remembered, the second interrupts at once."""

    def __init__(self, watch: Any):
        self.watch = watch
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                # nohup has SIGHUP ignored; a shell's `&` does so with SIGINT, which we still heed.
                if number and (name == "SIGINT" or signal.getsignal(number) != signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = int(number)
        self.watch.stopping()
