"""kernels/cuda/code/intrinsics.py in plain Python, for the simulator.

The layouts of fragments are written down here from the PTX ISA ("Matrix fragments for mma.m16n8k8
with .tf32", "ldmatrix"), not from the kernels. A copy that is under way reads as NaN until its
thread has waited for it, and loads from shared memory must not have conflicts between banks.
"""

from __future__ import annotations

import greenlet
import numpy as np

from tests.cuda.simulator import WARP, wait


def _me():
    return greenlet.getcurrent().me


def _once(value, compute):
    """What `compute` makes of the values that the lanes of a warp give; the first lane runs it."""
    me = _me()
    me.turn = getattr(me, "turn", 0) + 1
    made, warp = me.block.__dict__.setdefault("made", {}), me.lane // WARP
    me.block.given[me.lane] = value
    wait("warp")
    if made.get(warp, (0, None))[0] != me.turn:  # nobody overwrites it before all are here again
        made[warp] = me.turn, compute([me.block.given[WARP * warp + i] for i in range(WARP)])
    return made[warp][1]


def multiply_add(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    product = _once((a0, a1, a2, a3, b0, b1), _product)
    lane = _me().lane % WARP
    group, column = lane >> 2, lane % 4 * 2
    c0, c1 = c0 + product[group, column], c1 + product[group, column + 1]
    c2, c3 = c2 + product[group + 8, column], c3 + product[group + 8, column + 1]
    return np.float32(c0), np.float32(c1), np.float32(c2), np.float32(c3)


def _product(given):
    """A (16 x 8, row-major) times B (8 x 8, column-major), of what each lane holds."""
    held = (np.array(given, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    a, b = np.empty((16, 8)), np.empty((8, 8))
    group, in_group = np.arange(WARP) >> 2, np.arange(WARP) % 4
    for i in range(4):
        row = group if i in (0, 2) else group + 8
        column = in_group if i < 2 else in_group + 4
        a[row, column] = held[:, i]
    for i in range(2):
        b[in_group + 4 * i, group] = held[:, 4 + i]
    return a @ b


def tf32(x):
    """The upper 19 bits, after half of what is cut off has been added."""
    word = int(np.float32(x).view(np.uint32)) + 0x1000 & 0xFFFFE000
    return np.uint32(word).view(np.float32) if np.isfinite(x) else x


def load_matrices(shared, at):
    rows = _once(at, lambda given: _served_at_once(given, 4))
    lane = _me().lane % WARP
    return tuple(shared[rows[8 * i + lane // 4] + lane % 4] for i in range(4))


def load(shared, at):
    _once(at, lambda given: _served_at_once(given, 1))
    return shared[at]


def load2(shared, at):
    _once(at, lambda given: _served_at_once(given, 2))
    return shared[at], shared[at + 1]


def _served_at_once(places, count):
    """The places, if the 32 banks serve 32 loads of `count` numbers in `count` goes."""
    if any(at % count for at in places):
        raise RuntimeError(f"{count} numbers from {places} on, not multiples of {count}")
    together = WARP // count
    for first in range(0, WARP, together):
        part = set(places[first : first + together])
        if len({at // count % together for at in part}) != len(part):
            raise RuntimeError(f"loads of {count} numbers from {places} on share banks")
    return places


def store2(pointer, at, a, b):
    if at % 2:
        raise RuntimeError(f"two numbers to {at}, which is odd")
    pointer[at] = a
    pointer[at + 1] = b


def store4(pointer, at, a, b, c, d):
    if at % 4:
        raise RuntimeError(f"16 bytes at {at}, not a multiple of 4")
    for i, value in enumerate((a, b, c, d)):
        pointer[at + i] = value


def read4(source, at):
    if at % 4:
        raise RuntimeError(f"16 bytes at {at}, not a multiple of 4")
    return tuple(source[at + i] for i in range(4))


def write4(target, at, a, b, c, d):
    store4(target, at, a, b, c, d)


def copy_async(shared, to, pointer, at, wanted):
    me = _me()
    if to % 4 or (wanted and at % 4):
        raise RuntimeError(f"16 bytes from {at} to {to}, not multiples of 4")
    values = [pointer[at + i] if wanted else np.float32(0) for i in range(4)]
    for i in range(4):
        shared[to + i] = np.nan
    _groups(me)[-1].append((shared, to, values))


def commit_copies():
    _groups(_me()).append([])


def wait_for_all_but(groups):
    pending = _groups(_me())
    while len(pending) - 1 > groups:  # the last one is not committed yet
        for shared, to, values in pending.pop(0):
            for i in range(4):
                shared[to + i] = values[i]


def _groups(me):
    if not hasattr(me, "copies"):
        me.copies = [[]]
    return me.copies
