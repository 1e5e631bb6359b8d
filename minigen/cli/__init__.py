"""The `minigen` command, one file a verb. Nothing in the package may import from here."""

from minigen.cli.command import main

__all__ = ["main"]
