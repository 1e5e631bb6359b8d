"""Convolutions against direct loops, their closed family to third order, adjoints, arguments and
errors.
"""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minigen as mg
from minigen import kernels
from minigen.autograd import grad
from minigen.ops.conv import (
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    convolution,
    convolution_transposed,
    convolution_weight_grad,
    fold,
    unfold,
)
from minigen.tensor import Tensor
from minigen.testing import check_adjoint, gradcheck

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
TARGETS = st.sampled_from(["reference", "cpu"])


def direct(x, w, b, stride, padding, dilation, groups):
    """conv2d, one output and one tap at a time."""
    n, _, height, width = x.shape
    o, cg, kh, kw = w.shape
    oh = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, o, oh, ow)) + (0 if b is None else b[:, None, None])
    for k, i, j, u, v in itertools.product(range(o), range(oh), range(ow), range(kh), range(kw)):
        row = i * stride[0] - padding[0] + u * dilation[0]
        column = j * stride[1] - padding[1] + v * dilation[1]
        if 0 <= row < height and 0 <= column < width:
            first = k // (o // groups) * cg
            y[:, k, i, j] += x[:, first : first + cg, row, column] @ w[k, :, u, v]
    return y


def direct_transposed(x, w, b, size, stride, padding, dilation, groups):
    """conv_transpose2d, one input and one tap at a time."""
    n, channels, height, width = x.shape
    _, og, kh, kw = w.shape
    y = np.zeros((n, og * groups, *size)) + (0 if b is None else b[:, None, None])
    for c, i, j, u, v in itertools.product(
        range(channels), range(height), range(width), range(kh), range(kw)
    ):
        row = i * stride[0] - padding[0] + u * dilation[0]
        column = j * stride[1] - padding[1] + v * dilation[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            first = c // (channels // groups) * og
            y[:, first : first + og, row, column] += x[:, c, i, j, None] * w[c, :, u, v]
    return y


@st.composite
def geometries(draw):
    pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return {
        "n": draw(st.integers(0, 2)),
        "c": groups * draw(st.integers(1, 2)),
        "o": groups * draw(st.integers(1, 2)),
        "size": draw(pairs(1, 6)),
        "kernel": draw(pairs(1, 3)),
        "stride": draw(pairs(1, 3)),
        "padding": draw(pairs(0, 2)),
        "dilation": draw(pairs(1, 2)),
        "groups": groups,
        "layout": draw(st.sampled_from(["plain", "channels last", "strided", "fortran"])),
        "bias": draw(st.booleans()),
    }


def laid_out(x, layout):
    """The same values in another memory layout."""
    if layout == "channels last":
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "strided":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    return np.asfortranarray(x) if layout == "fortran" else x


def leaf(array):
    t = Tensor(array)
    t.requires_grad = True
    return t


@QUICK
@given(geometries(), TARGETS, st.integers(0, 9))
def test_conv2d_is_the_direct_loop(g, target, seed):
    reach = [d * (k - 1) + 1 for d, k in zip(g["dilation"], g["kernel"], strict=True)]
    assume(all(r <= s + 2 * p for r, s, p in zip(reach, g["size"], g["padding"], strict=True)))
    rng = np.random.default_rng(seed)
    x = laid_out(rng.standard_normal((g["n"], g["c"], *g["size"])), g["layout"])
    w = laid_out(rng.standard_normal((g["o"], g["c"] // g["groups"], *g["kernel"])), g["layout"])
    b = rng.standard_normal(g["o"]) if g["bias"] else None
    window = (g["stride"], g["padding"], g["dilation"])
    with kernels.use(target):
        inputs = [leaf(x), leaf(w)] + ([leaf(b)] if g["bias"] else [])
        y = conv2d(*inputs, *([] if g["bias"] else [None]), *window, g["groups"])
        np.testing.assert_allclose(y.numpy(), direct(x, w, b, *window, g["groups"]), atol=1e-10)
        seed_gradient = rng.standard_normal(y.shape)
        found = grad(y, inputs, Tensor(seed_gradient))
    expected = direct_transposed(seed_gradient, w, None, g["size"], *window, g["groups"])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-10)
    # <g, conv(x, w)> is linear in w: its gradient is found from one-hot weights.
    for k, c in itertools.product(range(g["o"]), range(w.shape[1])):
        one = np.zeros(w.shape)
        one[k, c, -1, 0] = 1
        inner = (direct(x, one, None, *window, g["groups"]) * seed_gradient).sum()
        np.testing.assert_allclose(found[1].numpy()[k, c, -1, 0], inner, atol=1e-9)
    if g["bias"]:
        np.testing.assert_allclose(found[2].numpy(), seed_gradient.sum((0, 2, 3)), atol=1e-10)


@QUICK
@given(geometries(), TARGETS, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 9))
def test_conv_transpose2d_is_the_direct_loop(g, target, extra, seed):
    assume(all(e < max(s, d) for e, s, d in zip(extra, g["stride"], g["dilation"], strict=True)))
    size = tuple(
        (g["size"][i] - 1) * g["stride"][i] - 2 * g["padding"][i]
        + g["dilation"][i] * (g["kernel"][i] - 1) + extra[i] + 1
        for i in (0, 1)
    )  # fmt: skip
    assume(min(size) > 0)
    rng = np.random.default_rng(seed)
    x = laid_out(rng.standard_normal((g["n"], g["c"], *g["size"])), g["layout"])
    w = laid_out(rng.standard_normal((g["c"], g["o"] // g["groups"], *g["kernel"])), g["layout"])
    b = rng.standard_normal(g["o"]) if g["bias"] else None
    window = (g["stride"], g["padding"], g["dilation"], g["groups"])
    with kernels.use(target):
        inputs = [leaf(x), leaf(w)]
        y = conv_transpose2d(
            *inputs, None if b is None else Tensor(b), g["stride"], g["padding"], extra,
            g["groups"], g["dilation"],
        )  # fmt: skip
        np.testing.assert_allclose(y.numpy(), direct_transposed(x, w, b, size, *window), atol=1e-10)
        seed_gradient = rng.standard_normal(y.shape)
        dx, dw = grad(y, inputs, Tensor(seed_gradient))
    expected = direct(seed_gradient, w, None, *window)[:, :, : x.shape[2], : x.shape[3]]
    np.testing.assert_allclose(dx.numpy(), expected, atol=1e-10)
    one = np.zeros(w.shape)
    one[-1, -1, 0, -1] = 1
    inner = (direct_transposed(x, one, None, size, *window) * seed_gradient).sum()
    np.testing.assert_allclose(dw.numpy()[-1, -1, 0, -1], inner, atol=1e-9)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_the_family_is_closed_to_third_order(target):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 5, 4)), rng.standard_normal((2, 2, 3, 2)), rng.random(2)
    t, v = rng.standard_normal((1, 2, 2, 3)), rng.standard_normal((2, 1, 2, 2))
    with kernels.use(target):
        gradcheck(lambda x, w, b: conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2), [x, w, b], order=3)
        gradcheck(lambda x, w: conv_transpose2d(x, w, None, 2, 1, 1), [t, v], order=3)
        # output_padding of a stride or more: the adjoint makes room for more rows than there are
        gradcheck(lambda x, w: conv_transpose2d(x, w, None, 1, 0, 2, 1, 3), [t, v], order=3)
        window = ((2, 1), (1, 0), (1, 2), 2)
        gradcheck(
            lambda x, y: convolution_weight_grad(x, y, (3, 2), *window),
            [x, rng.standard_normal((2, 2, 3, 2))],
            order=3,
        )


def test_the_family_s_adjoints():
    rng = np.random.default_rng(1)
    window = ((2, 1), (1, 2), (1, 1), 2)
    x, w = rng.standard_normal((2, 4, 5, 4)), rng.standard_normal((6, 2, 3, 2))
    y = rng.standard_normal((2, 6, 3, 7))
    check_adjoint(
        lambda x: convolution(x, Tensor(w), None, *window),
        lambda y: convolution_transposed(y, Tensor(w), None, (5, 4), *window),
        x,
        y,
    )
    check_adjoint(
        lambda w: convolution(Tensor(x), w, None, *window),
        lambda y: convolution_weight_grad(Tensor(x), y, (3, 2), *window),
        w,
        y,
    )


def test_padding_by_name():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 2, 4))
    same = conv2d(Tensor(x), Tensor(w), padding="same", dilation=(3, 1))
    wide = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)))  # the odd row and column at the end
    expected = direct(wide, w, None, (1, 1), (0, 0), (3, 1), 1)
    np.testing.assert_allclose(same.numpy(), expected, atol=1e-12)
    valid = conv2d(Tensor(x), Tensor(w), padding="valid", stride=2)
    np.testing.assert_array_equal(valid.numpy(), conv2d(Tensor(x), Tensor(w), stride=2).numpy())


