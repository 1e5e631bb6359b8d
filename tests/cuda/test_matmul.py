"""Matrix products and linear layers on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

DTYPES = ("float32", "float64")


def normal(*shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


@pytest.fixture
def host(gpu):
    """The module of the host's side."""
    from minigen.kernels.cuda import matmul

    return matmul


@pytest.fixture
def cut_into(monkeypatch, host):
    """A function that makes products go by one tile, with their sums in so many parts."""
    from minigen.kernels.cuda.gemm_plan import cut

    def force(tile, parts=1):
        monkeypatch.setattr(host, "plan", lambda *shape: cut(tile, *shape[:-1], parts))
        host.matmul_run.cache_clear()

    yield force
    host.matmul_run.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("tile", "m", "k", "n", "parts"),
    [("small", 33, 37, 5, 1), ("small", 5, 70, 33, 2), ("thin", 257, 20, 3, 2),
     ("medium", 65, 17, 66, 1), ("medium", 30, 40, 40, 3)],
)  # fmt: skip
def test_a_product_by_every_tile(gpu, cut_into, dtype, tile, m, k, n, parts):
    cut_into(tile, parts)
    check("matmul", normal(m, k, dtype=dtype), normal(k, n, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_large_tile(gpu, cut_into, dtype):
    cut_into("large")
    check("matmul", normal(12, 24, dtype=dtype), normal(130, 24, dtype=dtype).T)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 2, 5), (3, 5, 4)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 1)),
     ((2, 1, 2, 1, 1, 4), (1, 2, 1, 2, 4, 1)), ((0, 3), (3, 2)), ((3, 0), (0, 2)),
     ((2, 0, 3), (2, 3, 1)), ((1, 7), (7, 1))],
)  # fmt: skip
def test_stacks_are_broadcast(gpu, a, b):
    check("matmul", normal(*a), normal(*b))


@pytest.mark.parametrize(("a", "b"), [((3,), (3, 2)), ((2, 2, 3), (3,)), ((3,), (3,))])
def test_vectors(gpu, a, b):
    check("matmul", normal(*a), normal(*b))


def test_operands_of_any_strides(gpu):
    a, b = normal(2, 9, 3), normal(3, 8, 10, seed=1)
    check("matmul", a.transpose(2, 1, 0), b.transpose(0, 1, 2)[:, ::4, ::3])
    check("matmul", a.transpose(1, 2, 0), b.transpose(1, 0, 2)[0, 1:, :5])
    y = check("matmul", a[0], b[:, 0, :4].astype(np.float64).astype(np.float32))
    assert y.flags.c_contiguous
    reverse = gpu.asarray(a[0])[::-1, ::-1]
    found = kernels.matmul(reverse, gpu.asarray(b[:, 0]))
    np.testing.assert_allclose(found.get(), a[0][::-1, ::-1] @ b[:, 0], rtol=1e-5, atol=1e-5)


def test_mixed_precision_and_whole_numbers(gpu):
    a, b = normal(3, 4), normal(4, 2, dtype="float64")
    y = kernels.matmul(gpu.asarray(a), gpu.asarray(b))
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.get(), a @ b, rtol=1e-12)
    whole = gpu.asarray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(kernels.matmul(whole, whole.T).get(), [[5, 14], [14, 50]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
def test_linear_and_its_gradients(host, monkeypatch, dtype, slope):
    x, weight, bias = (normal(*shape, dtype=dtype) for shape in [(2, 3, 7), (5, 7), (5,)])
    y = check("linear", x, weight, bias, slope).get()
    check("linear", x[0], weight, None, slope)
    grad = normal(2, 3, 5, dtype=dtype, seed=1)
    needs = [(True, True, True), (False, True, False), (True, False, False)]
    for together in (True, False):
        monkeypatch.setattr(host, "suits_together", lambda *sizes, together=together: together)
        for needed in needs:
            found = check("linear_grads", grad, x, weight, y, slope, needed)
            assert len(found) == sum(needed)


def test_gradients_of_a_linear_layer_of_several_tiles(host, monkeypatch):
    monkeypatch.setattr(host, "PARTS", (2,))
    host.linear_plans.cache_clear()
    grad, x, weight, y = normal(34, 68), normal(34, 8), normal(68, 8), normal(34, 68, seed=1)
    check("linear_grads", grad, x, weight, y, 0.2, (True, True, True))
    check("linear_grads", grad, x[:, ::2], weight[:, :4], y, 0.0, (True, True, False))
    host.linear_plans.cache_clear()


def test_gradients_of_no_rows(gpu):
    found = kernels.linear_grads(
        *map(gpu.asarray, [normal(0, 5), normal(0, 7), normal(5, 7), normal(0, 5)]), 0.2,
        (True, True, True),
    )  # fmt: skip
    assert [d.shape for d in found] == [(0, 7), (5, 7), (5,)]
    assert not any(d.get().any() for d in found)


def test_a_linear_layer_in_parts_is_finished(gpu, cut_into):
    cut_into("flat", 7)
    check("linear", normal(3, 100), normal(6, 100), normal(6), 0.1)


def test_shapes_that_do_not_fit_are_named(gpu):
    a = gpu.asarray(normal(2, 3))
    with pytest.raises(ValueError, match=r"matmul: a \(2, 3\) has 3 columns, b \(2, 3\)"):
        kernels.matmul(a, a)
    with pytest.raises(ValueError, match=r"linear: x \(2, 3\) has 3 features"):
        kernels.linear(a, gpu.asarray(normal(4, 2)), None)
    with pytest.raises(ValueError, match=r"linear: bias has shape \(3,\)"):
        kernels.linear(a, gpu.asarray(normal(4, 3)), a[0])
