"""Choosing element by element on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

RNG = np.random.default_rng(15)


def values(*shape, dtype=np.float32):
    """Small whole numbers, so that there are ties and zeros, and a NaN."""
    x = RNG.integers(-2, 3, shape).astype(dtype)
    if x.size > 4:
        x.reshape(-1)[3] = np.nan
    return x


def orders(x):
    """The array in two memory orders and a strided one."""
    yield x
    yield np.asfortranarray(x)
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    yield wide[..., 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_in_any_memory_order(gpu, dtype):
    shape = (2, 3, 5)
    for x in orders(values(*shape, dtype=dtype)):
        for grad in orders(RNG.normal(size=shape).astype(dtype)):
            condition = RNG.random(shape) < 0.5
            assert check("choose", x, grad, condition).dtype == dtype
            check("winner_share", grad, x, values(*shape, dtype=dtype))
            check("band", grad, x, -1.0, 1.0, True)
            check("band", grad, x, -1.0, np.inf, False)
            found = check("times_sign", grad, x)
            if x.flags.f_contiguous:
                assert found.flags.f_contiguous


@pytest.mark.parametrize("other", [0, 1.5, True, np.ones((), np.float32), values(1, 4)])
def test_numbers_and_broadcasting(gpu, other):
    x, grad = values(3, 4), RNG.normal(size=(3, 4)).astype(np.float32)
    condition = x > 0
    check("choose", x, other, condition)
    check("choose", other, x, condition[:, :1])
    check("winner_share", grad, x, other)
    check("winner_share", grad, other, x)
    if isinstance(other, np.ndarray):
        check("band", grad, other, -1.0, 1.0, True)
        check("times_sign", other, x)
        check("choose", other, other, condition)


def test_other_dtypes_go_through_cupy(gpu):
    x = RNG.integers(-2, 3, (3, 4))
    mask = gpu.asarray(x > 0)
    wide, narrow = RNG.normal(size=(3, 4)), RNG.normal(size=4).astype(np.float32)
    for a, b in [(x, x[:1] * 2), (x, 0), (wide, narrow), (1.0, 2.0), (x > 1, x > 0)]:
        given = [gpu.asarray(v) if isinstance(v, np.ndarray) else v for v in (a, b)]
        found = kernels.choose(*given, mask)
        expected = np.where(x > 0, a, b)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.get(), expected)
    grad, whole = gpu.asarray(wide), gpu.asarray(x)
    found = [
        kernels.winner_share(grad, whole, 0),
        kernels.band(grad, whole, -1, 1, True),
        kernels.times_sign(grad, whole),
    ]
    expected = [np.where(x > 0, wide, np.where(x == 0, wide / 2, 0)),
                np.where(abs(x) <= 1, wide, 0), wide * np.sign(x)]  # fmt: skip
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f.get(), e)


def test_a_condition_of_numbers(gpu):
    x = values(6)
    found = kernels.choose(gpu.asarray(x), 0.0, gpu.asarray(np.array([0, 1, 2, 0, -1, 0])))
    np.testing.assert_array_equal(found.get(), np.where([0, 1, 1, 0, 1, 0], x, 0))
    for condition in (True, False):
        check("choose", x, 2.0, condition)


def test_more_elements_than_a_grid_holds(gpu, monkeypatch):
    from minigen.kernels.cuda import arrays

    monkeypatch.setattr(arrays, "BLOCKS", 1)
    x, grad = values(1300), RNG.normal(size=1300).astype(np.float32)
    check("choose", x, grad, x > 0)
    check("winner_share", grad, x, 0.0)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_few_elements(gpu, shape):
    x = np.asarray(values(*shape))
    grad = np.asarray(RNG.normal(size=shape).astype(np.float32))
    assert check("choose", x, grad, np.asarray(x > 0)).shape == shape
    check("winner_share", grad, x, 1.0)
    check("band", grad, x, -1.0, 1.0, True)
    check("times_sign", grad, x)
