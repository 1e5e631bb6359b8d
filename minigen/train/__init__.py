"""Training: runs on disk, the loop, checkpoints, reports. Knows models by `nn.Model` only.

    import minigen.train
    run = minigen.train.fit("dcgan", steps=200, out="runs/first")
    run = minigen.train.resume("runs/first", steps=400)
"""

import importlib
from typing import TYPE_CHECKING, Any

from minigen.train.errors import Collapsed, Diverged, RunError, UsageError

if TYPE_CHECKING:
    from minigen.train.build import load_run
    from minigen.train.loop import Run, fit, resume
    from minigen.train.registry import register

__all__ = [
    "Collapsed", "Diverged", "Run", "RunError", "UsageError", "fit", "load_run", "register",
    "resume",
]  # fmt: skip

_WHERE = {"Run": "loop", "fit": "loop", "resume": "loop", "load_run": "build",
          "register": "registry"}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The loop brings the engine and its kernels with it: it is imported when first used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
