"""Batch norm on the device against the reference: layouts, chunks, statistics, special values."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

EPS = 1e-5


@pytest.fixture(params=["whole", 528, 3])
def blocks(request, gpu, monkeypatch):
    """With few blocks rows cross the borders of chunks, and a thread makes several rounds."""
    from minigen.kernels.cuda import norm, reduction

    if request.param == "whole":  # few rows go through one kernel
        return
    monkeypatch.setattr(norm, "WHOLE", 0)
    monkeypatch.setattr(reduction, "SUM_BLOCKS", request.param)
    monkeypatch.setattr(norm, "BLOCKS", request.param)


def drawn(shape, dtype="float32", layout=None):
    """grad, x, mean, var, weight, bias; no number falls on the activation's kink."""
    rng = np.random.default_rng(1)
    grad, x = rng.standard_normal((2, *shape)).astype(dtype)
    mean, weight, bias = rng.standard_normal((3, shape[1])).astype(dtype)
    var = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    if layout == "last":
        grad, x = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (grad, x))
    if layout == "spread":
        grad, x = np.repeat(grad, 2, -1)[..., ::2], np.repeat(x, 2, 0)[::2]
    return grad, x, mean, var, weight, bias


@pytest.mark.parametrize("shape", [(700, 3), (9, 65), (3, 7, 5, 4), (2, 3, 3, 2, 2)])
@pytest.mark.parametrize("dtype,slope,layout", [
    ("float32", 0.2, "last"), ("float32", 1.0, None), ("float64", 0.0, "spread"),
])  # fmt: skip
def test_equals_the_reference(blocks, shape, dtype, slope, layout):
    grad, x, mean, var, *affine = drawn(shape, dtype, layout)
    y, _, _ = check("batch_norm_train", x, *affine, EPS, slope)
    assert x.ndim != 4 or y.transpose(0, 2, 3, 1).flags.c_contiguous
    own = [a.astype(dtype) for a in moments(x)]
    check("batch_norm_train_grad", grad, x, *own, *affine, EPS, slope)
    check("batch_norm_eval", x, mean, var, *affine, EPS, slope)
    check("batch_norm_eval_grad", grad, x, mean, var, *affine, EPS, slope)


def test_one_channel_and_without_weight_or_bias(gpu):
    grad, x, mean, var, weight, bias = drawn((5, 1, 7))
    for affine in ((weight, bias), (None, None), (weight, None), (None, bias)):
        check("batch_norm_train", x, *affine, EPS, 0.2)
        check("batch_norm_train_grad", grad, x, mean, var, *affine, EPS, 0.2)
        check("batch_norm_eval_grad", grad, x, mean, var, *affine, EPS, 0.2)


def test_many_rows_in_one_kernel(gpu):
    grad, x, _, _, weight, bias = drawn((2500, 9))
    check("batch_norm_train", x, weight, bias, EPS, 0.2)
    own = [a.astype("float32") for a in moments(x)]
    check("batch_norm_train_grad", grad, x, *own, weight, bias, EPS, 0.2)


def test_more_channels_than_threads(gpu, monkeypatch):
    from minigen.kernels.cuda import norm

    monkeypatch.setattr(norm, "WHOLE", 0)
    _, x, _, _, weight, bias = drawn((3, 258))
    check("batch_norm_train", x, weight, bias, EPS, 0.2)


def moments(x):
    axes = tuple(a for a in range(x.ndim) if a != 1)
    return x.astype(np.float64).mean(axes), x.astype(np.float64).var(axes)


@pytest.mark.parametrize("mean,std", [(-1e4, 1.0), (0.0, 1e-3)])
def test_variance_survives_a_large_mean_and_a_first_number_far_off(gpu, blocks, mean, std):
    x = np.random.default_rng(5).normal(mean, std, (1500, 3)).astype(np.float32)
    x[0, 1] = mean + 300 * std
    _, found, var = kernels.batch_norm_train(gpu.asarray(x), None, None, 0.0, 1.0)
    np.testing.assert_allclose(found.get(), moments(x)[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(var.get(), moments(x)[1], rtol=1e-5)


@pytest.mark.parametrize("value", [0.1, -3e12])
def test_equal_numbers_have_no_variance(blocks, gpu, value):
    x = gpu.asarray(np.full((300, 4), value, np.float32))
    _, mean, var = kernels.batch_norm_train(x, None, None, EPS, 1.0)
    assert (var.get() == 0).all() and (mean.get() == np.float32(value)).all()


def test_what_is_not_finite_stays_in_its_channel(blocks, gpu):
    x = np.random.default_rng(8).standard_normal((700, 4)).astype(np.float32)
    x[400, 1], x[0, 2], x[650, 3] = np.nan, np.inf, -np.inf
    y, mean, var = (a.get() for a in kernels.batch_norm_train(gpu.asarray(x), None, None, EPS, 0.0))
    np.testing.assert_array_equal(mean[1:], [np.nan, np.inf, -np.inf])
    assert np.isnan(var[1:]).all() and np.isnan(y[:, 1:]).all() and np.isfinite(y[:, 0]).all()


def test_no_numbers(gpu):
    for shape in ((0, 3, 4, 4), (5, 3, 0), (3, 0, 2, 2)):
        grad, x, mean, var, weight, bias = drawn(shape)
        check("batch_norm_train", x, weight, bias, EPS, 0.2)
        check("batch_norm_eval", x, mean, var, weight, bias, EPS, 0.2)
        check("batch_norm_train_grad", grad, x, mean, var, weight, bias, EPS, 0.2)
        check("batch_norm_eval_grad", grad, x, mean, var, weight, bias, EPS, 0.2)


def test_the_same_bits_in_every_run(blocks, gpu):
    grad, x, mean, var, weight, bias = map(gpu.asarray, drawn((300, 4)))
    once, again = (
        kernels.batch_norm_train_grad(grad, x, mean, var, weight, bias, EPS, 0.2) for _ in range(2)
    )
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("without", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_running_statistics_move_to_the_bits_of_the_host(gpu, dtype, without):
    rng = np.random.default_rng(3)
    running = [*rng.normal(size=(2, 300)).astype(dtype), np.array(7)]
    running = [None if i in without else a for i, a in enumerate(running)]
    found = [*rng.normal(size=(2, 300)).astype(dtype)]
    given = [None if a is None else gpu.asarray(a) for a in running]
    kernels.move_statistics(*given, *map(gpu.asarray, found), 0.1, 12 / 11)
    kernels.move_statistics(*running, *found, 0.1, 12 / 11)
    for a, b in zip(given, running, strict=True):
        if b is not None:
            np.testing.assert_array_equal(a.get(), b)


def test_running_statistics_that_are_views_move_too(gpu):
    both = gpu.asarray(np.ones((3, 2), np.float32))
    kernels.move_statistics(
        both[:, 0], both[:, 1], None, *gpu.asarray(np.zeros((2, 3), np.float32)), 0.5, 1.0
    )
    np.testing.assert_array_equal(both.get(), np.full((3, 2), 0.5))
