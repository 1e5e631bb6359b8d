"""CUDA kernels (Numba-CUDA under CuPy arrays), under the names of `reference`; none exists yet.

The dispatch in `minigen.kernels` raises for an array on a GPU whose kernel is missing here: nothing
falls back to the CPU by itself.
"""

TABLE: dict[str, str] = {}  # name of a kernel -> module that holds it
