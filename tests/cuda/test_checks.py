"""The checks that a GPU is put to (tests/gpu, benchmarks/gpu.py), tried on the stand-in."""

import contextlib
import importlib
from pathlib import Path

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.referenced import referenced
from tests.gpu import checks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def stand_in(gpu, monkeypatch):
    """The reference's kernels on the stand-in, whose new memory holds NaN already."""
    if not gpu.__name__.endswith("fake_cupy"):
        pytest.skip("a GPU is here, and tests/gpu with it")
    monkeypatch.setattr(checks, "poisoned", contextlib.nullcontext)
    with referenced():
        yield


def test_they_pass_where_all_is_right():
    found = [
        *checks.gradients(["exp"]),
        *checks.errors(["leaky_relu", "linear", "adam", "philox_uniform"]),
        *checks.replays(["mine-20d"]),
        *checks.training(steps=2),
    ]
    assert [row for row in found if not row["passed"]] == []
    assert {row["name"] for row in found} >= {"linear 0 tf32", "adam 0", "mine-20d", "float64"}


def test_they_fail_where_memory_is_not_written_or_changes(gpu, monkeypatch):
    monkeypatch.setitem(kernels._functions, ("exp", "cuda"), gpu.empty_like)
    (row,) = checks.errors(["exp"])
    assert not row["passed"] and row["error"] == np.inf
    calls = iter(range(9))
    changing = lambda x: gpu.asarray(np.exp(x.get()) + np.float32(next(calls) * 1e-6))
    monkeypatch.setitem(kernels._functions, ("exp", "cuda"), changing)
    (row,) = checks.errors(["exp"])
    assert not row["passed"] and not row["same_bits"] and row["error"] < 1e-4


def test_arguments_on_a_gpu_grow_along_the_batch(gpu, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    made, cases = importlib.import_module("gpu"), importlib.import_module("kernel_cases").CASES
    monkeypatch.setattr(made, "FACTOR", 3)
    x, w, b, *rest = made.arguments(cases["conv2d"][0], 2)
    host = cases["conv2d"][0](2)
    assert x.shape == (6, *host[0].shape[1:]) and x[:2].strides == host[0].strides
    np.testing.assert_array_equal(x[4:].get(), host[0])
    assert w.shape == host[1].shape and b.shape == host[2].shape and rest == list(host[3:])
    assert made.arguments(cases["philox_bits"][0], 2) == (1, 0, 6 << 16)
    assert made.arguments(cases["scaled_sign"][0], 2)[2].shape == ()
    assert made.precisions("conv2d", (x,)) == ["tf32", "float32"]
    assert made.precisions("exp", (x,)) == [None]