def test_unbatched_and_one_dimensional():
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((3, 6, 5)), rng.standard_normal((4, 3, 2, 3)), rng.random(4)
    one = conv2d(Tensor(x), Tensor(w), Tensor(b), 2, 1)
    np.testing.assert_array_equal(
        one.numpy(), conv2d(Tensor(x[None]), Tensor(w), Tensor(b), 2, 1).numpy()[0]
    )
    t = conv_transpose2d(Tensor(x), Tensor(w[:3]), stride=2)
    assert t.shape == (3, 12, 11)
    s, k = rng.standard_normal((2, 3, 9)), rng.standard_normal((4, 3, 3))
    y = conv1d(Tensor(s), Tensor(k), Tensor(b), stride=2, padding=(1,), dilation=2)
    expected = direct(s[:, :, None], k[:, :, None], b, (1, 2), (0, 1), (1, 2), 1)[:, :, 0]
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)
    assert conv1d(Tensor(s[0]), Tensor(k), padding="same").shape == (4, 9)
    k = k.transpose(1, 0, 2)
    y = conv_transpose1d(Tensor(s), Tensor(k), Tensor(b), 2, 1, 1)
    expected = direct_transposed(
        s[:, :, None], k[:, :, None], b, (1, 18), (1, 2), (0, 1), (1, 1), 1
    )
    np.testing.assert_allclose(y.numpy(), expected[:, :, 0], atol=1e-12)


