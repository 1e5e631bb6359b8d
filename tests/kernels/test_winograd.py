"""Minimal filtering: its matrices, and convolutions by it against the direct sum in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import conv, conv_cost, winograd_plan
from minigen.kernels.cpu.conv_plan import Problem
from minigen.kernels.cpu.cook_toom import TILE, matrices

from minigen import kernels

TOLERANCE = {"float32": 1e-4, "float64": 1e-12}  # of the largest value; float32 stays near 1e-5


@st.composite
def problems(draw):
    """Sizes and arguments of a convolution that minimal filtering can serve."""
    kernel, stride, padding, size = [], [], [], []
    for _ in range(2):
        stride.append(draw(st.integers(1, 3)))
        kernel.append(draw(st.integers(stride[-1] + (stride[-1] == 1), 5)))
        padding.append(draw(st.integers(0, 3)))
        size.append(draw(st.integers(max(1, kernel[-1] - 2 * padding[-1]), 19)))
    return dict(
        n=draw(st.integers(1, 3)),
        c=draw(st.integers(1, 70)),
        o=draw(st.integers(1, 140)),
        size=tuple(size),
        kernel=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(padding),
        slope=draw(st.sampled_from([1.0, 0.2, 0.0])),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        seed=draw(st.integers(0, 2**16)),
    )


def arrays(p):
    rng = np.random.default_rng(p["seed"])
    out = tuple(
        (s + 2 * q - k) // t + 1
        for s, q, k, t in zip(p["size"], p["padding"], p["kernel"], p["stride"], strict=True)
    )
    shapes = (p["n"], p["c"], *p["size"]), (p["o"], p["c"], *p["kernel"]), (p["n"], p["o"], *out)
    x, weight, grad = (rng.standard_normal(shape).astype(p["dtype"]) for shape in shapes)
    return x, weight, grad, rng.standard_normal(max(p["c"], p["o"])).astype(p["dtype"])


def all_three(p, x, weight, grad, bias):
    """conv2d, its transpose and its weight gradient."""
    args = p["stride"], p["padding"], (1, 1), 1
    return (
        kernels.conv2d(x, weight, bias[: p["o"]], *args, p["slope"]),
        kernels.conv_transpose2d(grad, weight, bias[: p["c"]], p["size"], *args, p["slope"]),
        kernels.conv2d_weight_grad(x, grad, p["kernel"], *args),
    )


def assert_close(found, expected, dtype):
    for y, exact in zip(found, expected, strict=True):
        assert y.dtype == dtype
        assert np.abs(y - exact).max() <= TOLERANCE[dtype] * np.abs(exact).max()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_agrees_with_the_direct_sum_in_float64(p):
    inputs = arrays(p)
    with kernels.use("cpu", convolution="direct"):
        exact = all_three(p, *(a.astype(np.float64) for a in inputs))
    with kernels.use("cpu", convolution="winograd"):
        found = all_three(p, *inputs)
    assert_close(found, exact, p["dtype"])


@pytest.mark.parametrize(
    "p",
    [  # many tiles, few tiles, several chunks of a weight gradient, channels made in blocks
        dict(n=16, c=64, o=64, size=(40, 40), kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
        dict(n=24, c=300, o=200, size=(4, 4), kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
        dict(n=16, c=64, o=128, size=(32, 32), kernel=(4, 4), stride=(2, 2), padding=(1, 1)),
        dict(n=4, c=96, o=48, size=(29, 31), kernel=(5, 5), stride=(2, 1), padding=(2, 2)),
    ],
)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_layers_as_models_have_them(p, dtype):
    p = p | dict(slope=1.0, dtype=dtype, seed=0)
    inputs = arrays(p)
    with kernels.use("cpu", convolution="direct"):
        exact = all_three(p, *(a.astype(np.float64) for a in inputs))
    with kernels.use("cpu", convolution="winograd"):
        found = all_three(p, *inputs)
        assert_close(found, exact, dtype)
        before = kernels.get_num_threads()
        try:  # the number of threads does not change a bit
            kernels.set_num_threads(1)
            for a, b in zip(all_three(p, *inputs), found, strict=True):
                np.testing.assert_array_equal(a, b)
        finally:
            kernels.set_num_threads(before)


@pytest.mark.parametrize("taps", TILE)
def test_matrices_filter_exactly(taps):
    m = {name: np.array(rows, float) for name, rows in matrices(taps).items()}
    rng = np.random.default_rng(taps)
    data, taken = rng.standard_normal(TILE[taps] + taps - 1), rng.standard_normal(taps)
    expected = np.correlate(data, taken)
    np.testing.assert_allclose(m["AT"] @ ((m["G"] @ taken) * (m["BT"] @ data)), expected, 1e-12)
    grad = rng.standard_normal(TILE[taps])
    expected = np.correlate(data, grad)
    np.testing.assert_allclose(m["GT"] @ ((m["A"] @ grad) * (m["BT"] @ data)), expected, 1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_where_they_belong(bad):
    p = dict(n=2, c=16, o=16, size=(12, 12), kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    x, weight, grad, bias = arrays(p | dict(dtype="float32", seed=0))
    x[1, 3, 5, 6] = bad
    args = (1, 1), (1, 1), (1, 1), 1
    with kernels.use("cpu", convolution="winograd"):
        y = kernels.conv2d(x, weight, bias, *args)
        dw = kernels.conv2d_weight_grad(x, grad, (3, 3), *args)
    reached = ~np.isfinite(y)
    assert reached[1, :, 4:7, 5:8].all() and reached.sum() == 16 * 9
    assert not np.isfinite(dw[:, 3]).any() and np.isfinite(np.delete(dw, 3, axis=1)).all()


def test_the_choice_counts_instructions_and_can_be_seen():
    def problem(c, o, size, kernel, stride=1):
        out = (size + 2 - kernel) // stride + 1
        pairs = (size, size), o, (out, out), (kernel, kernel), (stride, stride), (1, 1), (1, 1)
        return Problem(8, c, *pairs, 1, False)

    assert conv_cost.winograd_pays(problem(64, 64, 32, 3))
    assert conv_cost.winograd_pays(problem(64, 128, 32, 4, 2))
    assert not conv_cost.winograd_pays(problem(3, 64, 32, 3))  # the transforms would dominate
    assert not conv_cost.winograd_pays(problem(64, 64, 32, 1))
    x, weight = np.ones((8, 64, 32, 32), "float32"), np.ones((64, 64, 3, 3), "float32")
    kernels.conv2d(x, weight, None, (1, 1), (1, 1), (1, 1), 1)
    choices = kernels.explain("conv2d")["choices"]
    assert choices[str(problem(64, 64, 32, 3))] == "winograd"
    with kernels.use(convolution="direct"):
        assert conv._chosen_for(problem(64, 64, 32, 3)) == "tiles"


def test_wrong_algorithm_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="use: convolution 'fft', expected 'direct' or"):
        kernels.use(convolution="fft")


def test_phases_active_at_a_point_are_neighbours():
    for kernel, stride in (((3, 3), (2, 2)), ((4, 3), (2, 2)), ((5, 4), (3, 3))):
        p = Problem(1, 4, (9, 9), 4, (4, 4), kernel, stride, (1, 1), (1, 1), 1, False)
        short = winograd_plan.tiling(p, 16, 4, 2, False).phases[:, 3:5].astype(bool)
        for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
            active = ~(short & [bool(down), bool(across)]).any(axis=1)
            assert active.any() and np.abs(np.diff(active.astype(int))).sum() <= 2
            assert np.diff(np.flatnonzero(active)).max(initial=1) == 1
