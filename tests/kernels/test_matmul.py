"""matmul and linear: cpu against NumPy in float64, for any strides and shapes."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import blas
from minigen.kernels.cpu import matmul as cpu
from minigen.kernels.reference import matmul as reference

TOLERANCE = {"float32": 1e-4, "float64": 1e-12}
LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "columns of a wider matrix": lambda a: np.concatenate([a, a], -1)[..., : a.shape[-1]],
    "every other row": lambda a: np.repeat(a, 2, axis=-2)[..., ::2, :],
    "every other column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
}


@st.composite
def operands(draw):
    """Two operands with broadcasting leading axes, in random layouts."""
    m, k, n = (draw(st.integers(0, 40)) for _ in range(3))
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    left = [draw(st.sampled_from([1, size])) for size in lead]
    right = [draw(st.sampled_from([1, size])) for size in lead[draw(st.integers(0, len(lead))) :]]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    pair = rng.standard_normal((*left, m, k)), rng.standard_normal((*right, k, n))
    layouts = [LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))] for _ in range(2)]
    return [lay(array.astype(dtype)) for lay, array in zip(layouts, pair, strict=True)]


@given(operands())
@settings(max_examples=150, deadline=None)
def test_matmul_agrees_with_numpy(pair):
    a, b = pair
    before = a.copy(), b.copy()
    got, expected = cpu.matmul(a, b), np.matmul(a.astype("float64"), b.astype("float64"))
    assert got.shape == expected.shape
    assert got.dtype == a.dtype
    np.testing.assert_allclose(got, expected, atol=TOLERANCE[str(a.dtype)], rtol=1e-4)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(300, 200, 100), (7, 3000, 90), (2000, 17, 5), (1, 900, 900)])
def test_large_products_use_tiles(shape, dtype):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    expected = a.astype("float64") @ b.astype("float64")
    np.testing.assert_allclose(cpu.matmul(a, b), expected, atol=20 * TOLERANCE[dtype])
    turned = np.ascontiguousarray(b.T), np.ascontiguousarray(a.T)
    np.testing.assert_allclose(cpu.matmul(*turned), expected.T, atol=20 * TOLERANCE[dtype])
    np.testing.assert_allclose(
        cpu.matmul(np.stack([a, a]), b[None]), np.stack([expected] * 2), atol=20 * TOLERANCE[dtype]
    )


@given(
    st.sampled_from([(4,), (2, 3), (0,), (2, 0, 3), (600,)]),
    st.integers(0, 30),
    st.integers(1, 30),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_linear_agrees_with_the_reference(lead, inputs, outputs, with_bias):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((*lead, inputs)), rng.standard_normal((outputs, inputs))
    bias = rng.standard_normal(outputs) if with_bias else None
    got, expected = cpu.linear(x, weight, bias), reference.linear(x, weight, bias)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("size", [(3, 5, 4), (80, 70, 90), (2, 0, 3)])
def test_linear_activates_its_result(slope, with_bias, size):
    rows, inputs, outputs = size
    rng = np.random.default_rng(6)
    x, weight = rng.standard_normal((rows, inputs)), rng.standard_normal((outputs, inputs))
    bias = np.linspace(-1, 1, outputs) if with_bias else None
    before = (x @ weight.T) + (0 if bias is None else bias)
    for linear in (cpu.linear, reference.linear):
        expected = np.where(before > 0, before, slope * before)
        np.testing.assert_allclose(linear(x, weight, bias, slope), expected, atol=1e-12)
    x[:, :1] = np.nan
    for linear in (cpu.linear, reference.linear):
        y = linear(x, weight, bias, slope)
        assert np.isnan(y).all() if inputs else np.isfinite(y).all()


def test_linear_in_tiles_adds_the_bias_once():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((500, 60)), rng.standard_normal((70, 60))
    bias = rng.standard_normal(70)
    np.testing.assert_allclose(cpu.linear(x, weight, bias), x @ weight.T + bias, atol=1e-12)


def test_nan_reaches_its_row_only():
    a, b = np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)
    a[1, 2] = np.nan
    assert np.isnan(cpu.matmul(a, b)).tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_mixed_dtypes_promote():
    a, b = np.ones((2, 3), np.float32), np.ones((3, 2), np.float64)
    assert cpu.matmul(a, b).dtype == np.float64
    assert cpu.linear(a, b.T, None).dtype == np.float64
    assert cpu.matmul(a, b.astype(np.complex64)).dtype == np.complex64


def test_mismatched_sizes_name_both_shapes():
    with pytest.raises(ValueError, match=r"a \(2, 3\) has 3 columns, b \(4, 2\) has 4 rows"):
        cpu.matmul(np.ones((2, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"x \(2, 3\) has 3 features, weight \(5, 4\) takes 4"):
        cpu.linear(np.ones((2, 3)), np.ones((5, 4)), None)
    with pytest.raises(ValueError, match=r"bias has shape \(3,\), weight \(5, 4\) expects \(5,\)"):
        cpu.linear(np.ones((2, 4)), np.ones((5, 4)), np.ones(3))


def test_the_private_blas_uses_the_processor():
    wanted = os.environ.get("MINIGEN_BLAS_CORETYPE") or blas._core_type()
    assert wanted is None or blas.corename() == wanted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
@pytest.mark.parametrize("shape", [((7,), 5, 3), ((2, 3), 4, 1), ((), 3, 4), ((150,), 70, 90)])
def test_linear_grads_agree_with_the_reference(shape, slope, dtype):
    lead, inputs, outputs = shape
    rng = np.random.default_rng(0)
    grad, x, weight = (
        rng.standard_normal(s).astype(dtype)
        for s in ((*lead, outputs), (*lead, inputs), (outputs, inputs))
    )
    y = None if slope == 1 else reference.linear(x, weight, None, slope)
    for needed in ((True, True, True), (False, True, True), (True, False, False)):
        got = cpu.linear_grads(grad, x, weight, y, slope, needed)
        wide = [None if a is None else a.astype("float64") for a in (grad, x, weight, y)]
        expected = reference.linear_grads(*wide, slope, needed)
        assert len(got) == sum(needed)
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, atol=20 * TOLERANCE[dtype])
    turned = np.broadcast_to(grad[..., :1], grad.shape), np.asfortranarray(x)
    for a, b in zip(
        cpu.linear_grads(*turned, weight, y, slope, (True, True, True)),
        reference.linear_grads(*turned, weight, y, slope, (True, True, True)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=20 * TOLERANCE[dtype])


def test_linear_grads_of_nothing_are_zero():
    empty, weight = np.zeros((0, 3), "float32"), np.ones((4, 3), "float32")
    got = cpu.linear_grads(np.zeros((0, 4), "float32"), empty, weight, None, 1.0, (True,) * 3)
    assert [g.shape for g in got] == [(0, 3), (4, 3), (4,)]
    assert not got[1].any() and not got[2].any()
