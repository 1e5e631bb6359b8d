"""From a declared kernel to machine code: Numba-CUDA makes PTX, ptxas a cubin.

No GPU is needed. Nothing imports Numba before a kernel has to be compiled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

MODULES = (
    "elementwise", "random", "sampling", "optim",
    "live", "many",
    "reduction",
    "choosing",
    "gather",
    "max_pool",
    "patches",
    "pool",
    "resample",
    "gemm", "conv", "conv_direct", "conv_thin", "matmul", "linear", "tensor_core",
    "norm", "whole_norm", "group_norm", "softmax", "loss", "distance",
)  # fmt: skip

_one_at_a_time = threading.Lock()


class Report(NamedTuple):
    """What ptxas says of a kernel: registers a thread, bytes spilled and of stack, shared bytes."""

    registers: int
    spilled: int
    stack: int
    shared: int


def declared(name: str) -> Any:
    """The declaration of "module.kernel"."""
    module, _, kernel = name.partition(".")
    return getattr(_code(module), kernel)


def all_kernels() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, variant) of everything that `minigen kernels build` compiles."""
    for module in MODULES:
        code = _code(module)
        for name, each in vars(code).items():
            if type(each).__name__ == "Declared" and each.make.__module__ == code.__name__:
                for variant in each.each_variant():
                    yield f"{module}.{name}", variant


def entry_name(name: str, variant: dict[str, Any]) -> str:
    """The name of a variant's code, and of the file that it is kept in."""
    return "_".join([name.replace(".", "_"), *map(str, variant.values())])


@functools.cache
def source_fingerprint() -> str:
    """A hash of the sources that kernels are compiled from."""
    here = Path(__file__).parent
    shared = *sorted(here.parent.glob("*formulas.py")), here.parent / "reference" / "random.py"
    sources = [*sorted((here / "code").glob("*.py")), *shared, Path(__file__)]
    text = b"".join(each.read_bytes() for each in sources if each.is_file())
    return hashlib.sha256(text).hexdigest()[:16]


def capability(arch: str) -> tuple[int, int]:
    """(9, 0) of "sm_90"; ValueError for what is no architecture."""
    found = re.fullmatch(r"sm_(\d+)(\d)", arch)
    if found is None:
        raise ValueError(f"arch {arch!r}: expected sm_ and a compute capability, such as sm_90")
    return int(found[1]), int(found[2])


def ptx(name: str, variant: dict[str, Any], capability: tuple[int, int]) -> str:
    """The PTX of one variant of a kernel, under its `entry_name`.

    Raises RuntimeError in one line where Numba-CUDA or NVIDIA's compiler library is missing.
    """
    with _one_at_a_time, _row_stack():
        kernel = declared(name)
        for key, value in variant.items():
            if value not in kernel.variants[key]:
                known = ", ".join(map(str, kernel.variants[key]))
                raise TypeError(f"{name}: {key} is {value}, but the kernel is for {known}")
        from numba import cuda, types
        from numba.cuda import dispatcher
        from numba.cuda.cudadrv import nvvm

        pointed, plain = _code("language").TYPES, {"int": types.int64, "float": types.float64}
        passed = [
            types.CPointer(pointed[kind[:-1]]) if kind.endswith("*") else plain[kind]
            for kind in kernel.arguments(variant)
        ]
        arguments = kernel.grouped(passed)
        # Numba asks the GPU for its compute capability when it compiles device functions; there
        # may be none, or another than the one that is compiled for.
        asked, dispatcher.get_current_device = (
            dispatcher.get_current_device,
            lambda: SimpleNamespace(compute_capability=capability),
        )
        # And it has no option for this one of NVVM's.
        made, nvvm.compile_ir = (
            nvvm.compile_ir,
            functools.partial(nvvm.compile_ir, fma=kernel.fused),
        )
        try:
            text, _ = cuda.compile(
                kernel.function(variant),
                types.void(*[types.Tuple(a) if type(a) is tuple else a for a in arguments]),
                device=False,
                abi="numba",
                cc=capability,
                output="ptx",
                opt=True,
                launch_bounds=kernel.threads,
            )
        except RuntimeError as error:  # no libNVVM, or no NVRTC
            why = " ".join(str(error).split())[:200]
            raise RuntimeError(
                f"{name} cannot be compiled: {why}; NVIDIA's compiler comes with pip install"
                " 'minigen[cuda-build]'"
            ) from error
        finally:
            dispatcher.get_current_device, nvvm.compile_ir = asked, made
    text = text.decode() if isinstance(text, bytes) else text
    mangled = re.search(r"\.visible \.entry (\w+)\(", text)
    assert mangled is not None, name
    return text.replace(mangled[1], entry_name(name, variant))


def assemble(text: str, arch: str) -> tuple[bytes, Report]:
    """PTX -> (cubin, what ptxas says). Raises RuntimeError where there is no ptxas, or it fails."""
    program = find_ptxas()
    if program is None:
        raise RuntimeError(
            "assemble: there is no ptxas; pip install 'minigen[cuda-build]', or a CUDA toolkit"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(text)
        command = [program, "-v", f"-arch={arch}", str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ptxas: {' '.join(done.stderr.split())[:300]}")
        return made.read_bytes(), _report(done.stderr)


@functools.cache
def find_ptxas() -> str | None:
    """The program, from the wheel nvidia-cuda-nvcc or from a toolkit; None if there is none."""
    with contextlib.suppress(ImportError):
        spec = importlib.util.find_spec("nvidia")
        for folder in spec.submodule_search_locations or () if spec else ():
            for found in sorted(Path(folder).glob("cu*/bin/ptxas")):
                return str(found)
    return shutil.which("ptxas") or shutil.which("/usr/local/cuda/bin/ptxas")


@functools.cache
def _code(module: str) -> ModuleType:
    """code/<module>.py, which imports Numba-CUDA; RuntimeError where that cannot be."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise RuntimeError(
            "CUDA kernels are compiled by numba-cuda, which is not installed: pip install"
            " 'minigen[cuda]'; or build them elsewhere (minigen kernels build --help says how)"
        )
    try:
        # Puts numba-cuda in the place of numba.cuda, as a .pth file does where pip installed it,
        # but not where its folder is merely on the path.
        with contextlib.suppress(ImportError):
            importlib.import_module("_numba_cuda_redirector")
        with _row_stack():
            return importlib.import_module(f"{__package__}.code.{module}")
    except ImportError as error:
        if (error.name or "").startswith("minigen"):
            raise
        raise RuntimeError(
            f"numba-cuda cannot be used ({error}): pip install 'minigen[cuda]'"
        ) from error


@contextlib.contextmanager
def _row_stack() -> Iterator[None]:
    """Inside, NumPy has row_stack, which numba-cuda 0.30 asks for and NumPy 2.5 lacks."""
    import numpy as np

    missing = not hasattr(np, "row_stack")
    if missing:
        setattr(np, "row_stack", np.vstack)  # noqa: B010
    try:
        yield
    finally:
        if missing:
            delattr(np, "row_stack")


def _report(text: str) -> Report:
    def number(pattern: str) -> int:
        found = re.findall(pattern, text)
        return max(map(int, found), default=0)

    return Report(
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes smem"),
    )
