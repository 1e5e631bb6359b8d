"""Every variant of every CUDA kernel becomes machine code that fits: no GPU is needed for that."""

import importlib.util
import os

import pytest
from minigen.kernels.cuda import build, compile

from tests.cuda.ptx import complaints

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or compile.find_ptxas() is None,
    reason="needs numba-cuda and ptxas: pip install 'minigen[cuda-build]'",
)


@needs_compiler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_assembles_within_its_registers_and_without_spills(arch):
    kernels = list(compile.all_kernels())
    if arch == "sm_80":  # there, one dtype will do
        kernels = [each for each in kernels if "float64" not in each[1].values()]
    made = list(build.make_all(arch, kernels, jobs=min(os.cpu_count() or 1, 8)))
    assert len(made) == len(kernels)
    assert not [line for each in made for line in complaints(each)]


@needs_compiler
def test_entry_names_are_unique():
    entries = [compile.entry_name(*each) for each in compile.all_kernels()]
    assert len(entries) == len(set(entries))


@needs_compiler
def test_what_is_wrong_is_found():
    report = compile.Report(registers=65, spilled=8, stack=0, shared=0)
    variant = {"T": "float32"}
    made = build.Made("elementwise.leaky_relu", variant, b"", report, doubles=1)
    found = "\n".join(complaints(made))
    assert "8 bytes spilled" in found and "65 registers, at most 64" in found
    assert "1 instructions in float64" in found
    text = "\tadd.rn.f64 \t%fd1, %fd2, %fd3;\n\tcvt.rn.f32.f64 \t%f1, %fd1;\n\tld.param.f64 \t%fd"
    assert build._DOUBLE.findall(text.expandtabs()) == ["        add.rn.f64 "]


@needs_compiler
def test_numpy_that_lacks_row_stack():
    """As NumPy 2.5 does; the import of Numba-CUDA asks for it."""
    code = (
        "import numpy as np; vars(np).pop('row_stack', None)\n"
        "from minigen.kernels.cuda import compile\n"
        "print(len(compile.ptx('elementwise.leaky_relu', {'T': 'float32'}, (9, 0))))\n"
        "assert not hasattr(np, 'row_stack')"
    )
    from tests.cuda.test_launch import run

    assert int(run(code)) > 1000
