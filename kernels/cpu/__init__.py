"""The cpu target: the kernels of the reference, compiled by Numba for float32 and float64.

Every kernel has its twin here, in a module of the same name: the table is the reference's.
"""

from ..reference import TABLE

__all__ = ["TABLE"]
