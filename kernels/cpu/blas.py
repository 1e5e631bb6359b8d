"""Matrix products inside Numba kernels: a copy of OpenBLAS of minigen's own, one thread a call.

The library is the one in the PyPI package scipy-openblas32 (BSD licence). NumPy's bundled OpenBLAS
knows fewer processors and runs its own threads; this copy is loaded with the kernels that suit the
processor, and kernels call it from their own parallel loops. Its functions are reached by address,
under names of our own, so that SciPy's or NumPy's copy in the same process cannot be taken for it,
and so that Numba can cache the callers on disk. MINIGEN_BLAS_CORETYPE overrides the kernels.

Nothing about any particular kernel lives here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

import llvmlite.binding
from numba import types
from numba.extending import overload


def gemm(zero, trans_a, trans_b, m, n, k, a, lda, b, ldb, out, ldo):
    """out (m, n) = op(a) (m, k) @ op(b) (k, n), row-major; all sizes at least 1.

    a, b and out are addresses, lda, ldb and ldo the elements from one stored row to the next, and
    trans_a, trans_b say whether the stored matrix is the transpose. `zero` gives the dtype.
    """
    raise TypeError("gemm is called from compiled kernels only")


@overload(gemm, inline="never")
def _gemm(zero, trans_a, trans_b, m, n, k, a, lda, b, ldb, out, ldo):
    call = _SGEMM if zero == types.float32 else _DGEMM

    def product(zero, trans_a, trans_b, m, n, k, a, lda, b, ldb, out, ldo):
        one = zero + type(zero)(1)
        ta, tb = 112 if trans_a else 111, 112 if trans_b else 111
        call(101, ta, tb, m, n, k, one, a, lda, b, ldb, zero, out, ldo)

    return product


def corename() -> str:
    """The set of OpenBLAS kernels in use, for instance "SkylakeX"."""
    get = _library.scipy_openblas_get_corename
    get.restype = ctypes.c_char_p
    return get().decode()


def _core_type() -> str | None:
    """The kernels to ask for where OpenBLAS's own choice is known to be poor; None elsewhere.

    OpenBLAS looks the processor's model up in a table and takes AVX2 kernels for x86 models that it
    does not know, even where they have AVX-512: half of the speed of its SkylakeX kernels on Zen 5.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = set(next((s for s in text.splitlines() if s.startswith("flags")), "").split())
    if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
        return "SkylakeX"
    return None


def _load() -> ctypes.CDLL:
    """Load the library with its settings in the environment just for that moment."""
    spec = importlib.util.find_spec("scipy_openblas32")  # finds the package without importing it
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    found = sorted(folder.glob("*libscipy_openblas*")) if folder else []
    found = [path for path in found if path.suffix in (".so", ".dylib", ".dll")]
    if not found:
        raise ImportError(
            "CPU kernels: the package scipy-openblas32 is not installed or holds no library; "
            "run `pip install scipy-openblas32`"
        )
    settings = {"OPENBLAS_NUM_THREADS": "1"}
    core_type = os.environ.get("MINIGEN_BLAS_CORETYPE") or _core_type()
    if core_type is not None:  # this replaces OPENBLAS_CORETYPE, which was set for other copies
        settings["OPENBLAS_CORETYPE"] = core_type
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise ImportError(f"CPU kernels: cannot load {found[0]}: {error}") from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    library.scipy_openblas_set_num_threads(1)  # another package may have loaded this file before
    return library


def _external(name: str, scalar: Any) -> types.ExternalFunction:
    """A CBLAS gemm as a function that compiled code calls by a name of our own."""
    address = ctypes.cast(getattr(_library, f"scipy_cblas_{name}"), ctypes.c_void_p).value
    llvmlite.binding.add_symbol(f"minigen_{name}", address)
    sizes, matrix = [types.intc] * 6, [types.intp, types.intc]
    signature = types.void(*sizes, scalar, *matrix, *matrix, scalar, *matrix)
    return types.ExternalFunction(f"minigen_{name}", signature)


_library = _load()
_SGEMM = _external("sgemm", types.float32)
_DGEMM = _external("dgemm", types.float64)
