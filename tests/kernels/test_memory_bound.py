"""Kernels that pass over memory once: cpu against the reference, in shapes, layouts, specials."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import kernels

QUICK = settings(max_examples=25, deadline=None)
DTYPES = st.sampled_from([np.float32, np.float64])
IMAGES = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([(2, 3, 65, 64), (4, 64, 16, 16), (1, 7, 61, 59), (33, 5, 12, 11)]),
)


def last(x):
    """The same values in channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


LAYOUTS = st.sampled_from([np.ascontiguousarray, last, lambda x: x[..., ::-1]])


def normal(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def agree(name, *args, tolerance=3e-6, exact=False):
    """Both targets give the same; returns the cpu's answer. No argument is written."""
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"), np.errstate(all="ignore"):
        slow = getattr(kernels, name)(*args)
    pairs = [(fast, slow)] if not isinstance(fast, tuple) else zip(fast, slow, strict=True)
    for one, other in pairs:
        assert one.shape == other.shape and one.dtype == other.dtype
        if exact:
            np.testing.assert_array_equal(one, other)
            continue
        near = 1e-12 if one.dtype == np.float64 else tolerance
        np.testing.assert_allclose(one, other, rtol=near, atol=near)
    for array, copy in zip(args, before, strict=True):
        assert not isinstance(array, np.ndarray) or np.array_equal(array, copy, equal_nan=True)
    return fast


@QUICK
@given(IMAGES, LAYOUTS, DTYPES, st.sampled_from([(0,), (1,), (2, 3), (0, 2, 3), (1, 3)]))
def test_axis_sum(shape, layout, dtype, axes):
    agree("axis_sum", layout(normal(1, *shape, dtype=dtype)), axes, tolerance=2e-4)
    agree("axis_sum", layout(normal(1, *shape, dtype=dtype)), axes, 3, tolerance=2e-4)


def test_axis_sum_of_a_vector_of_ones_is_exact():
    assert kernels.axis_sum(np.ones(1 << 25, np.float32), (0,)) == 1 << 25


@QUICK
@given(IMAGES, LAYOUTS, DTYPES, st.tuples(*[st.integers(1, 3)] * 4), st.integers(0, 1))
def test_max_pool(shape, layout, dtype, window, padding):
    kernel, stride = window[:2], window[2:]
    padding = tuple(min(padding, k // 2) for k in kernel)
    sizes = [n + 2 * p - k for n, p, k in zip(shape[2:], padding, kernel, strict=True)]
    if min(sizes) < 0:
        return
    output = tuple(n // s + 1 for n, s in zip(sizes, stride, strict=True))
    x = layout(np.round(normal(2, *shape, dtype=dtype)))  # so that some are equal
    x[..., 0, 0] = np.nan
    x[..., -1, -1] = -np.inf
    y, taps = agree("max_pool2d", x, kernel, stride, padding, output, exact=True)
    grad = layout(normal(3, *y.shape, dtype=dtype))
    agree("max_pool2d_grad", grad, taps, kernel, stride, padding, shape[2:])
    agree("max_pool2d_pick", x, taps, kernel, stride, padding, exact=True)


@QUICK
@given(IMAGES, LAYOUTS, DTYPES, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_resample(shape, layout, dtype, height, width, taps):
    rng = np.random.default_rng(4)
    tables = []
    for n, size in ((shape[2], height), (shape[3], width)):
        tables += [rng.integers(0, n, (size, taps)), rng.random((size, taps))]
    agree("resample2d", layout(normal(5, *shape, dtype=dtype)), *tables)


@QUICK
@given(IMAGES, LAYOUTS, DTYPES, st.booleans())
def test_group_norm(shape, layout, dtype, affine):
    n, c = shape[:2]
    x, grad = (layout(a) for a in normal(6, 2, *shape, dtype=dtype))
    x += 3
    weight, bias = normal(7, 2, c, dtype=dtype) if affine else (None, None)
    for groups in {1, c}:
        _, mean, var = agree("group_norm", x, weight, bias, groups, 1e-2, tolerance=5e-5)
        args = (grad, x, mean, var, weight, groups, 1e-2)
        agree("group_norm_grad", *args, tolerance=1e-3 * max(1, n * shape[2] / 64))


@pytest.mark.parametrize("rows, width", [(1, 1), (5, 7), (300, 64), (3, 9001)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_group_of_vectors(rows, width, dtype):
    x, grad = normal(8, 2, rows, width, dtype=dtype)
    weight, bias = normal(9, 2, width, dtype=dtype)
    _, mean, var = agree("group_norm", x, weight, bias, 1, 1e-2, tolerance=2e-5)
    agree("group_norm_grad", grad, x, mean, var, weight, 1, 1e-2, tolerance=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (70, 300), (1025, 10), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(shape, dtype):
    if not shape[0]:
        with kernels.use("cpu"):
            assert kernels.softmax(np.zeros(shape, dtype)).shape == shape
        return
    x, grad = 10 * normal(10, 2, *shape, dtype=dtype)
    y = agree("softmax", x)
    logs = agree("log_softmax", x, tolerance=1e-5)
    agree("softmax_grad", grad, y, tolerance=1e-5)
    agree("log_softmax_grad", grad, logs, tolerance=1e-4)


def test_softmax_of_infinity_and_nan():
    x = normal(11, 5, 40)
    x[0, 3], x[1, 4], x[2, 5], x[3, :] = np.nan, -np.inf, np.inf, -np.inf
    for name in ("softmax", "log_softmax"):
        y = agree(name, x, tolerance=1e-5)
        assert np.isnan(y).all(axis=1).tolist() == [True, False, True, True, False]


SHAPES = st.sampled_from([(3,), (2, 5), (70, 80), (2, 3, 40, 41)])


@QUICK
@given(SHAPES, DTYPES, st.booleans(), st.sampled_from(["arrays", "number", "row"]))
def test_choosing(shape, dtype, turned, other):
    x, y, grad = np.round(normal(12, 3, *shape, dtype=dtype))
    x.reshape(-1)[:1] = np.nan
    if turned:
        x, y, grad = (np.asfortranarray(a) for a in (x, y, grad))
    y = {"arrays": y, "number": 1.0, "row": y[..., :1]}[other]
    condition = np.asarray(grad > 0)
    agree("choose", x, y, condition, exact=True)
    agree("choose", grad, x, condition, exact=True)
    agree("winner_share", grad, x, y, exact=True)
    agree("winner_share", grad, y, x, exact=True)
    for closed in (True, False):
        agree("band", grad, x, -1.0, 1.0, closed, exact=True)
    agree("times_sign", grad, x, exact=True)


MAPS = ("erf", "gelu", "silu")
GRADS = ("gelu_grad", "silu_grad", "sigmoid_grad", "tanh_grad")
SPECIAL = [0.0, -0.0, np.inf, np.nan, 5, -5, 200, -200, 1e-40]


@pytest.mark.parametrize("size", [0, 9, 9973])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations(size, dtype):
    x, grad = 2 * normal(13, 2, size, dtype=dtype)
    x[: min(size, 9)] = SPECIAL[:size]
    for name in MAPS:
        agree(name, x)
    agree("elu", x, 0.5)
    agree("elu_grad", grad, x, 0.5, tolerance=1e-5)
    x[2:3] = 1.0
    for name in GRADS:
        agree(name, grad, np.tanh(x) if name[0] in "st" and name != "silu_grad" else x,
              tolerance=1e-5)  # fmt: skip


@QUICK
@given(SHAPES, DTYPES, st.booleans())
def test_distances(shape, dtype, turned):
    x, y = normal(14, 2, *shape, dtype=dtype)
    x.reshape(-1)[:1] = y.reshape(-1)[:1]
    y = np.asfortranarray(y) if turned else y
    agree("squared_error", x, y, tolerance=1e-5)
    agree("absolute_error", x, y, tolerance=1e-5)
    agree("scaled_difference", x, y, np.asarray(2.5, dtype))
    agree("scaled_sign", x, y, np.asarray(2.5, dtype), exact=True)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 64, 40, 41), (3, 200, 100)])
def test_contiguous(shape):
    for x in (normal(15, *shape), last(normal(15, *shape))):
        y = agree("contiguous", x, exact=True)
        assert y.flags.c_contiguous


def test_threads_do_not_change_the_numbers():
    x, grad = (last(a) for a in normal(16, 2, 8, 32, 24, 24))
    threads, found = kernels.get_num_threads(), []
    try:
        for count in (1, threads):
            kernels.set_num_threads(count)
            y, mean, var = kernels.group_norm(x, None, None, 4, 1e-5)
            found.append((
                y, *kernels.group_norm_grad(grad, x, mean, var, None, 4, 1e-5),
                kernels.axis_sum(x, (0, 1, 2, 3)), kernels.axis_sum(x, (2, 3)),
                kernels.squared_error(x, grad), *kernels.leaky_relu_grad_sum(grad, x, 0.2),
            ))  # fmt: skip
    finally:
        kernels.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