def test_dtypes_meet_as_in_numpy():
    x, w = np.ones((1, 1, 3, 3), np.float32), np.full((1, 1, 2, 2), 0.1)
    x32, w64 = leaf(x), leaf(w)
    y = conv2d(x32, w64)
    assert y.dtype == np.float64
    dx, dw = grad(y.sum(), [x32, w64])
    assert (dx.dtype, dw.dtype) == (np.float32, np.float64)
    assert conv2d(x32, Tensor(w.astype(np.float32))).dtype == np.float32
    counts = conv2d(Tensor(x.astype(np.int64)), Tensor(np.ones((1, 1, 2, 2), np.int64)))
    np.testing.assert_array_equal(counts.numpy(), 4)


def test_nan_and_inf_stay_in_their_windows():
    x = np.zeros((1, 1, 4, 6))
    x[0, 0, 0, 0], x[0, 0, 3, 5] = np.nan, np.inf
    y = conv2d(Tensor(x), Tensor(np.ones((1, 1, 2, 2)))).numpy()[0, 0]
    assert np.isnan(y[0, 0]) and np.isinf(y[2, 4])
    assert np.isfinite(np.delete(y.ravel(), [0, 14])).all()


def test_unfold_lists_patches_and_fold_adds_them_up():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 3, 5, 6))
    columns = unfold(Tensor(x), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    patches = [
        padded[:, :, i : i + 3 : 2, j : j + 3].reshape(2, -1)
        for i in range(5) for j in range(0, 4, 2)
    ]  # fmt: skip
    np.testing.assert_array_equal(columns.numpy(), np.stack(patches, axis=-1))
    check_adjoint(
        lambda x: unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)),
        lambda y: fold(y, (5, 6), (2, 3), (2, 1), (1, 0), (1, 2)),
        x,
        rng.standard_normal(columns.shape),
    )
    tiles = unfold(Tensor(x[0]), 1)
    np.testing.assert_array_equal(fold(tiles, (5, 6), 1).numpy(), x[0])


