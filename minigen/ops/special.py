"""Special functions that NumPy does not have: the error function.

What may never live here: what NumPy has (elementwise).
"""

import math

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import op
from minigen.ops.elementwise import exp, square

__all__ = ["erf"]


@op
def erf(x):
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    floating = getattr(x, "dtype", None) in (np.float32, np.float64)
    return kernels.erf(x if floating else (x if hasattr(x, "dtype") else np.asarray(x)) * 1.0)


erf.vjp(x=lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-square(x))))
