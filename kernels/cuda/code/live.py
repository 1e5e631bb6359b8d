"""Numbers that change from step to step, written into device memory."""

from __future__ import annotations

from .language import cuda, kernel


@kernel("floats: float64*, ints: int64*, f: 8 float, i: 8 int", threads=32)
def store():
    def run(floats, ints, f, i):
        if cuda.grid(1) == 0:
            floats[0], floats[1], floats[2], floats[3] = f[0], f[1], f[2], f[3]
            floats[4], floats[5], floats[6], floats[7] = f[4], f[5], f[6], f[7]
            ints[0], ints[1], ints[2], ints[3] = i[0], i[1], i[2], i[3]
            ints[4], ints[5], ints[6], ints[7] = i[4], i[5], i[6], i[7]

    return run
