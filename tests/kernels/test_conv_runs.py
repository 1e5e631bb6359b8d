"""Weight gradients whose lanes run along taps and channels, against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import conv as cpu
from minigen.kernels.cpu import conv_plan, conv_runs
from minigen.kernels.reference import conv as reference

from minigen import kernels


def check(n, c, o, size, kernel, args, dtype="float32"):
    rng = np.random.default_rng(c + o)
    weight = np.zeros((o, c // args[3], *kernel), dtype)
    x = rng.standard_normal((n, *size, c)).astype(dtype).transpose(0, 3, 1, 2)
    grad = rng.standard_normal(reference.conv2d(x, weight, None, *args).shape).astype(dtype)
    with kernels.use("cpu", convolution="direct"):
        got = cpu.conv2d_weight_grad(x, grad, kernel, *args)
    exact = reference.conv2d_weight_grad(x.astype("f8"), grad.astype("f8"), kernel, *args)
    assert got.dtype == dtype
    assert got.shape == exact.shape
    assert got.transpose(0, 2, 3, 1).flags.c_contiguous
    scale = max(np.linalg.norm(exact), 1.0)
    assert np.linalg.norm(got - exact) < (3e-6 if dtype == "float32" else 1e-13) * scale


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=100, deadline=None)
def test_any_shape_that_can_be_served(data, dtype):
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    c, o = (groups * data.draw(st.integers(1, 40)) for _ in range(2))
    axes = []
    for _ in range(2):
        kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
        padding, dilation = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 2))
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        axes.append((data.draw(st.integers(least, least + 15)), kernel, stride, padding, dilation))
    size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "suits_runs", lambda p: conv_runs._best(p, 16) is not None)
        args = (stride, padding, dilation, groups)
        check(data.draw(st.integers(1, 3)), c, o, size, kernel, args, dtype)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(("c", "o", "groups"), [(17, 17, 1), (3, 3, 1), (64, 64, 4), (64, 3, 1)])
def test_threads_and_blocks(c, o, groups, threads, monkeypatch):
    monkeypatch.setattr(conv_runs, "get_num_threads", lambda: threads)
    check(5, c, o, (40, 50), (3, 3), ((1, 1), (1, 1), (1, 1), groups))


@pytest.mark.parametrize(
    ("c", "o", "groups", "suits"),
    [(3, 3, 1, True), (17, 17, 1, True), (64, 3, 1, True), (64, 64, 4, True), (64, 64, 1, False)],
)
def test_choice(c, o, groups, suits):
    shape = (16, c, (20, 20), o, (20, 20), (3, 3), (1, 1), (1, 1), (1, 1), groups, False)
    assert conv_runs.suits_runs(conv_plan.Problem(*shape)) == suits


def test_nan_and_infinity_stay_where_they_belong():
    x, grad = np.ones((2, 17, 9, 8), np.float32), np.ones((2, 17, 9, 8), np.float32)
    x[0, 3, 4, 4], grad[1, 5, 0, 0] = np.nan, np.inf
    args = x, grad, (3, 3), (1, 1), (1, 1), (1, 1), 1
    expected = reference.conv2d_weight_grad(*args)
    np.testing.assert_array_equal(
        np.isfinite(cpu.conv2d_weight_grad(*args)), np.isfinite(expected)
    )
