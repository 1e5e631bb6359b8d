"""Elementwise ops, choosing, creation and dtype changes against NumPy; the operators of Tensor."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigen.ops as ops
from minigen.autograd import grad
from minigen.tensor import Tensor, tensor
from tests.ops.support import equal, same

SMOOTH = [
    "negative",
    "positive",
    "square",
    "exp",
    "exp2",
    "expm1",
    "sin",
    "cos",
    "tan",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "sign",
    "abs",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "nan_to_num",
]
POSITIVE = ["sqrt", "reciprocal", "log", "log2", "log10", "log1p"]
WITHIN = ["arcsin", "arccos", "arctanh"]
PAIRS = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "floor_divide",
    "remainder",
    "mod",
    "maximum",
    "minimum",
    "logaddexp",
    "hypot",
    "arctan2",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
]


def data(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMOOTH + POSITIVE + WITHIN + ["arccosh"])
def test_one_argument(name, dtype):
    x = data((2, 3, 1), dtype)
    if name in POSITIVE:
        x = np.abs(x) + dtype(0.5)
    if name in WITHIN:
        x = np.clip(x, dtype(-0.9), dtype(0.9))
    if name == "arccosh":
        x = 1 + np.abs(x)
    for value in (x, x.transpose(2, 1, 0)[:, ::2], x[0, 0, 0:1].reshape(()), x[:0]):
        same(getattr(ops, name), getattr(np, name), value)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "dtypes", [("f4", "f4"), ("f4", "f8"), ("f4", "i8"), ("i8", "i8"), ("f4", "?")]
)
def test_two_arguments_broadcast_and_promote(name, dtypes):
    x = (data((2, 1, 3)) * 3 + 5).astype(dtypes[0])
    y = (np.abs(data((4, 1), seed=1)) * 3 + 1).astype(dtypes[1])
    same(getattr(ops, name), getattr(np, name), x, y)
    same(getattr(ops, name), getattr(np, name), x[:, :, :2], data((3,)))  # shapes that do not fit


@pytest.mark.parametrize("scalar", [2, 2.0, True])
def test_python_scalars_are_weak(scalar):
    x = data((3,), np.float32)
    for name in PAIRS:
        same(getattr(ops, name), getattr(np, name), x, scalar)
    assert (scalar * tensor(x)).dtype == np.float32
    assert (scalar / (tensor(x) ** 2 + 1)).dtype == np.float32


def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    for name in ("maximum", "minimum", "add", "multiply", "equal", "less"):
        with np.errstate(invalid="ignore"):
            same(getattr(ops, name), getattr(np, name), x[:, None], x)
    for name in ("exp", "tanh", "sign", "floor", "abs", "nan_to_num", "isfinite"):
        same(getattr(ops, name), getattr(np, name), x)
    equal(ops.where(x > 0, Tensor(x), 0), np.where(x > 0, x, 0))
    assert ops.where(np.array([True, False]), 1.0, tensor([0.0, 2.0])).dtype == np.float32
    equal(ops.where(np.array([0, 1, 1])), np.where([0, 1, 1]))
    with pytest.raises(ValueError, match="y is missing"):
        ops.where(x > 0, x)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, 2.5, -2.0])
def test_power(exponent):
    x = np.abs(data((2, 3), np.float32)) + np.float32(0.5)
    same(ops.power, np.power, x, exponent)
    same(operator.pow, operator.pow, x, exponent)
    same(ops.power, np.power, np.array([1, 2, 3]), exponent)


def test_power_at_zero_has_finite_gradients():
    x, y = tensor([0.0, 0.0, 2.0], requires_grad=True), tensor([0.0, 2.0, 0.0], requires_grad=True)
    gx, gy = grad((x**y).sum(), [x, y])
    np.testing.assert_allclose(gx.data, [0, 0, 0])
    np.testing.assert_allclose(gy.data, [0, 0, math.log(2)], rtol=1e-6)


def test_ties_share_the_gradient():
    x, y = tensor([1.0, 2.0], requires_grad=True), tensor([1.0, 3.0], requires_grad=True)
    for f, expected in ((ops.maximum, [0.5, 0.0]), (ops.minimum, [0.5, 1.0])):
        np.testing.assert_array_equal(grad(f(x, y).sum(), x)[0].data, expected)
    assert grad(ops.abs(tensor(0.0, requires_grad=True) * 1).sum(), [], allow_unused=True) == ()


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (None, 0.5), (-0.5, None), (0.5, -0.5)])
def test_clip(bounds):
    x = data((3, 4), np.float32)
    same(ops.clip, np.clip, x, *bounds)
    equal(Tensor(x).clip(min=bounds[0], max=bounds[1]), np.clip(x, *bounds))
    with pytest.raises(ValueError, match="not both"):
        ops.clip(x, 0, max=1)
    same(ops.clip, np.clip, x, x[0] - 1, x[0])


def test_round_and_decimals():
    x = data((3, 4)) * 10
    same(ops.round, np.round, x)
    same(ops.around, np.around, x, 1)


def test_erf_matches_the_c_library():
    for dtype, tolerance in ((np.float64, 5e-16), (np.float32, 3e-7)):
        x = np.concatenate([np.linspace(-7, 7, 2001), np.linspace(-1e-3, 1e-3, 101)]).astype(dtype)
        exact = np.array([math.erf(v) for v in x])
        found = ops.erf(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.data, exact, rtol=tolerance, atol=0)
    np.testing.assert_array_equal(
        ops.erf(np.array([np.nan, np.inf, -np.inf])).data, [np.nan, 1, -1]
    )


def test_complex_numbers():
    x, y = data((2, 3)) + 1j * data((2, 3), seed=1), data((3,)) - 2j
    for name in ("add", "subtract", "multiply", "divide"):
        same(getattr(ops, name), getattr(np, name), x, y)
    for name in ("real", "imag", "conj", "abs", "square", "negative", "sign"):
        same(getattr(ops, name), getattr(np, name), x)
    assert Tensor(x).real.dtype == np.float64


def test_logic_on_tensors():
    x, y = np.array([True, False, True]), np.array([True, True, False])
    for f in (operator.and_, operator.or_, operator.xor):
        same(f, f, x, y)
    same(operator.invert, operator.invert, x)
    same(operator.and_, operator.and_, np.array([6, 3]), 2)


def test_operators_match_numpy_in_both_orders():
    x, y = np.abs(data((2, 3), np.float32)) + 1, np.abs(data((3,), np.float32, 1)) + 1
    for f in (
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv),
        *(operator.mod, operator.pow, operator.eq, operator.ne, operator.lt, operator.ge),
    ):
        expected = f(x, y)
        for a, b in ((Tensor(x), Tensor(y)), (x, Tensor(y)), (Tensor(x), y)):
            equal(f(a, b), expected)
        equal(f(3.0, Tensor(y)), f(3.0, y))
    equal(abs(-Tensor(x)), x)
    equal(+Tensor(x), x)
    equal(x @ Tensor(y), x @ y)
    assert not Tensor(x).__eq__(None).data.any()


def test_creation():
    for name, args in (
        ("zeros", ((2, 3),)),
        ("ones", (4,)),
        ("eye", (3, 4, 1)),
        ("linspace", (0, 1, 5)),
    ):
        equal(getattr(ops, name)(*args), getattr(np, name)(*args).astype(np.float32))
    equal(ops.arange(5), np.arange(5))
    equal(ops.arange(1.0, 2.0, 0.25), np.arange(1, 2, 0.25, np.float32))
    equal(ops.full((2,), 3), np.full((2,), 3))
    equal(ops.full((2,), 3.5), np.full((2,), 3.5, np.float32))
    assert ops.empty((2, 0)).shape == (2, 0)
    x = data((2, 3), np.float32)
    for name in ("zeros_like", "ones_like", "copy"):
        same(getattr(ops, name), getattr(np, name), x)
    same(ops.full_like, np.full_like, x, 2)
    with pytest.raises(ValueError, match="tpu"):
        ops.zeros(2, device="tpu")


def test_astype_casts_gradients_back_and_integers_end_the_graph():
    x = tensor([1.5, -2.5], requires_grad=True)
    wide = x.astype(np.float64)
    assert wide.dtype == np.float64
    assert grad((wide * wide).sum(), x)[0].dtype == np.float32
    assert not x.astype(int).requires_grad
    assert x.to("cpu") is x
    assert x.detach().real.dtype == np.float32


def test_each_leaf_owns_its_grad():
    x, y = (tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    seed = np.float32([3, 4])
    (x + y).backward(seed)
    x.grad *= 0
    equal(y.grad, np.float32([3, 4]))
    x.grad = None
    x.sum().backward()  # a gradient that was broadcast is written to all the same
    x.grad *= 2
    equal(x.grad, np.float32([2, 2]))
    np.testing.assert_array_equal(seed, [3, 4])


def test_comparisons_have_no_gradient():
    x = tensor([1.0], requires_grad=True)
    assert not (x > 0).requires_grad
    assert not ops.isnan(x).requires_grad


def test_steps_have_gradient_zero():
    x = tensor([0.3, 1.7], requires_grad=True)
    for f in (ops.floor, ops.ceil, ops.round, ops.rint, ops.trunc, ops.sign):
        np.testing.assert_array_equal(grad(f(x).sum(), x)[0].data, [0, 0])


def test_tensors_may_be_passed_by_name():
    x = tensor([1.0, -1.0], requires_grad=True)
    equal(ops.where(condition=x > 0, x=x, y=Tensor(np.float32([5, 6]))), np.float32([1, 6]))
    equal(ops.multiply(x, y=x), np.float32([1, 1]))
    equal(ops.take(x, indices=Tensor(np.array([1, 1]))), np.float32([-1, -1]))
    with pytest.raises(TypeError, match="multiply"):
        ops.multiply(x, z=x)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3), st.data()
)
def test_broadcast_gradients_have_their_inputs_shapes(shapes, draw):
    x, y = (tensor(data(s), requires_grad=True) for s in shapes.input_shapes)
    name = draw.draw(st.sampled_from(["add", "subtract", "multiply", "maximum"]))
    out = getattr(ops, name)(x, y)
    assert out.shape == shapes.result_shape
    gx, gy = grad(out, [x, y], [np.ones(out.shape)], allow_unused=True)
    assert gx.shape == x.shape and gy.shape == y.shape
