"""How kernels reach a device: built ahead, cached, compiled on first use; and what fails."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from minigen.kernels.cuda import build, compile

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="needs numba-cuda: pip install 'minigen[cuda-build]'",
)
SMALL = ("elementwise.leaky_relu", {"T": "float32"})
# A process with a device that notes what is loaded and launched, and runs nothing.
BEFORE = """
import logging, sys, types
from tests.cuda import fake_cupy
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
cupy, loaded, launched = fake_cupy.install(), [], []
class CUDADriverError(RuntimeError): pass
class Function:
    ptr = 7
    def __init__(self, entry): self.entry = entry
    def __call__(self, *given): launched.append((self.entry, given))
class Module:
    def load(self, code):
        if code == b"bad": raise CUDADriverError("CUDA_ERROR_INVALID_IMAGE: broken")
        loaded.append(code)
    def get_function(self, entry): return Function(entry)
cupy.cuda.Module = Module
cupy.cuda.driver = types.SimpleNamespace(CUDADriverError=CUDADriverError,
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8, funcGetAttribute=lambda a, f: 49152,
    funcSetAttribute=lambda f, a, n: launched.append(("allowed", f, a, n)))
"""
NO_NUMBA = "for name in ('numba', 'numba_cuda', 'llvmlite'): sys.modules[name] = None\n"
CALL = """
from minigen import kernels
x = cupy.zeros((3, 5), "float32")
y = kernels.leaky_relu(x, 0.2)
(entry, (blocks, threads, args, shared)), = launched
assert entry == "elementwise_leaky_relu_float32" and blocks == (1,) and shared == 0
assert args[0] is y and args[1] is x and args[2:] == (0.2, 15)
print(len(loaded[0]))
"""


def run(code, *, fails=False, **environment):
    """What a fresh process prints on standard output, or the error that it ends with."""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "MINIGEN_CUDA_KERNELS": "", **environment},
    )  # fmt: skip
    assert (found.returncode != 0) == fails, found.stderr
    return found.stderr.strip().splitlines()[-1] if fails else found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with one kernel for sm_90."""
    folder = tmp_path_factory.mktemp("built")
    list(build.build("sm_90", folder, [SMALL]))
    return folder


@needs_compiler
def test_a_built_folder_needs_no_numba(built, tmp_path):
    size = run(BEFORE + NO_NUMBA + CALL, MINIGEN_CUDA_KERNELS=str(built))
    (file,) = [f for f in built.iterdir() if f.suffix in (".cubin", ".ptx")]
    assert int(size) == file.stat().st_size
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["arch"] == "sm_90" and manifest["kernels"].keys() == {file.stem}


@needs_compiler
def test_a_folder_that_does_not_fit_is_refused_with_both_values(built, tmp_path):
    manifest = json.loads((built / "manifest.json").read_text())
    for key, value in (("arch", "sm_80"), ("sources", "0123456789abcdef")):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, key: value}))
        line = run(BEFORE + CALL, fails=True, MINIGEN_CUDA_KERNELS=str(tmp_path))
        assert value in line and manifest[key] in line and "--arch sm_90" in line
    (tmp_path / "manifest.json").unlink()
    line = run(BEFORE + CALL, fails=True, MINIGEN_CUDA_KERNELS=str(tmp_path))
    assert "no complete folder of kernels" in line


@needs_compiler
def test_what_is_compiled_on_first_use_is_found_by_the_next_process(tmp_path):
    first = run(BEFORE + CALL, MINIGEN_CUDA_CACHE=str(tmp_path))
    assert run(BEFORE + NO_NUMBA + CALL, MINIGEN_CUDA_CACHE=str(tmp_path)) == first


@needs_compiler
def test_two_processes_compile_at_once(tmp_path):
    command = [sys.executable, "-c", BEFORE + CALL]
    environment = {**os.environ, "MINIGEN_CUDA_KERNELS": "", "MINIGEN_CUDA_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True,
                         stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]  # fmt: skip
    for each in both:
        said = each.communicate()[1]
        assert each.returncode == 0, said
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 1  # and nothing half-written beside it


@needs_compiler
def test_a_cache_that_cannot_be_written_is_no_obstacle():
    assert int(run(BEFORE + CALL, MINIGEN_CUDA_CACHE=os.devnull + "/cache")) > 0


def test_without_numba_the_extra_is_named(tmp_path):
    line = run(BEFORE + NO_NUMBA + CALL, fails=True, MINIGEN_CUDA_CACHE=str(tmp_path))
    assert "pip install 'minigen[cuda]'" in line and "minigen kernels build" in line


@needs_compiler
def test_code_that_the_driver_refuses_is_named(built, tmp_path):
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes() if file.name == "manifest.json" else b"bad"
        )
    line = run(BEFORE + CALL, fails=True, MINIGEN_CUDA_KERNELS=str(tmp_path))
    assert "elementwise_leaky_relu_float32" in line and "INVALID_IMAGE" in line


@needs_compiler
def test_much_shared_memory_is_asked_for(built):
    code = (
        "from minigen.kernels.cuda.launch import launch\n"
        "launch('elementwise.leaky_relu', (1,), 32, None, shared=65536, T='float32')\n"
        "launch('elementwise.leaky_relu', (0,), 32, None, T='float32')\n"
        "assert launched[0] == ('allowed', 7, 8, 65536), launched\n"
        "assert launched[1][1] == ((1,), (32,), (None,), 65536) and len(launched) == 2"
    )
    run(BEFORE + NO_NUMBA + code, MINIGEN_CUDA_KERNELS=str(built))


@needs_compiler
def test_a_build_without_ptxas_keeps_ptx_and_a_broken_one_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(compile, "find_ptxas", lambda: None)
    (made,) = build.build("sm_90", tmp_path, [SMALL])
    assert made.report is None and made.file.endswith(".ptx")
    assert (tmp_path / made.file).read_text().count(".entry elementwise_leaky_relu_float32(") == 1
    for _ in build.build("sm_90", tmp_path, [SMALL, SMALL]):
        break  # as an interruption would
    assert not (tmp_path / "manifest.json").exists()


def test_architectures():
    assert compile.capability("sm_90") == (9, 0) and compile.capability("sm_120") == (12, 0)
    with pytest.raises(ValueError, match="expected sm_"):
        compile.capability("hopper")
    if compile.find_ptxas() is not None:
        with pytest.raises(ValueError, match="'sm_42' is unknown to this toolkit; it knows sm_"):
            build.check_arch("sm_42")
