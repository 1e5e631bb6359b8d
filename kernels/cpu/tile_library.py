"""Register tiles as machine code of their own: compiled once a file and dtype, called by name.

Inside Numba's modules the tiles would be optimised and emitted again for every kernel, parallel
loop and wrapper that links them. Here a tile is declared once: a Python signature with its
docstring under `@tile`, and what writes its vector instructions under `@<name>.code`.

    @tile(cases={2: (8, 2), 3: (8, 3)})  # a machine function for each value of the first argument
    def add_tile(typing_context, zero, vectors, a, out): ...

    @add_tile.code
    def _add(t: Tile) -> None: ...

All tiles of a file and dtype are one library, kept beside Numba's cache. It is loaded when a kernel
that calls a tile is compiled, and before the machine code of such a kernel is taken from the cache:
LLVM ends the process where it meets a name that it does not know.

Nothing about any particular tile lives here.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

import llvmlite
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from .cache import TARGET, keep_bytes, kept_bytes
from .tile_code import VECTOR_BYTES, Tile, int_constant

Shape = tuple[int, int]  # rows of a tile, vectors a row
Cases = Mapping[int, Shape]


def tile(
    cases: Cases | Callable[[int], Cases] | None = None, shape: Shape = (1, 1)
) -> Callable[[Callable[..., Any]], Any]:
    """Declare a tile, which kernels call with a scalar for the dtype and then its arguments.

    cases: the values of the first argument and the tile's shape for each, or a function of the
    number of lanes that gives them; None: one machine function, of the shape `shape`.
    All arguments are addresses or int64, except `slope`, which is a scalar of the dtype.
    """

    def declare(signature: Callable[..., Any]) -> Any:
        declared = _Tile(signature, cases, shape)
        _tiles.setdefault(signature.__module__, []).append(declared)
        called: Any = intrinsic(functools.wraps(signature)(lambda _, *args: declared.typed(*args)))
        called.code = declared.code
        return called

    return declare


class _Tile:
    """A tile as declared, of any dtype."""

    def __init__(self, signature: Callable[..., Any], cases: Any, shape: Shape):
        self.signature, self.cases, self.shape = signature, cases, shape
        names = list(inspect.signature(signature).parameters)[2:]  # after the context and `zero`
        self.scalars = [name == "slope" for name in names]

    def code(self, build: Callable[[Tile], None]) -> Callable[[Tile], None]:
        """Write the machine code by `build(t)`: t.args are the arguments, t.case the first one.

        Where there are cases, t.args are the arguments after it.
        """
        self.build = build
        return build

    def typed(self, zero: Any, *args: Any) -> Any:
        """The signature for Numba, and what writes a call."""
        if zero not in (types.float32, types.float64) or len(args) != len(self.scalars):
            return None
        library = Library(self.signature.__module__, zero.bitwidth)

        def call(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            library()
            context.active_code_library._reload_init.add(library)  # Numba calls it on loading
            name, kind = self.symbol(library.bits), self.type(library.bits)
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            builder.call(function, args[1:])
            return context.get_dummy_value()

        kinds = [zero if scalar else types.intp for scalar in self.scalars]
        return types.void(zero, *kinds), call

    def symbol(self, bits: int) -> str:
        return f"minigen_{self.signature.__name__}_{bits}"

    def type(self, bits: int) -> ir.FunctionType:
        element = ir.FloatType() if bits == 32 else ir.DoubleType()
        kinds = [element if scalar else ir.IntType(64) for scalar in self.scalars]
        return ir.FunctionType(ir.VoidType(), kinds)

    def write(self, module: ir.Module, bits: int) -> None:
        """Add the machine functions to a module: one, or one a case and one that chooses."""
        entry, size = ir.Function(module, self.type(bits), self.symbol(bits)), bits // 8
        if self.cases is None:
            self.build(Tile(entry, entry.args, size, *self.shape))
            return
        cases = self.cases(VECTOR_BYTES // size) if callable(self.cases) else self.cases
        start, other = entry.append_basic_block("entry"), entry.append_basic_block("other")
        ir.IRBuilder(other).ret_void()
        switch = ir.IRBuilder(start).switch(entry.args[0], other)
        for case, shape in cases.items():
            name = f"{self.symbol(bits)}_{case}"
            function = ir.Function(module, self.type(bits), name)
            function.linkage = "internal"
            self.build(Tile(function, function.args[1:], size, *shape, case))
            builder = ir.IRBuilder(entry.append_basic_block(name))
            switch.add_case(int_constant(case), builder.block)
            builder.call(function, entry.args, tail="musttail")  # a jump
            builder.ret_void()


@dataclasses.dataclass(frozen=True)
class Library:
    """The machine code of the tiles that a module declares, of floats of so many bits.

    A call makes it known to LLVM, once a process.
    """

    module: str
    bits: int

    def __call__(self) -> None:
        with _loading:
            if self not in _engines:
                _engines[self] = self._load()

    def _load(self) -> Any:
        tiles, name = _tiles[self.module], f"float{self.bits}-{llvmlite.__version__}"
        code = kept_bytes(tiles[0].signature, name)
        if code is None:
            code = self._compile()
            keep_bytes(tiles[0].signature, name, code)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target_machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        for tile in tiles:
            symbol = tile.symbol(self.bits)
            binding.add_symbol(symbol, engine.get_function_address(symbol))
        return engine  # which owns the machine code

    def _compile(self) -> bytes:
        module, machine = ir.Module(self.module), _target_machine()
        module.triple, module.data_layout = TARGET[0], str(machine.target_data)
        for tile in _tiles[self.module]:
            tile.write(module, self.bits)
        parsed = binding.parse_assembly(str(module))
        parsed.verify()
        return machine.emit_object(parsed)


def _target_machine() -> Any:
    """As Numba makes it for its own code."""
    triple, processor, features = TARGET
    return binding.Target.from_triple(triple).create_target_machine(
        cpu=processor, features=features, opt=3, codemodel="jitdefault", jit=True,
        reloc="static" if triple.startswith(("x86", "i386", "i686")) else "default",
    )  # fmt: skip


_tiles: dict[str, list[_Tile]] = {}
_engines: dict[Library, Any] = {}
_loading = threading.RLock()
