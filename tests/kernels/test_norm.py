"""Batch norm and channel sums: cpu against the reference, statistics, gradients by differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import kernels

EPS = 1e-5
shapes = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 20)),
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6)),
    st.just((8, 3, 31, 33)),
    st.just((64, 16, 8, 8)),
    st.just((0, 3, 4, 4)),
    st.just((5, 1, 0)),
    st.just((3, 0, 2, 2)),
)


def both(name, *args):
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"):
        return fast, getattr(kernels, name)(*args)


def last(x):
    """The same values in channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def check(fast, slow, scale):
    for one, other in zip(fast, slow, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        tolerance = (2e-6 if one.dtype == np.float32 else 1e-13) * scale
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes,
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    affine=st.booleans(),
    layout=st.sampled_from([np.ascontiguousarray, last, lambda x: x[..., ::-1]]),
)
def test_equals_reference(shape, slope, dtype, affine, layout):
    rng = np.random.default_rng(4)
    x, grad = (layout(a) for a in rng.standard_normal((2, *shape)).astype(dtype))
    weight, bias, mean = rng.standard_normal((3, shape[1])).astype(dtype)
    var = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    weight, bias = (weight, bias) if affine else (None, None)
    kept = [None if a is None else a.copy() for a in (x, grad, weight, bias, mean, var)]
    # Sums over the rows cancel, so their error grows with the root of what is added up.
    scale = 10 + np.sqrt(x.size)
    fast, slow = both("channel_sum", x)
    check([fast], [slow], scale)
    train, plain = both("batch_norm_train", x, weight, bias, EPS, slope)
    check(train, plain, scale)
    settings_ = (weight, bias, EPS, slope)
    fast, slow = both("batch_norm_eval", x, mean, var, *settings_)
    check([fast], [slow], scale)
    for statistics in ((mean, var), plain[1:]):
        # An element on the kink may fall on either side of it in float32.
        before = (x - statistics[0].reshape(-1, *[1] * (x.ndim - 2))) * 1.0
        if slope != 1 and dtype == np.float32 and before.size and np.abs(before).min() < 1e-4:
            continue
        check(*both("batch_norm_eval_grad", grad, x, *statistics, *settings_), 10 * scale)
        if x.size // max(shape[1], 1) > 1:
            check(*both("batch_norm_train_grad", grad, x, *statistics, *settings_), 10 * scale)
    for array, copy in zip((x, grad, weight, bias, mean, var), kept, strict=True):
        assert array is None or np.array_equal(array, copy)


@settings(max_examples=30, deadline=None)
@given(
    shape=shapes,
    slope=st.sampled_from([0.0, 0.2]),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=st.sampled_from([np.ascontiguousarray, last, lambda x: x[..., ::-1]]),
)
def test_leaky_relu_grad_sum_equals_reference(shape, slope, dtype, layout):
    rng = np.random.default_rng(9)
    x, grad = (layout(a) for a in rng.standard_normal((2, *shape)).astype(dtype))
    x[rng.random(shape) < 0.1] = 0
    (dx, total), (right, right_total) = both("leaky_relu_grad_sum", grad, x, slope)
    np.testing.assert_array_equal(dx, right)
    check([total], [right_total], 10 + np.sqrt(x.size))


@pytest.mark.parametrize("mean,std", [(1e3, 1.0), (-1e4, 1.0), (0.0, 1e-3)])
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_variance_survives_a_large_mean(target, mean, std):
    x = np.random.default_rng(5).normal(mean, std, (16, 6, 20, 20)).astype(np.float32)
    with kernels.use(target):
        y, got_mean, var = kernels.batch_norm_train(x, None, None, 0.0, 1.0)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(got_mean, exact.mean((0, 2, 3)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-5)
    assert abs(y.std() - 1) < 1e-4


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("value", [0.1, 1e8, -3e12])
def test_equal_numbers_have_no_negative_variance(target, value):
    with kernels.use(target):
        for shape in ((7, 5, 11, 13), (64, 3, 9, 9), (1000, 1)):
            _, _, var = kernels.batch_norm_train(np.full(shape, value, "f4"), None, None, 1e-5, 1.0)
            assert (var >= 0).all()


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("train", [True, False])
def test_gradients_by_differences(target, train):
    rng = np.random.default_rng(6)
    x, grad = rng.standard_normal((2, 3, 2, 4, 2))
    weight, bias, mean = rng.standard_normal((3, 2))
    var = rng.uniform(0.5, 2, 2)
    slope = 0.2

    def loss(x, mean, var, weight, bias):
        if train:
            return np.sum(kernels.batch_norm_train(x, weight, bias, EPS, slope)[0] * grad)
        return np.sum(kernels.batch_norm_eval(x, mean, var, weight, bias, EPS, slope) * grad)

    with kernels.use(target):
        if train:
            _, mean, var = kernels.batch_norm_train(x, weight, bias, EPS, slope)
        name = "batch_norm_train_grad" if train else "batch_norm_eval_grad"
        got = getattr(kernels, name)(grad, x, mean, var, weight, bias, EPS, slope)
        inputs = [x, mean, var, weight, bias]
        wanted = [0, 3, 4] if train else [0, 1, 2, 3, 4]
        for position, gradient in zip(wanted, got, strict=True):
            direction = rng.standard_normal(inputs[position].shape)
            moved = [list(inputs), list(inputs)]
            for sign, arguments in zip((1e-6, -1e-6), moved, strict=True):
                arguments[position] = inputs[position] + sign * direction
            slope_ = (loss(*moved[0]) - loss(*moved[1])) / 2e-6
            np.testing.assert_allclose(np.sum(gradient * direction), slope_, rtol=1e-6, atol=1e-7)


def test_threads_do_not_change_the_numbers():
    x = last(np.random.default_rng(7).standard_normal((16, 8, 20, 20)).astype(np.float32))
    threads = kernels.get_num_threads()
    try:
        results = []
        for count in (1, threads):
            kernels.set_num_threads(count)
            with kernels.use("cpu"):
                results.append(kernels.batch_norm_train(x, None, None, EPS, 0.0))
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        kernels.set_num_threads(threads)


def test_nan_stays_in_its_channel():
    x = np.random.default_rng(8).standard_normal((4, 3, 5, 5)).astype(np.float32)
    x[1, 1, 2, 2] = np.nan
    for y, mean, _ in both("batch_norm_train", x, None, None, EPS, 0.0):
        assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, ::2]).all()
        assert np.isnan(mean).tolist() == [False, True, False]


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_running_statistics_move_by_the_momentum(target):
    mean, var, count = np.float32([1, 2]), np.float32([3, 4]), np.array(5)
    found = np.float32([5, 6]), np.float32([7, 8])
    with kernels.use(target):
        kernels.move_statistics(mean, var, count, *found, 0.25, 2.0)
        kernels.move_statistics(None, None, None, *found, 0.25, 2.0)
    np.testing.assert_array_equal(mean, [2, 3])
    np.testing.assert_array_equal(var, [5.75, 7])
    assert count == 6
