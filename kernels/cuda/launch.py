"""The launcher: from a kernel's name to its code on this device, and onto CuPy's current stream.

Code comes from the folder that MINIGEN_CUDA_KERNELS names (made by `minigen kernels build`), or
from a cache on disk (MINIGEN_CUDA_CACHE, otherwise the user's), or is compiled there and then;
only that imports Numba. A launch costs two look-ups and what CuPy does for each argument, some
microseconds in all.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy

from . import build
from . import compile as compiler

THREADS = 256  # of a block, where a kernel does not say otherwise
FOLDER, CACHE = "MINIGEN_CUDA_KERNELS", "MINIGEN_CUDA_CACHE"

_log = logging.getLogger("minigen")
_device = cupy.cuda.runtime.getDevice
_functions: dict[tuple[Any, ...], Callable[..., Any]] = {}  # machine code is loaded for one device


def launch(
    name: str, blocks: tuple[int, ...], threads: int, *args: Any, shared: int = 0, **variant: Any
) -> None:
    """Run the kernel "module.name" on the current stream; nothing if there are no blocks.

    Arrays are passed as the pointer to their first element (None as 0), ints as 64-bit, floats as
    float64 numbers; `variant` is in the order of the kernel's declaration, dtypes by name or as
    they are, which is faster. `shared` is the size of dynamic shared memory in bytes.
    """
    if 0 in blocks:
        return
    key = (_device(), name, *variant.values())
    function = _functions.get(key)
    if function is None:
        variant = {k: getattr(value, "name", value) for k, value in variant.items()}
        function = _functions[key] = find(name, variant)
    if shared:
        allow_shared(function, shared)
    function(blocks, (threads,), args, shared)


def find(name: str, variant: dict[str, Any]) -> Callable[..., Any]:
    """The function of one variant of a kernel, loaded, compiled where it must be."""
    entry, arch = compiler.entry_name(name, variant), _architecture()
    built = built_folder(arch)
    for folder in (built, cache_folder(arch)):
        for suffix in ("cubin", "ptx"):
            path = folder and folder / f"{entry}.{suffix}"
            if path and path.is_file():
                return _load(path, entry)
    if built is not None:
        _log.warning("%s has no %s; it is compiled now", built, entry)
    _say_once()
    made = build.make(arch, (name, variant))
    return _load(_kept(made, cache_folder(arch)), entry)


@functools.cache
def built_folder(arch: str) -> Path | None:
    """The folder of kernels built ahead of time, after checking that they fit."""
    named = os.environ.get(FOLDER, "").strip()
    if not named:
        return None
    folder, remedy = Path(named), f"minigen kernels build --arch {arch} --out DIR makes one"
    try:
        manifest = json.loads((folder / build.MANIFEST).read_text())
        found = (manifest["arch"], manifest["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{FOLDER}: {folder} is no complete folder of kernels"
            f" ({type(error).__name__}: {error}); {remedy}"
        ) from None
    expected = (arch, compiler.source_fingerprint())
    if found != expected:
        raise RuntimeError(
            f"{FOLDER}: {folder} was built for {found[0]} from sources {found[1]}, this is"
            f" {expected[0]} and {expected[1]}; {remedy}"
        )
    return folder


@functools.cache
def cache_folder(arch: str) -> Path:
    """Where code is kept that was compiled on first use, by architecture and sources."""
    root = os.environ.get(CACHE, "").strip()
    if not root:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "minigen", "cuda")
    return Path(root, f"{arch}-{compiler.source_fingerprint()}")


def allow_shared(function: Callable[..., Any], shared: int) -> None:
    """Let a function have more than 48 KB of dynamic shared memory."""
    driver = cupy.cuda.driver
    attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    if driver.funcGetAttribute(attribute, function.ptr) < shared:  # type: ignore[attr-defined]
        driver.funcSetAttribute(function.ptr, attribute, shared)  # type: ignore[attr-defined]


def _load(path: Path, entry: str) -> Callable[..., Any]:
    """CuPy's function, called with (blocks, threads, arguments, bytes of shared memory)."""
    module = cupy.cuda.Module()
    try:
        module.load(path.read_bytes())
        return module.get_function(entry)
    except cupy.cuda.driver.CUDADriverError as error:
        raise RuntimeError(
            f"the driver does not load {path} ({error}); machine code of this build needs a driver"
            " for CUDA 13 (580 or newer); delete the file to have it made anew"
        ) from None


def _kept(made: build.Made, folder: Path) -> Path:
    """The file of newly made code, in another folder where this one cannot be written."""
    try:
        return build.keep(folder / made.file, made.code)
    except OSError as error:
        _log.warning("CUDA kernels are not kept for the next time: %s", error)
        return build.keep(_temporary_folder() / made.file, made.code)


@functools.cache
def _temporary_folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="minigen-cuda-"))


@functools.cache
def _say_once() -> None:
    _log.info("compiling CUDA kernels on first use; the machine code is kept on disk")


def _architecture() -> str:
    return f"sm_{cupy.cuda.Device().compute_capability}"
