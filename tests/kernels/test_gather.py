"""Rows by index, unfold and fold: cpu against the reference, adjoint identities, bad indices."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigen import kernels

DTYPES = st.sampled_from([np.float32, np.float64])


def both(name, *args):
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"):
        return fast, getattr(kernels, name)(*args)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 6),
    tail=st.one_of(
        hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5), st.just((70,))
    ),
    shape=st.one_of(
        hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6), st.just((300,))
    ),
    dtype=DTYPES,
    transposed=st.booleans(),
)
def test_rows_and_their_adjoint(rows, tail, shape, dtype, transposed):
    rng = np.random.default_rng(14)
    table = rng.standard_normal((rows, *tail)).astype(dtype)
    index = np.asarray(rng.integers(0, rows, shape))
    grad = rng.standard_normal((*shape, *tail)).astype(dtype)
    if transposed and table.ndim > 1:
        table = np.ascontiguousarray(table.T).T
        grad = np.ascontiguousarray(grad.T).T
    kept = table.copy(), index.copy(), grad.copy()
    out, plain = both("gather_rows", table, index)
    np.testing.assert_array_equal(out, plain)
    assert out.shape == grad.shape and out.dtype == dtype
    back, plain = both("scatter_add_rows", grad, index, rows)
    assert back.dtype == dtype and back.shape == table.shape
    np.testing.assert_array_equal(back, plain)
    tolerance = 1e-3 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(
        np.sum(out * grad), np.sum(table * back), rtol=tolerance, atol=tolerance
    )
    for array, copy in zip((table, index, grad), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("index", [[0, 3], [-1, 0]])
def test_indices_outside_raise(target, index):
    index = np.array(index)
    with kernels.use(target):
        with pytest.raises(IndexError, match=r"gather_rows: indices span .* in 0\.\.2"):
            kernels.gather_rows(np.zeros((3, 2)), index)
        with pytest.raises(IndexError, match="scatter_add_rows"):
            kernels.scatter_add_rows(np.zeros((2, 2)), index, 3)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=DTYPES, channels_last=st.booleans())
def test_unfold_and_fold(data, dtype, channels_last):
    n, c, height, width = data.draw(st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 7)] * 2))
    kernel, dilation, stride = (
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3)
    )
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    sizes = [
        (e + 2 * p - d * (k - 1) - 1) // s + 1
        for e, p, d, k, s in zip(
            (height, width), padding, dilation, kernel, stride, strict=True
        )
    ]
    assume(min(sizes) > 0)
    rng = np.random.default_rng(15)
    x = rng.standard_normal((n, c, height, width)).astype(dtype)
    grad = rng.standard_normal((n, c * kernel[0] * kernel[1], sizes[0] * sizes[1])).astype(dtype)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if channels_last else x
    kept = x.copy(), grad.copy()
    rest = (kernel, dilation, padding, stride)
    columns, plain = both("unfold", x, *rest)
    np.testing.assert_array_equal(columns, plain)
    assert columns.shape == grad.shape and columns.dtype == dtype
    images, plain = both("fold", grad, (height, width), *rest)
    assert images.shape == x.shape and images.dtype == dtype
    np.testing.assert_array_equal(images, plain)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        np.sum(columns * grad), np.sum(x * images), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(grad, kept[1])
