"""PTX as text -> functions of basic blocks, for tests/cuda/ptx_machine.py."""

from __future__ import annotations

import re
from typing import NamedTuple

_FUNCTION = re.compile(r"\.(?:entry|func)\s*(?:\([^)]*\))?\s*(\w+)\s*\(([^)]*)\)[^{;]*\{")
_SHARED = re.compile(r"(\.extern )?\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\];")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%?\w+)(?:<\d+>)?$")
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s]+")
_LABEL = re.compile(r"([$\w]+):(?!:)")


class Instruction(NamedTuple):
    """`@%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+8]` in parts."""

    name: str  # ld
    modifiers: tuple[str, ...]  # global, v2
    kind: str  # f32, the last part of the opcode
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None  # a predicate, and its value for which this happens
    text: str


class Block:
    """Instructions that are executed one after the other, and where it goes from there."""

    def __init__(self):
        self.steps: list[Instruction] = []
        self.waits_for = ""  # "warp" or "block": all of its threads must be here to go on
        self.jump: Instruction | None = None  # bra, ret, exit, or on to the next block


class Function(NamedTuple):
    name: str
    parameters: list[str]
    registers: dict[str, str]  # the kind of "%rd" is "b64"
    blocks: list[Block]
    labels: dict[str, int]  # the block that a label stands before


class Program(NamedTuple):
    functions: dict[str, Function]
    shared: dict[str, tuple[int, int]]  # symbol -> (offset, bytes)
    static: int  # bytes of shared memory whose size is known
    dynamic: str  # the symbol of the shared memory whose size the launch says, or ""


def parse(text: str) -> Program:
    """All functions of a module; ValueError for what is not understood."""
    text = re.sub(r"//.*", "", text)
    shared, end, dynamic = {}, 1024, ""  # there is something else at the beginning on sm_90
    for extern, alignment, name, size in _SHARED.findall(text):
        if extern:
            dynamic = name
            continue
        # A gap shows what is accessed past the end; and no place is aligned better than it says.
        multiple = (end + 64 + 128) // 128 * 128 + int(alignment) % 128
        shared[name] = (multiple, int(size))
        end = multiple + int(size)
    functions = {}
    for found in _FUNCTION.finditer(text):
        name, parameters = found[1], re.findall(r"\w+(?=\s*(?:,|$))", found[2])
        functions[name] = _function(name, parameters, _body(text, found.end()))
    return Program(functions, shared, end, dynamic)


def _body(text, start):
    depth, at = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return text[start : at - 1]


def _function(name, parameters, body):
    function = Function(name, parameters, {}, [Block()], {})
    blocks, ended = function.blocks, False  # after a jump, a block begins
    for statement in body.split(";"):
        rest = statement.strip()
        while rest:  # scopes and labels before the statement
            label = _LABEL.match(rest)
            if label:
                if blocks[-1].steps or ended:
                    blocks.append(Block())
                    ended = False
                function.labels[label[1]] = len(blocks) - 1
                rest = rest[label.end() :].strip()
            elif rest[0] in "{}":
                rest = rest[1:].strip()
            else:
                break
        if not rest or rest.startswith((".pragma", ".param", ".loc")):
            continue
        if rest.startswith(".reg"):
            declared = _REGISTERS.match(rest)
            if declared is None:
                raise ValueError(f"PTX that is not understood: {rest}")
            function.registers[declared[2]] = declared[1]
            continue
        each = _instruction(rest)
        waits_for = _waits_for(each)
        if ended or (waits_for and (blocks[-1].steps)):
            blocks.append(Block())
        ended = each.name in ("bra", "ret", "exit")
        if ended:
            blocks[-1].jump = each
        else:
            blocks[-1].steps.append(each)
            blocks[-1].waits_for = blocks[-1].waits_for or waits_for
    return function


def _instruction(text):
    found = _STATEMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"PTX that is not understood: {text}")
    name, *modifiers = re.split(r"\.|::", found[3])
    guard = (found[2], not found[1]) if found[2] else None
    operands = tuple(" ".join(each.split()) for each in _OPERAND.findall(found[4]))
    kind = modifiers.pop() if modifiers else ""
    return Instruction(name, tuple(modifiers), kind, operands, guard, " ".join(text.split()))


def _waits_for(each):
    if each.name in ("shfl", "mma", "ldmatrix"):
        return "warp"
    if each.name in ("bar", "barrier"):
        return "warp" if "warp" in each.modifiers else "block"
    return ""
