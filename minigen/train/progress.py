"""Progress: a bar on a terminal, plain lines elsewhere, or nothing: how a loop is watched.

A watch has `running(config, step)`, a context around the loop; `step(step, losses)` after steps;
and `stopping()`, called from a signal handler. `stages` is for work in named parts.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LINE_SECONDS = 10.0  # between plain lines


class Silent:
    """Shows nothing."""

    @contextlib.contextmanager
    def running(self, config: Any, step: int) -> Iterator[None]:
        yield

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        pass

    def stopping(self) -> None:
        pass


class Lines(Silent):
    """A plain line at the first step, each ten seconds, and at the last one."""

    def __init__(self, console: Any):
        self.console = console

    @contextlib.contextmanager
    def running(self, config: Any, step: int) -> Iterator[None]:
        self.total, self.first = config.steps, step
        self.start = self.shown = time.monotonic()
        yield

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        self.first = min(self.first, step - 1)  # a run that was rolled back begins earlier
        edge = step in (self.first + 1, self.total)
        if not edge and now - self.shown < LINE_SECONDS:
            return
        parts = [f"step {step}/{self.total}"]
        self.shown = now
        if step == self.first + 1:
            self.start = now  # this step may have compiled kernels: the rate is that of the others
        else:
            rate = (step - self.first - 1) / max(now - self.start, 1e-9)
            parts += [f"{rate:.3g} steps/s", f"{duration((self.total - step) / rate)} left"]
        self._say("  ".join([*parts, shown(losses)]))

    def stopping(self) -> None:
        self._say("stopping at the next step, with a checkpoint; once more to stop at once")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Lines):
    """A bar with the rate, the time left and the current losses."""

    progress: Any = None

    @contextlib.contextmanager
    def running(self, config: Any, step: int) -> Iterator[None]:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeLeftColumn(compact=True),
            TextColumn("{task.fields[losses]}"),
            console=self.console,
            transient=True,
        )
        self.total, self.first = config.steps, step
        self.start = time.monotonic()
        self.progress = progress
        self.task = progress.add_task(
            "training", total=config.steps, completed=step, rate="", losses=""
        )
        with progress:
            yield

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        speed = self.progress.tasks[0].speed
        self.progress.update(
            self.task,
            completed=step,
            rate=f"{speed:.3g} steps/s" if speed else "",
            losses=shown(losses),
        )

    def stopping(self) -> None:
        if self.progress is None:
            super().stopping()
        else:
            self.progress.update(self.task, description="stopping")


def watch_for(console: Any = None) -> Silent:
    """The bar if the console (a rich one; default: standard output) is a terminal, else lines."""
    if console is None:
        from rich.console import Console

        console = Console()
    return Bar(console) if console.is_terminal else Lines(console)


@contextlib.contextmanager
def stages(console: Any) -> Iterator[Callable[[str, int, int], None]]:
    """A function of (what is being done, done, total): bars on a terminal that go at the end, else
    plain lines, ten seconds apart.
    """
    if not console.is_terminal:
        last = time.monotonic()

        def line(what: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                console.print(f"{what} {done}/{total}", markup=False, soft_wrap=True)

        yield line
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=total, visible=done < total)

        yield bar


def shown(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())


def duration(seconds: float) -> str:
    """42s, 3m05s, 2h07m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
