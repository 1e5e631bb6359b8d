"""Several arrays in one launch: copied, or added pair by pair.

A launch takes up to 16 pairs, `to` and `a` (and `b`) of n elements each. A block has RUN * 256
elements of one of them: those of pair i come before block `end` i.
"""

from __future__ import annotations

from .blocks import RUN, load, store
from .language import FLOATS, cuda, device, int64, kernel

JOBS = 16  # pairs of a launch


def each(name, kind):
    """The declaration of one argument a pair."""
    return ", ".join(f"{name}{i}: {kind}" for i in range(JOBS))


@device
def choose(job, v):
    """v[job]. Arguments have no addresses, so it takes comparisons."""
    x = v[1] if job == 1 else v[0]
    x = v[2] if job == 2 else x
    x = v[3] if job == 3 else x
    x = v[4] if job == 4 else x
    x = v[5] if job == 5 else x
    x = v[6] if job == 6 else x
    x = v[7] if job == 7 else x
    x = v[8] if job == 8 else x
    x = v[9] if job == 9 else x
    x = v[10] if job == 10 else x
    x = v[11] if job == 11 else x
    x = v[12] if job == 12 else x
    x = v[13] if job == 13 else x
    x = v[14] if job == 14 else x
    x = v[15] if job == 15 else x
    return x


@device
def place(n, end):
    """This block's pair, this thread's first element of it, and how many it takes, 256 apart."""
    block = int64(cuda.blockIdx.x)
    job, start = int64(0), int64(0)
    if block >= end[0]:
        job, start = int64(1), end[0]
    if block >= end[1]:
        job, start = int64(2), end[1]
    if block >= end[2]:
        job, start = int64(3), end[2]
    if block >= end[3]:
        job, start = int64(4), end[3]
    if block >= end[4]:
        job, start = int64(5), end[4]
    if block >= end[5]:
        job, start = int64(6), end[5]
    if block >= end[6]:
        job, start = int64(7), end[6]
    if block >= end[7]:
        job, start = int64(8), end[7]
    if block >= end[8]:
        job, start = int64(9), end[8]
    if block >= end[9]:
        job, start = int64(10), end[9]
    if block >= end[10]:
        job, start = int64(11), end[10]
    if block >= end[11]:
        job, start = int64(12), end[11]
    if block >= end[12]:
        job, start = int64(13), end[12]
    if block >= end[13]:
        job, start = int64(14), end[13]
    if block >= end[14]:
        job, start = int64(15), end[14]
    i = (block - start) * (RUN * 256) + cuda.threadIdx.x
    left = choose(job, n) - i
    return job, i, (min(left, RUN * 256) + 255) >> 8 if left > 0 else int64(0)


@kernel(
    f"{each('t', 'T*')}, {each('a', 'T*')}, {each('n', 'int')}, {each('end', 'int')}",
    T=(*FLOATS, "int64"),
)
def copy(T):
    def run(
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15,
        a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15,
        n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15,
        end0, end1, end2, end3, end4, end5, end6, end7,
        end8, end9, end10, end11, end12, end13, end14, end15,
    ):  # fmt: skip
        v = cuda.local.array(8, T)
        job, i, count = place(
            (n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15),
            (
                end0, end1, end2, end3, end4, end5, end6, end7, end8, end9,
                end10, end11, end12, end13, end14,
            ),
        )  # fmt: skip
        to = choose(job, (t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15))
        a = choose(job, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15))
        if count > 0:
            load(v, a, i, 256, count)
            store(to, v, i, 256, count)

    return run


@kernel(
    f"{each('t', 'T*')}, {each('a', 'T*')}, {each('b', 'T*')},"
    f" {each('n', 'int')}, {each('end', 'int')}",
    T=FLOATS,
)
def add(T):
    def run(
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15,
        a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15,
        b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15,
        n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15,
        end0, end1, end2, end3, end4, end5, end6, end7,
        end8, end9, end10, end11, end12, end13, end14, end15,
    ):  # fmt: skip
        v = cuda.local.array(8, T)
        w = cuda.local.array(8, T)
        job, i, count = place(
            (n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15),
            (
                end0, end1, end2, end3, end4, end5, end6, end7, end8, end9,
                end10, end11, end12, end13, end14,
            ),
        )  # fmt: skip
        to = choose(job, (t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15))
        a = choose(job, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15))
        b = choose(job, (b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15))
        if count > 0:
            load(v, a, i, 256, count)
            load(w, b, i, 256, count)
            for u in range(RUN):
                v[u] += w[u]
            store(to, v, i, 256, count)

    return run
