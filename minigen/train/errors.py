"""What can go wrong with a run, by who has to act, and the nearest right name for a wrong one.

Imports nothing heavy: the command needs these names before it knows what it will do.
"""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What was asked for cannot be done as asked; one line says what, and what would be right."""


class RunError(RuntimeError):
    """A run stopped through no fault of the request (a full disk, say); one line says why."""


class Diverged(RunError):
    """A loss or a weight is no longer a finite number; the last good state is in a checkpoint."""


class Collapsed(RunError):
    """What a model learns has gone wrong, though its numbers are finite; `names` says how."""

    def __init__(self, message: str, names: Iterable[str] = ()):
        super().__init__(message)
        self.names = list(names)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, the known name most like `name`, with all of them if none is close."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lower[close[0]]!r}?"
    likely = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.0)
    return f"; nearest is {lower[likely[0]]!r} of {', '.join(lower.values())}" if likely else ""
