"""What the command says of GPUs that are not there, and of their kernels, without any."""

import importlib.machinery
import importlib.util
import json
import sys
import types

import pytest
from minigen.kernels.cuda import compile

from minigen.cli import main

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="needs numba-cuda: pip install 'minigen[cuda-build]'",
)


class CUDARuntimeError(RuntimeError):
    pass


@pytest.fixture
def machine(monkeypatch):
    """machine(driver, count): a CuPy for CUDA 13.2 with a driver and so many GPUs, or an error."""

    def make(driver, count):
        def counted():
            if isinstance(count, str):
                raise CUDARuntimeError(count)
            return count

        cupy = types.ModuleType("cupy")
        cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
        cupy.__version__ = "14.2.0"
        properties = {"name": b"NVIDIA H200", "major": 9, "minor": 0, "multiProcessorCount": 132,
                      "totalGlobalMem": 140 << 30}  # fmt: skip
        cupy.cuda = types.SimpleNamespace(
            runtime=types.SimpleNamespace(
                driverGetVersion=lambda: driver,
                runtimeGetVersion=lambda: 13020,
                getDeviceCount=counted,
                getDeviceProperties=lambda i: properties,
                CUDARuntimeError=CUDARuntimeError,
            )
        )
        monkeypatch.setitem(sys.modules, "cupy", cupy)

    return make


def cuda(capsys):
    """The entries of GPUs in `minigen info --json`."""
    assert main(["info", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["devices"][1:]


@pytest.mark.parametrize(
    ("driver", "count", "reason"),
    [
        (0, "cudaErrorInsufficientDriver", "CuPy is here, but no NVIDIA driver"),
        (13000, "cudaErrorNoDevice: no CUDA-capable device", "a driver for CUDA 13.0, but no GPU"),
        (13000, 0, "a driver for CUDA 13.0, but no GPU"),
        (12040, "cudaErrorInsufficientDriver: too old", "driver for CUDA 12.4, CuPy's CUDA 13.2"),
    ],
)
def test_info_says_why_there_is_no_gpu(machine, capsys, driver, count, reason):
    machine(driver, count)
    (row,) = cuda(capsys)
    assert row["name"] == "cuda" and row["available"] is False
    assert row["detail"].startswith("not available: ") and reason in row["detail"]


def test_info_names_the_extra_without_cupy(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "cupy" else found(n))
    (row,) = cuda(capsys)
    assert "CuPy is not installed (pip install 'minigen[cuda]')" in row["detail"]


def test_info_describes_gpus(machine, capsys, monkeypatch):
    machine(13000, 2)
    monkeypatch.setenv("MINIGEN_CUDA_KERNELS", "/built")
    rows = cuda(capsys)
    assert [row["name"] for row in rows] == ["cuda:0", "cuda:1"]
    assert rows[0]["gpu"] == "NVIDIA H200" and rows[0]["capability"] == "9.0"
    assert rows[0]["memory_gib"] == 140 and rows[0]["cuda_of_driver"] == "13.0"
    assert "140 GiB; CuPy 14.2.0, driver for CUDA 13.0; kernels: from /built" in rows[0]["detail"]
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "serves GPU arrays" in out and "minigen.kernels.cuda.elementwise" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build"], "missing: --out DIR"),
        (["make"], "invalid choice: 'make'"),
        (["build", "--report", "--arch", "hopper"], "arch 'hopper': expected sm_"),
        (["build", "--out", "x", "--jobs", "0"], "--jobs is 0"),
        (["build", "--out", "x", "--only", "norm"], "--out takes all"),
    ],
)
def test_bad_usage_of_kernels_is_one_line(capsys, words, message):
    assert main(["kernels", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@needs_compiler
def test_report_of_kernels(capsys):
    words = ["kernels", "build", "--report", "--only", "elementwise.leaky_relu", "--jobs", "1"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["arch"] == "sm_90" and document["sources"] == compile.source_fingerprint()
    row = next(r for r in document["kernels"] if r["kernel"] == "elementwise_leaky_relu_float32")
    assert row["spilled"] in (0, "-") and row["float64"] == 0
    assert main(words) == 0
    assert "registers" in capsys.readouterr().out


@needs_compiler
def test_build_of_kernels(capsys, tmp_path, monkeypatch):
    small = ("elementwise.leaky_relu", {"T": "float32"})
    monkeypatch.setattr(compile, "all_kernels", lambda: iter([small]))
    assert main(["kernels", "build", "--arch", "sm_80", "--out", str(tmp_path)]) == 0
    assert f"MINIGEN_CUDA_KERNELS={tmp_path}" in capsys.readouterr().out
    assert json.loads((tmp_path / "manifest.json").read_text())["arch"] == "sm_80"
    monkeypatch.setattr(compile, "find_ptxas", lambda: None)
    assert main(["kernels", "build", "--arch", "sm_80", "--out", str(tmp_path), "-q"]) == 0
    assert "there is no ptxas" in capsys.readouterr().out
    assert [f.suffix for f in sorted(tmp_path.iterdir())] == [".ptx", ".json"]


def test_kernels_without_numba_cuda(capsys, monkeypatch):
    found = importlib.util.find_spec
    hidden = lambda name: None if name == "numba_cuda" else found(name)
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    compile._code.cache_clear()
    assert main(["kernels", "build", "--report"]) == 1
    err = capsys.readouterr().err
    assert "pip install 'minigen[cuda]'" in err and err.count("\n") == 1
