"""Convolution kernels: reference against a direct loop, cpu against reference, and adjoints."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import conv as cpu
from minigen.kernels.cpu import conv_blocks, conv_plan
from minigen.kernels.reference import conv as reference
from minigen.kernels.reference import elementwise

from minigen import kernels

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


@st.composite
def problems(draw, largest=9, channels=5):
    """A convolution of random shape: sizes and arguments, the input at least one window large."""
    groups = draw(st.integers(1, 3))
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        kernel.append(draw(st.integers(1, 4)))
        stride.append(draw(st.integers(1, 3)))
        padding.append(draw(st.integers(0, 2)))
        dilation.append(draw(st.integers(1, 2)))
        least = max(1, dilation[-1] * (kernel[-1] - 1) + 1 - 2 * padding[-1])
        size.append(draw(st.integers(least, max(least, largest))))
    return dict(
        n=draw(st.integers(0, 3)),
        c=groups * draw(st.integers(1, channels)),
        o=groups * draw(st.integers(1, channels)),
        size=tuple(size),
        kernel=tuple(kernel),
        args=(tuple(stride), tuple(padding), tuple(dilation), groups),
        seed=draw(st.integers(0, 2**16)),
        layout=draw(st.sampled_from(["contiguous", "channels-last", "strided"])),
        dtype=draw(st.sampled_from(["float32", "float64"])),
    )


def lay(array, layout):
    """The same values in another memory layout."""
    if layout == "channels-last":
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "strided":
        wide = np.zeros((*array.shape[:3], 2 * array.shape[3]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return array


def arrays(p):
    """x, weight, bias and an output gradient for a drawn problem."""
    rng = np.random.default_rng(p["seed"])
    kernel, (stride, padding, dilation, groups) = p["kernel"], p["args"]
    out = [
        (p["size"][i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    shapes = (
        (p["n"], p["c"], *p["size"]), (p["o"], p["c"] // groups, *kernel), (p["n"], p["o"], *out)
    )  # fmt: skip
    x, weight, grad = (lay(rng.standard_normal(s).astype(p["dtype"]), p["layout"]) for s in shapes)
    return x, weight, rng.standard_normal(p["o"]).astype(p["dtype"]), grad


def direct(x, weight, bias, stride, padding, dilation, groups):
    """The definition as a loop over output pixels, in float64."""
    (n, c, h, w), (o, inner, kh, kw) = x.shape, weight.shape
    padded = np.zeros((n, c, h + 2 * padding[0], w + 2 * padding[1]))
    padded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
    oh = (padded.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (padded.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.empty((n, o, oh, ow))
    for a, channel, i, j in np.ndindex(*y.shape):
        group = channel // (o // groups)
        rows = i * stride[0] + np.arange(kh) * dilation[0]
        columns = j * stride[1] + np.arange(kw) * dilation[1]
        window = padded[a, group * inner : (group + 1) * inner][:, rows[:, None], columns]
        y[a, channel, i, j] = (window * weight[channel]).sum() + bias[channel]
    return y


@given(problems(largest=6, channels=2))
@settings(max_examples=30, deadline=None)
def test_reference_is_the_direct_sum(p):
    x, weight, bias, _ = (a.astype("float64") for a in arrays(p))
    expected = direct(x, weight, bias, *p["args"])
    np.testing.assert_allclose(reference.conv2d(x, weight, bias, *p["args"]), expected, atol=1e-10)


@given(problems())
@settings(max_examples=30, deadline=None)
def test_reference_functions_are_adjoint(p):
    x, weight, _, grad = (a.astype("float64") for a in arrays(p))
    value = np.vdot(reference.conv2d(x, weight, None, *p["args"]), grad)
    back = reference.conv_transpose2d(grad, weight, None, p["size"], *p["args"])
    by_weight = reference.conv2d_weight_grad(x, grad, p["kernel"], *p["args"])
    assert back.shape == x.shape
    assert by_weight.shape == weight.shape
    assert np.vdot(back, x) == pytest.approx(value, abs=1e-9)
    assert np.vdot(by_weight, weight) == pytest.approx(value, abs=1e-9)


@given(problems(largest=20, channels=24))
@settings(max_examples=100, deadline=None)
def test_cpu_agrees_with_the_reference(p):
    check_against_reference(p)


@given(problems(largest=20, channels=6), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_blocks_of_pixels_agree_with_the_reference(p, outputs):
    stride, padding, _, _ = p["args"]
    problem = p | dict(o=outputs, args=(stride, padding, (1, 1), 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_blocks, "LEAST_WORK", 0)  # small problems by blocks, too
        conv_blocks.block.cache_clear()
        cpu._chosen.clear()
        check_against_reference(problem)
    conv_blocks.block.cache_clear()
    cpu._chosen.clear()


def check_against_reference(p):
    inputs = x, weight, bias, grad = arrays(p)
    before = [a.copy() for a in inputs]
    wide = [a.astype("float64") for a in inputs]
    tolerance = TOLERANCE[p["dtype"]] * max(1, weight[0].size, p["n"] * p["size"][0]) ** 0.5
    bias_in = np.linspace(-1, 1, x.shape[1]).astype(p["dtype"])
    pairs = [
        (
            cpu.conv2d(x, weight, bias, *p["args"]),
            reference.conv2d(wide[0], wide[1], wide[2], *p["args"]),
        ),
        (
            cpu.conv_transpose2d(grad, weight, bias_in, p["size"], *p["args"]),
            reference.conv_transpose2d(wide[3], wide[1], bias_in, p["size"], *p["args"]),
        ),
        (
            cpu.conv2d_weight_grad(x, grad, p["kernel"], *p["args"]),
            reference.conv2d_weight_grad(wide[0], wide[3], p["kernel"], *p["args"]),
        ),
    ]
    for got, expected in pairs:
        assert got.dtype == x.dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=tolerance, rtol=tolerance)
    for array, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, old)


@given(problems(largest=12, channels=24), st.sampled_from([0, 0.2, 1.5]), st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_slope_is_a_leaky_relu_of_the_sums(p, slope, least):
    x, weight, bias, grad = arrays(p)
    bias_in = np.linspace(-1, 1, x.shape[1]).astype(p["dtype"])
    calls = [
        (cpu.conv2d, (x, weight, bias, *p["args"])),
        (cpu.conv_transpose2d, (grad, weight, bias_in, p["size"], *p["args"])),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_blocks, "LEAST_WORK", least << 20)  # by blocks, or not
        conv_blocks.block.cache_clear()
        cpu._chosen.clear()
        for function, args in calls:
            np.testing.assert_array_equal(function(*args, slope), leaky(function(*args), slope))
    conv_blocks.block.cache_clear()
    cpu._chosen.clear()


def leaky(y, slope):
    return np.where(y <= 0, np.asarray(slope).astype(y.dtype) * y, y)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_slope_keeps_nan_and_infinity(slope):
    x = np.array([np.nan, np.inf, -np.inf, -3, 2], np.float32).reshape(5, 1, 1, 1)
    weight = np.ones((1, 1, 1, 1), np.float32)
    expected = elementwise.leaky_relu(x, slope)
    for function, extra in ((cpu.conv2d, ()), (cpu.conv_transpose2d, ((1, 1),))):
        y = function(x, weight, None, *extra, (1, 1), (0, 0), (1, 1), 1, slope)
        np.testing.assert_array_equal(y, expected)
    empty = np.zeros((1, 0, 2, 2), np.float32)
    bias = np.array([-1, 1], np.float32)
    y = cpu.conv2d(
        empty, np.zeros((2, 0, 1, 1), np.float32), bias, (1, 1), (0, 0), (1, 1), 1, slope
    )
    np.testing.assert_array_equal(y[0, :, 0, 0], np.float32([-slope, 1]))


LAYERS = [
    # n, c, size, o, kernel, stride, padding: what the models are made of
    (4, 3, (64, 64), 64, 4, 2, 1),
    (3, 64, (16, 16), 130, 4, 2, 1),
    (5, 1, (28, 28), 64, 3, 2, 1),
    (1, 64, (40, 40), 64, 3, 1, 1),
    (2, 16, (70, 90), 3, 9, 1, 4),
    (16, 64, (40, 40), 1, 3, 1, 1),
    (6, 72, (4, 4), 1, 4, 1, 0),
    (6, 50, (5, 5), 33, 1, 1, 0),
    (6, 50, (5, 5), 33, 1, 2, 0),
]


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers_of_the_models(layer, threads, monkeypatch):
    n, c, size, o, k, s, pad = layer
    p = dict(n=n, c=c, o=o, size=size, kernel=(k, k), args=((s, s), (pad, pad), (1, 1), 1))
    x, weight, bias, grad = arrays(p | dict(seed=0, layout="channels-last", dtype="float32"))
    monkeypatch.setattr(cpu, "get_num_threads", lambda: threads)  # work is cut for so many
    results = {
        target: (
            module.conv2d(x, weight, bias, *p["args"]),
            module.conv_transpose2d(grad, weight, None, size, *p["args"]),
            module.conv2d_weight_grad(x, grad, (k, k), *p["args"]),
        )
        for target, module in (("cpu", cpu), ("reference", reference))
    }
    again = cpu.conv2d_weight_grad(x, grad, (k, k), *p["args"])
    for got, expected in zip(*results.values(), strict=True):
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error < 2e-5
        assert got.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(results["cpu"][2], again)


def test_output_padding_through_output_size():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 3, 3))
    for size in [(7, 9), (8, 10), (8, 9)]:
        args = (x, weight, None, size, (2, 2), (1, 1), (1, 1), 1)
        np.testing.assert_allclose(cpu.conv_transpose2d(*args), reference.conv_transpose2d(*args))


@pytest.mark.parametrize("shape", [(1, 2, 6, 6), (8, 128, 32, 32)])  # the second goes by blocks
def test_nan_and_infinity_stay_where_they_belong(shape):
    x = np.zeros(shape, np.float32)
    x[0, 1, 2, 3], x[0, 0, 5, 5] = np.nan, np.inf
    weight = np.ones((1, shape[1], 3, 3), np.float32)
    pairs = ((1, 1), (1, 1), (1, 1))
    expected = reference.conv2d(x, weight, None, *pairs, 1)
    np.testing.assert_array_equal(cpu.conv2d(x, weight, None, *pairs, 1), expected)
    turned = weight.transpose(1, 0, 2, 3)
    y = cpu.conv_transpose2d(x, turned, None, shape[2:], *pairs, 1)
    expected = reference.conv_transpose2d(x, turned, None, shape[2:], *pairs, 1)
    np.testing.assert_array_equal(y, expected)
    grad = np.zeros((shape[0], 1, *shape[2:]), np.float32)
    grad[0, 0, 3, 3] = 1
    args = (x, grad, (3, 3), *pairs, 1)
    np.testing.assert_array_equal(
        np.isnan(cpu.conv2d_weight_grad(*args)), np.isnan(reference.conv2d_weight_grad(*args))
    )


def test_empty_channels_give_the_bias():
    x, weight = np.zeros((2, 0, 4, 4), np.float32), np.zeros((3, 0, 3, 3), np.float32)
    bias = np.arange(3, dtype=np.float32)
    for module in (cpu, reference):
        y = module.conv2d(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None], (2, 3, 4, 4)))


def test_empty_outputs():
    x, weight = np.ones((2, 3, 2, 2), np.float32), np.ones((3, 3, 3, 3), np.float32)
    for module in (cpu, reference):
        assert module.conv2d(x, weight, None, (1, 1), (0, 0), (1, 1), 1).shape == (2, 3, 0, 0)
        y = module.conv_transpose2d(x, weight, None, (0, 4), (1, 1), (1, 1), (1, 1), 1)
        assert y.shape == (2, 3, 0, 4)


def test_large_numbers_by_blocks_do_not_warn():
    x, weight = np.full((8, 128, 32, 32), 1e37, np.float32), np.full((1, 128, 1, 3), 1e-2)
    args = (None, (1, 1), (0, 1), (1, 1), 1)
    y = cpu.conv2d(x, weight.astype(np.float32), *args)
    np.testing.assert_allclose(y[..., 1:-1], 3.84e37, rtol=1e-5)


def test_mismatched_shapes_name_both_values():
    x, weight = np.zeros((1, 3, 5, 5), np.float32), np.zeros((8, 4, 3, 3), np.float32)
    with pytest.raises(ValueError, match="input has 3 channels, weight expects 4"):
        cpu.conv2d(x, weight, None, (1, 1), (0, 0), (1, 1), 1)
    with pytest.raises(ValueError, match="input has 3 channels, weight expects 8"):
        cpu.conv_transpose2d(x, weight, None, (7, 7), (1, 1), (0, 0), (1, 1), 1)
    with pytest.raises(ValueError, match="must agree in batch"):
        args = ((3, 3), (1, 1), (0, 0), (1, 1), 1)
        cpu.conv2d_weight_grad(x, np.zeros((2, 8, 3, 3), np.float32), *args)


def test_transposed_phases_cover_every_tap_once():
    problem = conv_plan.Problem(
        2, 8, (6, 6), 8, (12, 12), (4, 4), (2, 2), (1, 1), (1, 1), 1, True
    )
    p = conv_plan.plan(problem, 16, 4, 1, conv_plan.MAX_PIXELS)
    assert sorted(p.taps[:, 0]) == list(range(16))
    assert len(p.phases) == 4
    first, per_phase = p.phases[:, conv_plan.PHASE.index("first_output")], len(p.outputs) // 4
    outputs = (p.outputs.reshape(4, per_phase) + first[:, None]).ravel()
    assert sorted(outputs) == [8 * pixel for pixel in range(2 * 144)]


@pytest.mark.parametrize("shape", [(3, 40, 9, 11), (2, 3, 50, 60), (1, 64, 16, 16), (9, 500, 1, 1)])
def test_contiguous_input_is_turned(shape):
    for dtype in ("float32", "float64"):
        x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        turned = cpu._channels_last(x, x.dtype)
        np.testing.assert_array_equal(turned, x.transpose(0, 2, 3, 1).ravel())


def test_narrow_problems_have_algorithms_of_their_own():
    problem = conv_plan.Problem(
        64, 64, (16, 16), 1, (32, 32), (4, 4), (2, 2), (1, 1), (1, 1), 1, True
    )
    assert cpu.choose(problem) == "dots"
    assert cpu.choose(problem._replace(batch=512, channels=3)) == "blocks"
    assert cpu.choose(problem._replace(batch=1, channels=1)) == "tiles"
    assert cpu.choose(problem._replace(channels=64, out_channels=64, groups=64)) == "depthwise"


def test_explain_lists_the_shapes_served():
    x, weight = np.zeros((1, 3, 5, 5), np.float32), np.zeros((8, 3, 3, 3), np.float32)
    kernels.conv2d(x, weight, None, (1, 1), (0, 0), (1, 1), 1)
    choices = kernels.explain("conv2d")["choices"]
    assert any(key.startswith("conv2d (1, 3, 5, 5) -> (8, 3, 3)") for key in choices)
