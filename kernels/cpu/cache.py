"""Where the machine code of CPU kernels is kept between runs: Numba's cache on disk, made safe.

Numba keeps it next to the source, or in its user cache where that folder cannot be written, or in
NUMBA_CACHE_DIR. Numba alone forgets it when the file that defines a kernel changes; here it is also
forgotten when a helper from another file does (an upgrade, an edit). Processors that share a folder
keep separate files. A cache that cannot be read or written costs compiling again, never the run.

Nothing about any particular kernel lives here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import logging
import os
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.registry import cpu_target

# (target triple, processor, features) that Numba compiles for; NUMBA_CPU_NAME may change them.
TARGET: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()

_log = logging.getLogger("minigen")
_warned = False
_IMPORT = re.compile(r"^from (\.+)([\w.]*) import \(?\s*(\w+)", re.MULTILINE)


def keep(dispatcher: Any) -> Any:
    """Keep the machine code of a Numba function on disk; return the function."""
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)  # as Dispatcher.enable_caching does
    except (OSError, RuntimeError) as error:
        _warn_once(f"no folder can be written ({error})")
    return dispatcher


@functools.cache
def fingerprint(source: Path) -> str:
    """A hash of a source file and of those that it imports from by relative imports, in turn."""
    found: dict[Path, bytes] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = path.read_bytes()
        for dots, module, name in _IMPORT.findall(found[path].decode()):
            folder = path.parents[len(dots) - 1].joinpath(*module.split("."))
            waiting += [folder.with_suffix(".py"), folder / f"{name}.py"]
    return hashlib.sha256(b"".join(found[path] for path in sorted(found))).hexdigest()


def kept_bytes(function: Callable[..., Any], name: str) -> bytes | None:
    """What `keep_bytes` kept for a function and name; None if nothing, damaged or out of date."""
    try:
        files = _Files(function)
        kept = _path(files, name).read_bytes()
    except (OSError, RuntimeError):
        return None
    return kept[32:] if kept[:32] == _seal(files, kept[32:]) else None


def keep_bytes(function: Callable[..., Any], name: str, data: bytes) -> None:
    """Keep data beside the machine code of a Python function; all of it, or nothing."""
    try:
        files = _Files(function)
        path = _path(files, name)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(_seal(files, data) + data)
        os.replace(file.name, path)
    except (OSError, RuntimeError) as error:
        _warn_once(f"no folder can be written ({error})")


class _Files(CompileResultCacheImpl):
    """Names the files by processor, and stamps them with the sources."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        stamp = fingerprint(Path(inspect.getfile(function)).resolve())
        self.locator.get_source_stamp = lambda: stamp

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        processor = hashlib.sha256(repr(TARGET).encode()).hexdigest()[:8]
        return f"{super().get_filename_base(fullname, abiflags)}-{processor}"


def _path(files: _Files, name: str) -> Path:
    return Path(files.locator.get_cache_path(), f"{files.filename_base}.{name}")


def _seal(files: _Files, data: bytes) -> bytes:
    return hashlib.sha256(files.locator.get_source_stamp().encode() + data).digest()


class _Cache(FunctionCache):
    _impl_class = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._give_up(error)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Say so, and let damaged files be written anew."""
        _warn_once(f"{self.cache_path}: {error!r}")
        with contextlib.suppress(OSError):
            self.flush()


def _warn_once(reason: str) -> None:
    global _warned
    if _warned:
        return
    _warned = True
    _log.warning(
        "CPU kernels compile anew, their machine code cannot be kept on disk or read from it: %s; "
        "NUMBA_CACHE_DIR may name another folder",
        reason,
    )
