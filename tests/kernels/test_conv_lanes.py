"""Convolutions of many narrow groups, few outputs or one pixel: each against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import conv as cpu
from minigen.kernels.cpu import conv_depthwise, conv_dots, conv_lanes, conv_plan
from minigen.kernels.reference import conv as reference

from minigen import kernels

NARROW = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (4, 4), (4, 2), (1, 8), (8, 8), (3, 3), (16, 4)]


@st.composite
def problems(draw, groups, channels, outputs):
    """n, c, o, size, kernel and (stride, padding, dilation, groups), at least one window large."""
    axes = []
    for _ in range(2):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        padding, dilation = draw(st.integers(0, 3)), draw(st.integers(1, 2))
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        axes.append((draw(st.integers(least, least + 18)), kernel, stride, padding, dilation))
    size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    groups = draw(groups)
    return (
        draw(st.integers(1, 3)), groups * draw(channels), groups * draw(outputs), size, kernel,
        (stride, padding, dilation, groups),
    )  # fmt: skip


def check(problem, dtype, slope=1.0, threads=None):
    """All three kernels of a problem, direct, against the reference in float64."""
    n, c, o, size, kernel, args = problem
    rng = np.random.default_rng(n + c)
    x = rng.standard_normal((n, *size, c)).astype(dtype).transpose(0, 3, 1, 2)
    weight = rng.standard_normal((o, *kernel, c // args[3])).astype(dtype).transpose(0, 3, 1, 2)
    bias, bias_in = rng.standard_normal(o).astype(dtype), rng.standard_normal(c).astype(dtype)
    wide = [a.astype("float64") for a in (x, weight, bias, bias_in)]
    expected = reference.conv2d(*wide[:3], *args, slope)
    grad = rng.standard_normal(expected.shape).astype(dtype)
    wide_grad = grad.astype("float64")
    pairs = []
    with pytest.MonkeyPatch.context() as patch, kernels.use("cpu", convolution="direct"):
        for module in (cpu, conv_depthwise, conv_lanes, conv_dots) if threads else ():
            patch.setattr(module, "get_num_threads", lambda: threads)  # work is cut for so many
        pairs.append((cpu.conv2d(x, weight, bias, *args, slope), expected))
        pairs.append((
            cpu.conv_transpose2d(grad, weight, bias_in, size, *args, slope),
            reference.conv_transpose2d(wide_grad, wide[1], wide[3], size, *args, slope),
        ))  # fmt: skip
        pairs.append((
            cpu.conv2d_weight_grad(x, grad, kernel, *args),
            reference.conv2d_weight_grad(wide[0], wide_grad, kernel, *args),
        ))  # fmt: skip
    for got, exact in pairs:
        assert got.dtype == dtype
        assert got.shape == exact.shape
        assert got.transpose(0, 2, 3, 1).flags.c_contiguous
        scale = max(np.linalg.norm(exact), 1.0)
        assert np.linalg.norm(got - exact) < (3e-6 if dtype == "float32" else 1e-13) * scale


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60, deadline=None)
def test_narrow_groups(data, dtype):
    inner, outer = data.draw(st.sampled_from(NARROW))
    problem = data.draw(problems(st.integers(2, 40), st.just(inner), st.just(outer)))
    check(problem, dtype, slope=data.draw(st.sampled_from([1.0, 0.2, 0.0])))


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=100, deadline=None)
def test_depthwise(data, dtype):
    problem = data.draw(problems(st.integers(2, 40), st.just(1), st.just(1)))
    check(problem, dtype, slope=data.draw(st.sampled_from([1.0, 0.2, 0.0])))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(
    ("channels", "kernel", "args"),
    [
        (32, (3, 3), ((1, 1), (1, 1), (1, 1), 32)),
        (33, (5, 5), ((1, 1), (2, 2), (1, 1), 33)),
        (32, (3, 3), ((1, 1), (2, 2), (2, 2), 32)),
        (32, (3, 3), ((1, 1), (5, 7), (1, 1), 32)),  # windows wholly in the padding
        (48, (4, 4), ((2, 2), (1, 1), (1, 1), 48)),
        (48, (5, 3), ((2, 2), (0, 2), (2, 3), 48)),
        (3, (7, 11), ((1, 1), (3, 5), (1, 1), 3)),
        (5, (3, 3), ((2, 2), (1, 1), (1, 1), 5)),
    ],
)
def test_depthwise_rows_in_place_and_copied(channels, kernel, args, aligned, monkeypatch):
    monkeypatch.setattr(conv_depthwise, "_aligned", lambda x, p: aligned)
    check((2, channels, channels, (19, 37), kernel, args), "float32", slope=0.2, threads=3)


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60, deadline=None)
def test_few_outputs_or_inputs(data, dtype):
    few, many = st.integers(1, 8), st.integers(8, 70)
    channels, outputs = (few, many) if data.draw(st.booleans()) else (many, few)
    problem = data.draw(problems(st.just(1), channels, outputs))
    check(problem, dtype, slope=data.draw(st.sampled_from([1.0, 0.2, 0.0])))


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=30, deadline=None)
def test_kernels_that_cover_the_image(data, dtype):
    size = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    n, c, o = (data.draw(st.integers(1, 40)) for _ in range(3))
    args = (stride, (0, 0), (1, 1), 1)
    check((n, c, o, size, size, args), dtype, slope=data.draw(st.sampled_from([1.0, 0.2])))


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("groups", [1, 40, 10])
def test_any_number_of_threads(threads, groups):
    outputs = 3 if groups == 1 else 40
    args = ((1, 2), (1, 1), (1, 1), groups)
    check((5, 40, outputs, (40, 50), (3, 3), args), "float32", threads=threads)
    check((1, 40, outputs, (40, 50), (3, 3), args), "float32", threads=threads)


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("outputs", [1, 3])
def test_nan_and_infinity_stay_where_they_belong(groups, outputs):
    x = np.zeros((2, 32, 9, 8), np.float32)
    x[0, 1, 2, 3], x[0, 0, 5, 5], x[1, 31, 8, 7] = np.nan, np.inf, -np.inf
    weight = np.ones((groups * outputs, 32 // groups, 3, 3), np.float32)
    args = ((1, 1), (1, 1), (1, 1), groups)
    expected = reference.conv2d(x, weight, None, *args)
    np.testing.assert_array_equal(cpu.conv2d(x, weight, None, *args), expected)
    turned = np.ones((32, outputs, 3, 3), np.float32)
    args = (x, turned, None, (9, 8), *args)
    expected = reference.conv_transpose2d(*args)
    np.testing.assert_array_equal(cpu.conv_transpose2d(*args), expected)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (dict(groups=64), "depthwise"),
        (dict(groups=16), "lanes"),
        (dict(groups=8), "lanes"),
        (dict(groups=4), "tiles"),
        (dict(out_channels=3), "dots"),
        (dict(kernel_size=(16, 16), output_size=(1, 1), padding=(0, 0)), "product"),
    ],
)
def test_choices(shape, expected):
    plain = conv_plan.Problem(
        64, 64, (16, 16), 64, (16, 16), (3, 3), (1, 1), (1, 1), (1, 1), 1, False
    )
    assert cpu.choose(plain) == "tiles"
    assert cpu.choose(plain._replace(**shape)) == expected
