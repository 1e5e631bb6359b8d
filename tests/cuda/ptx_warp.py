"""Shuffles, tensor cores and barriers, for tests/cuda/ptx_machine.py.

When one of them is executed, all lanes that take part are there: the machine sees to it. Layouts of
fragments are those of the PTX ISA ("Matrix fragments for mma.m16n8k8").
"""

from __future__ import annotations

import numpy as np

from tests.cuda.ptx_instructions import WARP, Unknown, instruction, parts_of


@instruction("bar", "barrier", "membar", "fence", allowed="sync warp cta gl sys acq_rel sc")
def _barrier(frame, each):
    if each.name in ("bar", "barrier") and "warp" not in each.modifiers:
        return lambda mask: frame.machine.shared.barrier(slice(None) if mask is True else mask)
    return lambda mask: None  # the threads of a warp are at the same instruction


@instruction("shfl", allowed="sync bfly down up idx")
def _shfl(frame, each):
    how, machine = each.modifiers[1], frame.machine
    result, *rest = each.operands[0].split("|")
    out, others = frame.target(result, "b32"), [frame.target(o, "pred") for o in rest]
    value, by, clamp = (frame.source(o, "u32") for o in each.operands[1:4])

    def shuffle(mask):
        lane, by_, clamp_ = (x.astype(int) for x in (machine.lane, by, clamp))
        segment = clamp_ >> 8 & 31
        low, high = lane & segment, (lane & segment) | (clamp_ & 31 & ~segment)
        if how == "idx":
            source = low | (by_ & 31 & ~segment)
        else:
            source = {"bfly": lane ^ by_, "down": lane + by_, "up": lane - by_}[how]
        valid = source >= high if how == "up" else source <= high
        source = np.where(valid, source, lane) - lane + np.arange(machine.lanes)
        there = (source >= 0) & (source < machine.lanes)
        source = np.where(there, source, 0)
        there &= machine.warp[source] == machine.warp
        there &= np.broadcast_to(mask, source.shape)[source]
        found = np.where(there, value[source], np.uint32(0xFFFFFFFF))  # NaN, as a float
        np.copyto(out, found, where=mask)
        for other in others:
            np.copyto(other, valid, where=mask)

    return shuffle


def whole_warps(machine, mask) -> np.ndarray:
    """The numbers of the threads of whole warps, one row a warp."""
    lanes = np.flatnonzero(np.broadcast_to(mask, machine.lanes))
    rows = lanes.reshape(-1, WARP) if lanes.size % WARP == 0 else None
    if rows is None or (machine.warp[rows] != machine.warp[rows[:, :1]]).any():
        raise Unknown("an instruction that needs whole warps")
    return rows


GROUP, IN_GROUP = np.arange(WARP) // 4, np.arange(WARP) % 4


@instruction("mma", allowed="sync aligned m16n8k8 row col f32 tf32")
def _mma(frame, each):
    if each.modifiers[-4:] + (each.kind,) != ("col", "f32", "tf32", "tf32", "f32"):
        raise Unknown(f"this machine does not know {each.text}")
    targets = [frame.target(o, "f32") for o in parts_of(each.operands[0])]
    factors = [frame.source(o, "b32") for part in each.operands[1:3] for o in parts_of(part)]
    sums = [frame.source(o, "f32") for o in parts_of(each.operands[3])]

    def multiply(mask):
        warps = whole_warps(frame.machine, mask)
        held = [  # a tensor core looks at the upper 19 bits
            (x[warps] & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for x in factors
        ]
        a, b = np.empty((len(warps), 16, 8)), np.empty((len(warps), 8, 8))
        for i in range(4):
            a[:, GROUP + 8 * (i % 2), IN_GROUP + 4 * (i // 2)] = held[i]
        for i in range(2):
            b[:, IN_GROUP + 4 * i, GROUP] = held[4 + i]
        product = a @ b
        for i, (out, c) in enumerate(zip(targets, sums, strict=True)):
            found = product[:, GROUP + 8 * (i // 2), 2 * IN_GROUP + i % 2] + c[warps]
            out[warps] = found.astype(np.float32)

    return multiply
