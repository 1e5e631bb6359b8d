"""The cpu target: the kernels of the reference, compiled by Numba for float32 and float64.

Every kernel has its twin here, in a module of the same name, so the table is a copy.
"""

from ..reference import TABLE as _NAMES

TABLE: dict[str, str] = dict(_NAMES)
