"""How work in named parts is shown."""

import io

import pytest
from rich.console import Console

from minigen.train import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 4 seconds whenever it is looked at."""
    ticks = iter(range(0, 10_000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_parts_are_lines_now_and_then(clock):
    text = io.StringIO()
    with progress.stages(Console(file=text)) as tell:
        for done in range(1, 11):
            tell("images [of all]", done, 10)
    lines = text.getvalue().splitlines()
    assert 2 <= len(lines) <= 4 and lines[0] == "images [of all] 3/10"


def test_parts_are_bars_on_a_terminal_that_go_at_the_end():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    with progress.stages(console) as tell:
        tell("samples", 5, 10)
        tell("copies", 1, 4)
        tell("samples", 10, 10)
    shown = text.getvalue()
    assert "samples" in shown and "copies" in shown and "50%" in shown
    assert shown.endswith("\x1b[2K")  # erased
