"""Loads, stores and copies, for tests/cuda/ptx_machine.py."""

from __future__ import annotations

import functools

import numpy as np

from tests.cuda.ptx_instructions import KINDS, WARP, Unknown, instruction, parts_of
from tests.cuda.ptx_memory import WORDS, check_alignment
from tests.cuda.ptx_warp import GROUP, IN_GROUP, whole_warps


@instruction("ld", allowed="param global shared nc v2 v4 L1 L2")
def _ld(frame, each):
    targets = [frame.whole(o) for o in parts_of(each.operands[0])]
    kind = KINDS[each.kind]
    if "param" in each.modifiers:
        value = frame.parameter(each.operands[1])
        (out,) = targets
        return lambda mask: np.copyto(out, frame.parameters[value].view(out.dtype), where=mask)
    space, at = frame.space(each), frame.address(each.operands[1])

    def load(mask):
        lanes = slice(None) if mask is True else np.flatnonzero(mask)
        for out, found in zip(
            targets, space.load(at()[lanes], kind.itemsize, len(targets), lanes), strict=True
        ):
            found = found.view(kind)
            if kind.kind != "f":  # a register may be wider: signs or zeros are put before it
                found = found.astype(f"{kind.kind}{out.itemsize}")
            out[lanes] = found.view(out.dtype)

    return load


@instruction("st", allowed="param global shared v2 v4")
def _st(frame, each):
    kind = KINDS[each.kind]
    if "param" in each.modifiers:
        name, value = frame.parameter(each.operands[0]), frame.source(each.operands[1], each.kind)

        def pass_on(mask):
            frame.parameters[name] = value.copy()

        return pass_on
    sources = [
        frame.whole(o) if o[0] == "%" else frame.source(o, each.kind)
        for o in parts_of(each.operands[1])
    ]
    space, at = frame.space(each), frame.address(each.operands[0])

    def store(mask):
        lanes = slice(None) if mask is True else np.flatnonzero(mask)
        values = [s[lanes] for s in sources]
        raw = [v.view(WORDS[v.itemsize]).astype(WORDS[kind.itemsize]) for v in values]
        space.store(at()[lanes], kind.itemsize, raw, lanes)

    return store


@instruction("ldmatrix", allowed="sync aligned m8n8 x1 x2 x4 shared")
def _ldmatrix(frame, each):
    targets = [frame.target(o, "b32") for o in parts_of(each.operands[0])]
    at = frame.address(each.operands[1])

    def load(mask):
        warps = whole_warps(frame.machine, mask)
        rows = at()[warps]
        for i, out in enumerate(targets):  # lanes 8 i to 8 i + 7 say where the rows of matrix i are
            first = rows[:, 8 * i + GROUP]
            words = frame.machine.shared.load(first.reshape(-1), 4, 4, warps.reshape(-1))
            out[warps] = np.stack(words, axis=-1).reshape(-1, WARP, 4)[:, range(WARP), IN_GROUP]

    return load


@instruction("cp", allowed="async cg ca shared global L2")
def _cp(frame, each):
    copies = frame.machine.copies
    if each.kind == "commit_group":
        return copies.commit
    if each.kind == "wait_group":
        return functools.partial(copies.wait, int(each.operands[0]))
    to, source = (frame.address(o) for o in each.operands[:2])
    size = int(each.operands[2])
    wanted = frame.source(each.operands[3], "u32") if len(each.operands) > 3 else None

    def start(mask):
        lanes = np.flatnonzero(np.broadcast_to(mask, frame.machine.lanes))
        given = size if wanted is None else wanted[lanes]
        copies.start(lanes, to()[lanes], source()[lanes], size, np.broadcast_to(given, lanes.shape))

    return start


class Copies:
    """Copies from global to shared memory that are under way: the last moment they are seen."""

    def __init__(self, source, target, lanes: int):
        self.source, self.target = source, target
        self.group = np.zeros(lanes, int)  # of the copies that each thread starts now
        self.pending: list[tuple] = []

    def start(self, lanes, to, at, size, wanted):
        """Read what is to be copied; NaN is at its place until it has been waited for."""
        if not np.isin(wanted, (0, size)).all():
            raise Unknown("this machine copies all bytes or none")
        words = np.zeros((size // 4, lanes.size), np.uint32)
        some = wanted == size
        if some.any():
            check_alignment(at[some], size)
            words[:, some] = self.source.load(at[some], 4, size // 4, lanes[some])
        check_alignment(to, size)
        self.target.store(to, 4, [np.full(lanes.size, 0xFFFFFFFF, np.uint32)] * (size // 4), lanes)
        self.pending.append((lanes, to, words, self.group[lanes]))

    def commit(self, mask):
        np.add(self.group, 1, self.group, where=mask)

    def wait(self, newest, mask):
        """What these threads have started arrives, but for the newest groups."""
        waiting, still = np.broadcast_to(mask, self.group.shape), []
        for lanes, to, words, group in self.pending:
            done = waiting[lanes] & (group < self.group[lanes] - newest)
            if done.any():
                self.target.store(to[done], 4, list(words[:, done]), lanes[done])
            if not done.all():
                still.append((lanes[~done], to[~done], words[:, ~done], group[~done]))
        self.pending = still
