"""Runs the PTX that the compiler makes of a kernel, without a GPU.

The simulator runs device code as Python; this shows what Numba's types, the optimiser and inline
assembly have made of it. `find(name, variant)` is used in the place of launch.find, as
simulator.find is: set MINIGEN_TEST_DEVICE_CODE=ptx to run all tests of this folder that way.

Threads go on together, one instruction after the other, those that are furthest behind first; a
barrier or a shuffle waits for all threads of the block or the warp, and raises if some never come.
An access outside of the arrays passed or of shared memory raises, and so does one that is not
aligned, or that meets another thread's in shared memory without a barrier between them, or another
block's in an array; shared memory, registers and what asynchronous copies have not brought yet
start as NaN. Not modelled: time, races in arrays between threads of a block, ptxas, which may
contract `mul` and `add` without .rn, the error of approximate instructions, local memory, and what
no kernel has used so far, which raises.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from minigen.kernels.cuda import build
from minigen.kernels.cuda import compile as compiler

from tests.cuda import ptx_transfer, simulator
from tests.cuda.ptx_instructions import KINDS, TABLE, WARP, Unknown
from tests.cuda.ptx_memory import Global, Shared
from tests.cuda.ptx_parse import Function, Program, parse

ARCH = "sm_90"
TOGETHER = 1024  # threads, of several blocks
LONGEST = 2_000_000  # basic blocks: more is an endless loop


def find(name: str, variant: dict[str, Any]) -> Callable[..., None]:
    """What launch.find returns: called as a loaded kernel is."""
    declared = compiler.declared(name)
    simulator.check_variant(name, variant, declared)
    kinds = declared.arguments(variant)
    program = load(name, tuple(variant.items()))

    def run(blocks, threads, args, shared_mem=0):
        passed = simulator.check_arguments(name, declared, kinds, threads, args)
        memory, numbers = Global(), []
        for value, kind in zip(passed, kinds, strict=True):
            if isinstance(value, np.ndarray):
                value = memory.add(value)
            number = np.float64(value) if kind == "float" else np.int64(value)
            numbers.append(number.reshape(1).view(np.uint64))
        entry = compiler.entry_name(name, variant)
        execute(program, entry, blocks, threads[0], numbers, memory, shared_mem)

    return run


@functools.cache
def load(name: str, variant: tuple) -> Program:
    """The parsed PTX of a kernel, kept on disk until a source changes."""
    from minigen.kernels.cuda import launch

    named = dict(variant)
    path = launch.cache_folder(f"ptx-{ARCH}") / f"{compiler.entry_name(name, named)}.ptx"
    if path.is_file():
        return parse(path.read_text())
    text = compiler.ptx(name, named, compiler.capability(ARCH))
    with contextlib.suppress(OSError):  # it is made again the next time
        build.keep(path, text.encode())
    return parse(text)


def execute(
    program: Program, entry: str, blocks: tuple[int, ...], threads: int, numbers: list[np.ndarray],
    memory: Global, dynamic: int = 0,
) -> None:  # fmt: skip
    """Run the grid, some of its blocks at a time."""
    grid = (tuple(blocks) + (1, 1))[:3]
    indices = [index[::-1] for index in itertools.product(*map(range, grid[::-1]))]
    at_once = max(1, TOGETHER // threads)
    function = program.functions[entry]
    with np.errstate(all="ignore"):
        for first in range(0, len(indices), at_once):
            some = np.array(indices[first : first + at_once])
            machine = Machine(program, grid, some, threads, memory, dynamic)
            memory.block = (machine.block + first).astype(np.int32)
            frame = Frame(machine, function, dict(zip(function.parameters, numbers, strict=True)))
            frame.run(True)


class Machine:
    """Some blocks of a grid: who their threads are, and their memory."""

    def __init__(self, program, grid, blocks, threads, memory, dynamic):
        self.program, self.lanes = program, len(blocks) * threads
        self.block = np.repeat(np.arange(len(blocks)), threads)
        thread = np.tile(np.arange(threads), len(blocks))
        self.lane = thread % WARP
        self.warp = self.block * -(-threads // WARP) + thread // WARP
        self.memory, self.shared = memory, Shared(program, dynamic, self.block)
        self.copies = ptx_transfer.Copies(memory, self.shared, self.lanes)
        self.known = {"%tid.x": thread, "%ntid.x": threads, "%laneid": self.lane}
        self.known |= {f"%tid.{axis}": 0 for axis in "yz"} | {f"%ntid.{axis}": 1 for axis in "yz"}
        self.known["%dynamic_smem_size"] = dynamic
        for i, axis in enumerate("xyz"):
            self.known[f"%ctaid.{axis}"] = blocks[self.block, i]
            self.known[f"%nctaid.{axis}"] = grid[i]
        self.known |= {symbol: at for symbol, (at, _) in self.shared.symbols.items()}
        self.constants: dict[tuple, np.ndarray] = {}

    def constant(self, operand: str, kind: str) -> np.ndarray:
        """A number in the program, a special register or the place of a symbol, for each thread."""
        key = operand, kind
        if key not in self.constants:
            if operand in self.known:
                value = np.asarray(self.known[operand]).astype(KINDS[kind])
            elif re.match("0[fd]", operand):
                bits = np.uint32 if operand[1] == "f" else np.uint64
                value = np.array(int(operand[2:], 16), bits).view(KINDS[kind])
            elif re.fullmatch(r"-?\d+", operand):
                value = np.array(int(operand) % (1 << 64), np.uint64).astype(KINDS[kind])
            else:
                raise Unknown(f"this machine does not know {operand}")
            self.constants[key] = np.ascontiguousarray(np.broadcast_to(value, self.lanes))
        return self.constants[key]


class Frame:
    """A function as some threads execute it: its registers, parameters and bound instructions."""

    def __init__(self, machine: Machine, function: Function, parameters: dict[str, np.ndarray]):
        self.machine, self.function, self.parameters = machine, function, parameters
        self.registers: dict[str, np.ndarray] = {}
        self.bound: dict[int, list] = {}

    # what instructions are bound to

    def whole(self, name: str) -> np.ndarray:
        """A register, an array of as many bits as it has."""
        if name not in self.registers:
            kinds = self.function.registers
            kind = KINDS[kinds.get(name) or kinds[name.rstrip("0123456789")]]
            made = np.empty(self.machine.lanes, kind)
            made.view(np.uint8).fill(0xFF if kind.kind != "b" else 0)
            self.registers[name] = made
        return self.registers[name]

    def target(self, name: str, kind: str) -> np.ndarray:
        """A register seen as of a kind."""
        return self.whole(name).view(KINDS[kind])

    def source(self, operand: str, kind: str) -> np.ndarray:
        """A register or a constant seen as of a kind."""
        if operand[0] == "%" and operand not in self.machine.known:
            return self.target(operand, kind)
        return self.machine.constant(operand, kind)

    def address(self, operand: str) -> Callable[[], np.ndarray]:
        """What gives the addresses that "[%rd1+8]" stands for."""
        base, _, offset = operand.strip("[]").partition("+")
        if base[0] != "%":
            at = self.machine.constant(base, "u64") + np.uint64(int(offset or 0))
            return lambda: at
        held = self.whole(base)
        added = np.array(int(offset or 0) % (1 << 64), np.uint64).astype(held.dtype)
        return lambda: held + added

    def space(self, each: Any) -> Any:
        """The memory that an instruction speaks of."""
        if "global" in each.modifiers:
            return self.machine.memory
        if "shared" in each.modifiers:
            return self.machine.shared
        raise Unknown(f"this machine does not know {each.text}")

    def parameter(self, operand: str) -> str:
        """The name in "[param0+0]"."""
        name, _, offset = operand.strip("[]").partition("+")
        if int(offset or 0):
            raise Unknown(f"this machine does not know a part of a parameter: {operand}")
        return name

    # execution

    def run(self, mask: Any) -> None:
        """Let the threads of the mask execute the function to its end."""
        waiting, blocks = {0: mask}, self.function.blocks
        for _ in range(LONGEST):
            if not waiting:
                return
            at, mask = self._choose(waiting)
            block = blocks[at]
            if at not in self.bound:
                self.bound[at] = [self._bind(each) for each in block.steps]
            for text, step in self.bound[at]:
                try:
                    step(mask)
                except RuntimeError as error:
                    raise RuntimeError(f"{self.function.name}: {text}: {error}") from error
            self._leave(waiting, at, mask, block.jump)
        raise RuntimeError(f"{self.function.name} does not come to an end")

    def _bind(self, each):
        bind = self._call if each.name == "call" else TABLE.get(each.name)
        if bind is None:
            raise Unknown(f"this machine does not know {each.text}")
        step = bind(each) if each.name == "call" else bind(self, each)
        if each.guard is None:
            return each.text, step
        held, value = self.whole(each.guard[0]), each.guard[1]

        def guarded(mask):
            some = (held == value) & mask
            if some.any():
                step(some)

        return each.text, guarded

    def _call(self, each):
        results, name, given = (o.strip("()") for o in each.operands)
        function = self.machine.program.functions[name]
        result = re.split(r"[,\s]+", results.strip())
        names = re.split(r"[,\s]+", given.strip())

        def call(mask):
            passed = [self.parameters[name] for name in names]
            parameters = dict(zip(function.parameters, passed, strict=True))
            frame = Frame(self.machine, function, parameters)
            frame.run(mask)
            for i, name in enumerate(result):
                self.parameters[name] = frame.parameters[f"func_retval{i}"]

        return call

    def _leave(self, waiting, at, mask, jump):
        """Note where the threads of the mask go after a block."""
        if jump is None:
            self._go(waiting, at + 1, mask)
        elif jump.guard is None:
            if jump.name == "bra":
                self._go(waiting, self.function.labels[jump.operands[0]], mask)
        else:
            taken = (self.whole(jump.guard[0]) == jump.guard[1]) & mask
            if jump.name == "bra":
                self._go(waiting, self.function.labels[jump.operands[0]], taken)
            self._go(waiting, at + 1, ~taken & mask)

    def _go(self, waiting, to, mask):
        if mask is not True:
            mask = mask | waiting.get(to, False)
            count = np.count_nonzero(mask)
            if not count:
                return
            mask = True if count == self.machine.lanes else mask
        waiting[to] = mask

    def _choose(self, waiting):
        """The threads that are furthest behind, of those that need not wait for others."""
        for at in sorted(waiting):
            mask, kind = waiting[at], self.function.blocks[at].waits_for
            if mask is True or not kind:
                return at, waiting.pop(at)
            of = self.machine.block if kind == "block" else self.machine.warp
            complete = np.bincount(of, ~mask) == 0
            ready = complete[of] & mask
            if ready.any():
                rest = mask & ~ready
                del waiting[at]
                self._go(waiting, at, rest)
                return at, ready
        text = self.function.blocks[min(waiting)].steps[0].text
        raise RuntimeError(f"{self.function.name}: {text}: not all threads come there")