IMAGE, WEIGHT = np.zeros((2, 3, 8, 8)), np.zeros((8, 4, 3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, w: conv2d(x, w),
            "conv2d: input has 3 channels, weight expects 4 (weight shape (8, 4, 3, 3), groups 1)",
        ),
        (lambda x, w: conv2d(x, w, groups=3), "groups 3 must divide the 8 outputs"),
        (lambda x, w: conv2d(x, w, groups=0), "groups 0 must divide"),
        (lambda x, w: conv2d(x, w[:, :3], stride=0), "stride is 0; expected ints of at least 1"),
        (lambda x, w: conv2d(x, w[:, :3], padding=(1, -1)), "padding is (1, -1)"),
        (lambda x, w: conv2d(x, w[:, :3], padding=1.5), "padding is 1.5"),
        (lambda x, w: conv2d(x, w[:, :3], stride=(1, 2, 3)), "stride is (1, 2, 3)"),
        (
            lambda x, w: conv2d(x, w[:, :3], dilation=4),
            "spans 9 pixels, more than the input (8, 8)",
        ),
        (lambda x, w: conv2d(x, w[:, :3], padding="all"), "'same' or 'valid'"),
        (lambda x, w: conv2d(x, w[:, :3], stride=2, padding="same"), "needs stride 1, not (2, 2)"),
        (lambda x, w: conv2d(x, w[0]), "input has shape (2, 3, 8, 8), weight (4, 3, 3)"),
        (lambda x, w: conv2d(x, w[:, :3], x[0, 0, 0, :4]), "bias has shape (4,)"),
        (lambda x, w: conv_transpose2d(x, w), "input has 3 channels, weight expects 8"),
        (
            lambda x, w: conv_transpose2d(x, w[:3], stride=2, output_padding=2),
            "output_padding (2, 2) must be smaller than stride (2, 2) or dilation (1, 1)",
        ),
        (lambda x, w: conv_transpose2d(x, w[:3], padding=9), "the output would have size (-8, -8)"),
        (lambda x, w: conv_transpose2d(x, w[:3], x[0, 0, 0]), "bias has shape (8,)"),
        (lambda x, w: conv1d(x, w), "conv1d: input has shape (2, 3, 8, 8)"),
        (
            lambda x, w: unfold(x, 9),
            "kernel_size (9, 9) with dilation (1, 1) does not fit into (8, 8)",
        ),
        (lambda x, w: fold(x[0], (8, 8), 2), "fold: input has shape (3, 8, 8)"),
    ],
)
def test_errors_name_both_values(call, message):
    with pytest.raises(ValueError) as error:
        call(Tensor(IMAGE), Tensor(WEIGHT))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_computed_that_nobody_asks_for(monkeypatch):
    called = []
    for name in ("conv_transpose2d", "conv2d_weight_grad"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(
            kernels, name, lambda *a, name=name, kernel=kernel: called.append(name) or kernel(*a)
        )
    w = leaf(np.ones((2, 3, 2, 2)))
    grad(conv2d(Tensor(np.ones((1, 3, 4, 4))), w).sum(), [w])
    assert called == ["conv2d_weight_grad"]
    called.clear()
    x = leaf(np.ones((1, 3, 4, 4)))
    grad(conv2d(x, w).sum(), [x])
    assert called == ["conv_transpose2d"]
    with mg.autograd.no_grad():
        assert not conv2d(x, w).requires_grad


# ---------------------------------------------------------------------------- activated in one pass


@pytest.mark.parametrize("slope", [0, 0.2])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("layer", [conv2d, conv_transpose2d, mg.linear])
def test_negative_slope_is_the_leaky_relu_after_it(layer, with_bias, slope):
    rng = np.random.default_rng(3)
    if layer is mg.linear:
        shapes = (2, 5, 3), (4, 3), (4,)
    else:
        shapes = (2, 3, 5, 4), (4, 3, 3, 2) if layer is conv2d else (3, 4, 3, 2), (4,)
    found = []
    for fused in (True, False):
        rng = np.random.default_rng(3)
        x, w, b = (Tensor(rng.standard_normal(s)) for s in shapes)
        inputs = [x, w, b] if with_bias else [x, w]
        for t in inputs:
            t.requires_grad = True
        if fused:
            y = layer(*inputs, negative_slope=slope)
        else:
            y = mg.leaky_relu(layer(*inputs), slope)
        seed = Tensor(rng.standard_normal(y.shape))
        seed.requires_grad = True
        first = grad(y, inputs, seed, create_graph=True)
        total = mg.stack([(g * Tensor(rng.standard_normal(g.shape))).sum() for g in first]).sum()
        found.append([y, *first, *grad(total, [x, w, seed], allow_unused=True)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-12)


@pytest.mark.parametrize("layer", [conv2d, conv_transpose2d, mg.linear])
def test_a_slope_below_zero_is_refused(layer):
    x = Tensor(np.ones((1, 1, 1, 1)))
    weight = x if layer is not mg.linear else x[0, 0]
    name = "linear" if layer is mg.linear else layer.__name__
    with pytest.raises(ValueError, match=f"{name}: negative_slope is -0.1; expected at least 0"):
        layer(x, weight, negative_slope=-0.1)
