"""Numbers that change from step to step, written into device memory."""

from __future__ import annotations

from .language import cuda, kernel

FLOATS8 = ", ".join(f"f{i}: float" for i in range(8))
INTS8 = ", ".join(f"i{i}: int" for i in range(8))


@kernel(f"floats: float64*, ints: int64*, {FLOATS8}, {INTS8}", threads=32)
def store():
    def run(
        floats, ints, f0, f1, f2, f3, f4, f5, f6, f7, i0, i1, i2, i3, i4, i5, i6, i7
    ):  # fmt: skip
        if cuda.grid(1) == 0:
            floats[0], floats[1], floats[2], floats[3] = f0, f1, f2, f3
            floats[4], floats[5], floats[6], floats[7] = f4, f5, f6, f7
            ints[0], ints[1], ints[2], ints[3] = i0, i1, i2, i3
            ints[4], ints[5], ints[6], ints[7] = i4, i5, i6, i7

    return run
