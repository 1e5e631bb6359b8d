"""Gradients of distances between two arrays; the distances are among the sums of `reduction`."""

from __future__ import annotations

from .blocks import load, span, store
from .language import FLOATS, cuda, device, kernel
from .loads import RUN


@device
def _sign_times(d, scale):
    """scale times the sign of d, NaN of NaN."""
    return scale if d > 0 else (-scale if d < 0 else scale * d)


@kernel("out: T*, x: T*, y: T*, scale: T*, n: int", T=FLOATS, SIGN=(False, True))
def scaled(T, SIGN):
    """scale (x - y), or scale times its sign."""

    def run(out, x, y, scale, n):
        a = cuda.local.array(8, T)
        b = cuda.local.array(8, T)
        i, count = span(n)
        if count > 0:
            s = scale[0]
            load(a, x, i, 256, count)
            load(b, y, i, 256, count)
            for u in range(RUN):
                d = a[u] - b[u]
                a[u] = _sign_times(d, s) if SIGN else d * s
            store(out, a, i, 256, count)

    return run
