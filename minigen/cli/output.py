"""Output: the one place through which the command speaks.

With --json standard output gets the document and nothing else; people are then told things on
standard error. Log lines of the library go through the same console, so that no bar is broken.
"""

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any


class Output:
    """Tables, lines and JSON of one command."""

    def __init__(self, args: argparse.Namespace):
        self.json, self.quiet = args.json, args.quiet
        self._handler = _ConsoleHandler(self)
        level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
        logger = logging.getLogger("minigen")
        self._before = logger.level
        logger.setLevel(level)
        logger.addHandler(self._handler)

    @cached_property
    def console(self) -> Any:
        """A rich Console, imported when something is to be shown."""
        from rich.console import Console

        class PatientConsole(Console):
            def on_broken_pipe(self) -> None:
                """Whoever read (`minigen train ... | head`) has seen enough: work on."""
                self.quiet = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        console = PatientConsole(stderr=self.json, highlight=False, soft_wrap=True)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = 200  # a pipe has no width: the cells of tables must not be cut there
        return console

    def close(self) -> None:
        """Leave logging as it was found."""
        logger = logging.getLogger("minigen")
        logger.removeHandler(self._handler)
        logger.setLevel(self._before)

    def say(self, text: str = "") -> None:
        """A line for people; left out by --quiet."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def result(self, document: Any) -> None:
        """The JSON document of --json; numbers that JSON lacks become null."""
        json.dump(_jsonable(document), sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; columns whose name ends in '>' are set flush right."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in columns:
            right = name.endswith(">")
            table.add_column(name.rstrip(">"), justify="right" if right else "left",
                             no_wrap=right or name == columns[0])  # fmt: skip
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        if title:
            self.console.print(Text(title, style="bold"))
        self.console.print(table, soft_wrap=False)


class _ConsoleHandler(logging.Handler):
    """Log records as lines of the console."""

    def __init__(self, output: Output):
        super().__init__()
        self.output, self.last = output, ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if text != self.last:  # what two threads or two splits of the data say, once
            self.output.console.print(text, markup=False)
        self.last = text


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
