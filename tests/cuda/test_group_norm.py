"""Group, layer and instance norm on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

EPS = 1e-5


@pytest.fixture(params=[528, 3])
def blocks(request, gpu, monkeypatch):
    """With few blocks rows cross the borders of chunks, and a thread makes several rounds."""
    from minigen.kernels.cuda import norm, reduction

    monkeypatch.setattr(reduction, "SUM_BLOCKS", request.param)
    monkeypatch.setattr(norm, "BLOCKS", request.param)


def both(shape, groups, dtype="float32", affine=True, last=False):
    rng = np.random.default_rng(0)
    grad, x = (rng.standard_normal((2, *shape)) + 1).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype) if affine else (None, None)
    if last:
        grad, x = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (grad, x))
    y, mean, var = check("group_norm", x, weight, bias, groups, EPS)
    statistics = [mean.get(), var.get()] if x.size else np.ones((2, len(x), groups), dtype)
    check("group_norm_grad", grad, x, *statistics, weight, groups, EPS)
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape,groups", [
    ((2, 6, 5, 4), 3), ((3, 7, 3, 5), 1), ((2, 4, 3, 3), 4), ((1, 3, 50, 20), 1), ((2, 65, 7), 5),
    ((2, 3, 2, 3, 2), 3),
])  # fmt: skip
def test_images(blocks, shape, groups, dtype):
    y = both(shape, groups, dtype, last=dtype == "float64")
    assert len(shape) != 4 or y.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape,groups", [
    ((5, 7), 1), ((40, 9), 3), ((3, 70), 1), ((600, 3), 1), ((3, 5), 5),
    ((6, 8, 1, 1), 2),
])  # fmt: skip
def test_vectors(gpu, shape, groups, dtype):
    both(shape, groups, dtype)


def test_long_vectors(gpu):
    both((1, 1030), 1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the mean of nothing
def test_without_weight_or_numbers(gpu):
    for shape, groups in (((3, 6), 2), ((2, 6, 5), 3)):
        both(shape, groups, affine=False)
    both((0, 6, 5), 3)


@pytest.mark.parametrize("shape", [(4, 900), (4, 3, 300)])
def test_variance_survives_a_large_mean(gpu, shape):
    x = np.random.default_rng(5).normal(-1e4, 1, shape).astype(np.float32)
    _, mean, var = kernels.group_norm(gpu.asarray(x), None, None, 1, EPS)
    exact = x.reshape(4, -1).astype(np.float64)
    np.testing.assert_allclose(mean.get()[:, 0], exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(var.get()[:, 0], exact.var(1), rtol=1e-5)
