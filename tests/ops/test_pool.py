"""Pooling against direct loops, its arguments and errors."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minigen import kernels
from minigen.autograd import grad
from minigen.ops.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
    max_unpool2d,
)
from minigen.tensor import Tensor

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def leaf(array):
    t = Tensor(array)
    t.requires_grad = True
    return t


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    """For each axis and output the input positions of its window, padding included."""
    axes = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        axes.append([np.arange(k) * d + i * s - p for i in range(count)])
    return axes


@QUICK
@given(
    st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(2, 7), st.integers(2, 7)),
    PAIRS, PAIRS, st.tuples(st.integers(0, 1), st.integers(0, 1)), PAIRS, st.booleans(),
    st.sampled_from(["reference", "cpu"]), st.sampled_from(["C", "F"]),
)  # fmt: skip
def test_max_pool2d_is_the_direct_loop(
    shape, kernel, stride, padding, dilation, ceil_mode, target, order
):
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    axes = windows(shape[2:], kernel, stride, padding, dilation, ceil_mode)
    assume(all(axes))
    x = np.asarray(np.random.default_rng(0).standard_normal(shape), order=order)
    outside = np.full((*shape[:2], 40, 40), -np.inf)
    outside[:, :, 10 : 10 + shape[2], 10 : 10 + shape[3]] = x
    expected = np.empty((*shape[:2], len(axes[0]), len(axes[1])))
    for i, rows in enumerate(axes[0]):
        for j, columns in enumerate(axes[1]):
            values = outside[:, :, 10 + rows[:, None], 10 + columns]
            expected[:, :, i, j] = values.max(axis=(2, 3), initial=-np.inf)
    assume(np.isfinite(expected).all())  # no window lies wholly in the padding
    with kernels.use(target):
        y, indices = max_pool2d(leaf(x), kernel, stride, padding, dilation, ceil_mode, True)
    np.testing.assert_array_equal(y.numpy(), expected)
    pixels = x.reshape(*shape[:2], shape[2] * shape[3])
    for n, c in np.ndindex(shape[:2]):
        np.testing.assert_array_equal(pixels[n, c][indices.numpy()[n, c]], expected[n, c])


@QUICK
@given(
    st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(2, 7), st.integers(2, 7)),
    PAIRS, PAIRS, st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.booleans(), st.booleans(), st.sampled_from([None, 3]), st.sampled_from(["reference", "cpu"]),
)  # fmt: skip
def test_avg_pool2d_is_the_direct_loop(
    shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor, target
):
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    axes = windows(shape[2:], kernel, stride, padding, (1, 1), ceil_mode)
    assume(all(axes))
    x = np.random.default_rng(0).standard_normal(shape)
    expected = np.empty((*shape[:2], len(axes[0]), len(axes[1])))
    for i, rows in enumerate(axes[0]):
        for j, columns in enumerate(axes[1]):
            whole = (rows < shape[2] + padding[0]).sum() * (columns < shape[3] + padding[1]).sum()
            rows_in = rows[(rows >= 0) & (rows < shape[2])]
            columns_in = columns[(columns >= 0) & (columns < shape[3])]
            count = whole if count_include_pad else len(rows_in) * len(columns_in)
            total = x[:, :, rows_in[:, None], columns_in].sum(axis=(2, 3))
            expected[:, :, i, j] = total / (divisor or count)
    with kernels.use(target):
        y = avg_pool2d(Tensor(x), kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


def test_overlapping_windows_add_their_gradients():
    x = leaf(np.array([[[[1.0, 5, 2], [0, 3, 4], [6, 2, 1]]]]))
    (dx,) = grad(max_pool2d(x, 2, 1).sum(), [x])
    np.testing.assert_array_equal(dx.numpy(), [[[[0, 2, 0], [0, 0, 1], [1, 0, 0]]]])


def test_nan_wins():
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 0] = np.nan
    np.testing.assert_array_equal(max_pool2d(Tensor(x), 2).numpy(), [[[[np.nan, 0]]]])
    np.testing.assert_array_equal(adaptive_max_pool2d(Tensor(x), (1, 2)).numpy(), [[[[np.nan, 0]]]])


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (0, 3, 7, 5), (3, 7, 5)])
@pytest.mark.parametrize("size", [1, (3, 2), (9, 4), (None, 2)])
def test_adaptive_pools_tile_the_image(shape, size):
    x = np.random.default_rng(1).standard_normal(shape)
    rows, columns = (size, size) if isinstance(size, int) else size
    rows = rows or 7
    mean, largest = np.empty((2, *shape[:-2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[
                ..., i * 7 // rows : -(-(i + 1) * 7 // rows),
                j * 5 // columns : -(-(j + 1) * 5 // columns),
            ]  # fmt: skip
            mean[..., i, j] = window.mean(axis=(-2, -1))
            largest[..., i, j] = window.max(axis=(-2, -1))
    np.testing.assert_allclose(adaptive_avg_pool2d(Tensor(x), size).numpy(), mean, atol=1e-12)
    y, indices = adaptive_max_pool2d(Tensor(x), size, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), largest)
    assert indices.shape == y.shape


def test_unpooling_puts_values_back():
    x = np.arange(1.0, 17).reshape(1, 4, 4)
    y, indices = max_pool2d(Tensor(x), 2, return_indices=True)
    back = max_unpool2d(y, indices, 2).numpy()
    np.testing.assert_array_equal(back, np.where(np.isin(x, [6, 8, 14, 16]), x, 0))
    assert max_unpool2d(y, indices, 2, output_size=(1, 5, 5)).shape == (1, 5, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: max_pool2d(x, 9), "kernel_size (9, 9) does not fit into the input (4, 4)"),
        (lambda x: max_pool2d(x, 2, padding=2), "padding (2, 2) is more than half of kernel_size"),
        (lambda x: max_pool2d(x, 0), "kernel_size is 0; expected ints of at least 1"),
        (lambda x: avg_pool2d(x[0, 0], 2), "avg_pool2d: input has shape (4, 4)"),
        (lambda x: avg_pool2d(x, 2, divisor_override=0), "divisor_override is 0"),
        (lambda x: adaptive_avg_pool2d(x, (1, 2, 3)), "output_size is (1, 2, 3)"),
        (lambda x: adaptive_avg_pool2d(x, 0), "output_size is (0, 0)"),
        (lambda x: max_unpool2d(x, x[:, :, 1:], 2), "(1, 1, 4, 4), indices (1, 1, 3, 4)"),
    ],
)
def test_errors_name_both_values(call, message):
    with pytest.raises(ValueError) as error:
        call(Tensor(np.zeros((1, 1, 4, 4))))
    assert message in str(error.value)
