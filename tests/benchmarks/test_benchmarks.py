"""The benchmarks' own parts, without PyTorch: workloads train, and every kernel has a case."""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigen as mg
from minigen import kernels

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
NAMES = (
    "gan", "vae", "dcgan-28", "dcgan-32", "dcgan-64", "wgan-gp-32", "conv-vae-32", "infogan-28",
    "mine-20d", "dncnn-40", "unet-64", "vgg16-256",
)  # fmt: skip
SCRIPTS = (
    "train_step", "kernels", "shapes", "scaling", "curves", "chart", "gpu_check", "metrics_parity",
)  # fmt: skip


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize("name", NAMES)
def test_workload_trains_and_draws_what_it_gives_to_its_peer(load, name):
    made = load("workloads")
    workload = made.WORKLOADS[name](batch=made.SMALL[name])
    for _ in range(3):  # a captured step is replayed from the third on
        ahead = mg.Generator(0)
        ahead.load_state_dict(workload.rng.state_dict())
        workload.draw(ahead)
        losses = workload.step()
        assert np.isfinite(losses).all()
        assert workload.rng.state_dict() == ahead.state_dict()


def test_all_workloads_are_named_here(load):
    assert set(load("workloads").WORKLOADS) == set(NAMES)


def test_every_kernel_has_a_case(load):
    cases = load("kernel_cases").CASES
    assert set(cases) == set(kernels.NAMES)


def test_profile_and_flops_see_the_kernels(load):
    tracing, workload = load("tracing"), load("workloads").WORKLOADS["conv-vae-32"](batch=2)
    pixels = 2 * (16 * 16 * 32 * 3 + 8 * 8 * 64 * 32 + 4 * 4 * 128 * 64) * 16
    dense = 2 * (2048 * 128 + 64 * 2048)
    # forward and both gradients, but none for the first convolution's input
    expected = 2 * (3 * (2 * pixels + dense) - 2 * 16 * 16 * 32 * 3 * 16)
    assert tracing.count_flops(workload.step) == expected
    rows = {label: calls for label, calls, _ in tracing.profile(workload.step, calls=2)}
    assert sum(calls for label, calls in rows.items() if label.startswith("conv2d ")) >= 3
    assert rows["(all)"] == 1


def test_chart_draws_results(tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "chart.png"
    subprocess.run([sys.executable, FOLDER / "chart.py", "--out", out], check=True)
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_explains_itself_without_torch(script):
    command = [sys.executable, "-W", "error", FOLDER / f"{script}.py", "--help"]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0 and "usage" in out.stdout, out.stderr


@pytest.mark.parametrize("words", [["train_step"], ["kernels"], ["gpu_check", "--out", "x"]])
@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_a_gpu_one_line_says_so(words, tmp_path):
    script, *rest = words
    command = [sys.executable, FOLDER / f"{script}.py", *rest]
    command += ["--device", "cuda"] * (script != "gpu_check")
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 1 and out.stdout == "" and out.stderr.count("\n") == 1
    assert out.stderr.startswith(f"{script}: device 'cuda' needs CuPy: pip install")


def test_arguments_of_kernels_as_a_gpu_gets_them_are_wrong_where_nan_is(load):
    accuracy = load("accuracy")
    x = np.ones((2, 3), np.float32)
    assert accuracy.error("exp", (x,), (x,)) < 1e-6
    assert accuracy.error("exp", (x * np.nan,), (x,)) == np.inf
    assert accuracy.shapes((x, 1, None, np.float32)) == "2x3"


def test_report_of_a_gpu(load, tmp_path):
    report, head = load("gpu_report"), {"gpu": "G", "machine": "M", "date": "D", "commit": "C"}
    row = {"name": "exp 0", "passed": False, "error": 0.5}
    errors = report.understood("errors", 1, f"{json.dumps(row)}\n", "")
    assert errors["status"] == "failed" and errors["failed"] == [row]
    late = report.understood("replays", "timeout", "", "")
    assert late["status"] == "failed" and "time was over" in late["note"]
    left = report.understood("tests/cuda", 1, "", "No module named pytest")
    assert left["status"] == "left out"
    eager = {"workload": "vae", "minigen_ms": 1.0, "minigen_eager_ms": 2.0, "peer_ms": 3.0,
             "ratio": 3.0, "others": []}  # fmt: skip
    printed = json.dumps({**head, "workloads": [eager]})
    parts = [
        {"name": name, "command": "python x --workload vae", "seconds": 1.0, **each}
        for name, each in (
            ("errors", errors),
            ("steps", report.understood("steps", 0, printed, "")),
            ("steps", report.understood("steps", 1, "", "trouble")),
        )
    ]
    report.write({**head, "command": "c", "parts": parts}, tmp_path)
    page = (tmp_path / "gpu_check.md").read_text()
    assert "| vae | 1.000 | 2.000 | 3.000 | 3.00 | - | - | - | - |" in page
    assert "trouble" in page and '"exp 0"' in page
    kept = json.loads((tmp_path / "train_step-cuda.json").read_text())
    assert kept["workloads"] == [eager] and kept["command"] == "c"
