"""How Numba compiles kernels that are made of parts: each part is optimised and emitted once.

Numba makes machine code of every function that a kernel calls and of three wrappers around every
parallel loop, then links all of it into the kernel as well, and optimises and emits it again there.
Here such parts are linked only: what is kept of a kernel is the same, four times as soon.

Nothing about any particular kernel lives here.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

# What Numba names the libraries of a parallel loop: its body, and the wrappers around that.
_LOOP_PARTS = re.compile("__numba_parfor_gufunc|.*_GufuncWrapper object|parallelgufuncwrapper$")


class KernelCompiler(Compiler):
    """Compiles a kernel; the parts of its parallel loops are linked only."""

    def compile_extra(self, function: Any) -> Any:
        codegen = self.state.targetctx.codegen()
        with _parts_linked_only(codegen), _fewer_collections():
            result = super().compile_extra(function)
        for environment in result._find_referenced_environments():  # the parts', too
            codegen.set_env(environment.env_name, environment)
        return result


class PartCompiler(Compiler):
    """Compiles a function that kernels call, never Python: it is linked only."""

    def compile_extra(self, function: Any) -> Any:
        self.state.library = _Part(self.state.targetctx.codegen(), function.__qualname__)
        return super().compile_extra(function)


class _Part(JITCodeLibrary):
    """Code that has no machine code here, only in the libraries that it is linked into."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    @property
    def codegen(self) -> Any:
        return _Environments


class _Environments:
    """The kernel that a part is linked into tells it its environment."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        pass


@contextlib.contextmanager
def _parts_linked_only(codegen: Any) -> Iterator[None]:
    create = codegen.create_library

    def choose(name: str, **options: Any) -> Any:
        return _Part(codegen, name) if _LOOP_PARTS.match(name) else create(name, **options)

    codegen.create_library = choose
    try:
        yield
    finally:
        codegen.create_library = create


@contextlib.contextmanager
def _fewer_collections() -> Iterator[None]:
    """Let the compiler's many small objects be; Python looks for garbage less often."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
