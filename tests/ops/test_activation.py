"""Activations: values, tails in both precisions, kinks, NaN; and the statistics of dropout."""

import math

import numpy as np
import pytest

from minigen import kernels
from minigen.autograd import grad
from minigen.ops import activation as act
from minigen.random import Generator
from minigen.tensor import Tensor

X = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])


def leaf(array):
    t = Tensor(np.asarray(array))
    t.requires_grad = True
    return t


def derivative(fn, x):
    t = leaf(x)
    return grad(fn(t).sum(), [t])[0].numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal_cdf(x):
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (act.relu, lambda x: np.maximum(x, 0)),
        (act.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
        (lambda x: act.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
        (act.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
        (lambda x: act.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
        (lambda x: act.celu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5))),
        (
            act.selu,
            lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
        ),
        (act.gelu, lambda x: x * normal_cdf(x)),
        (
            lambda x: act.gelu(x, approximate="tanh"),
            lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        (act.silu, lambda x: x * sigmoid(x)),
        (act.sigmoid, sigmoid),
        (act.logsigmoid, lambda x: np.log(sigmoid(x))),
        (act.softplus, lambda x: np.log1p(np.exp(x))),
        (lambda x: act.softplus(x, 2), lambda x: np.log1p(np.exp(2 * x)) / 2),
        (lambda x: act.softplus(x, 1, 0.7), lambda x: np.where(x > 0.7, x, np.log1p(np.exp(x)))),
        (act.hardtanh, lambda x: np.clip(x, -1, 1)),
        (lambda x: act.hardtanh(x, -0.7, 2.0), lambda x: np.clip(x, -0.7, 2)),
        (act.relu6, lambda x: np.clip(x, 0, 6)),
        (act.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        (lambda x: act.softmax(x, 0), lambda x: np.exp(x) / np.exp(x).sum()),
        (lambda x: act.log_softmax(x, -1), lambda x: x - np.log(np.exp(x).sum())),
        (lambda x: act.glu(x[1:], 0), lambda x: x[1:4] * sigmoid(x[4:])),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(fn, expected, dtype):
    y = fn(Tensor(X.astype(dtype)))
    assert y.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    np.testing.assert_allclose(y.numpy(), expected(X), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tails_neither_overflow_nor_lose_their_slope(dtype, target):
    x = np.array([-1e4, -100, 100, 1e4], dtype)
    with kernels.use(target):
        for fn, value, slope in [
            (act.softplus, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (act.logsigmoid, [-1e4, -100, 0, 0], [1, 1, 0, 0]),
            (act.sigmoid, [0, 0, 1, 1], [0, 0, 0, 0]),
            (act.elu, [-1, -1, 100, 1e4], [0, 0, 1, 1]),
            (act.gelu, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (act.silu, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (act.mish, [0, 0, 100, 1e4], [0, 0, 1, 1]),
        ]:
            np.testing.assert_allclose(fn(Tensor(x)).numpy(), value, atol=1e-30)
            np.testing.assert_allclose(derivative(fn, x), slope, atol=1e-30)
        scores = np.array([[1e4, -1e4, 0], [1e4, 1e4, 1e4]], dtype)
        logs = act.log_softmax(Tensor(scores), 1).numpy()
        np.testing.assert_allclose(logs[0], [0, -2e4, -1e4])
        np.testing.assert_allclose(logs[1], -math.log(3), rtol=1e-6)
        assert np.isfinite(derivative(lambda t: act.log_softmax(t, 1)[:, 0], scores)).all()
        np.testing.assert_allclose(act.softmax(Tensor(scores), 1).numpy().sum(1), 1, rtol=1e-6)


def test_kinks_have_torch_s_slopes():
    np.testing.assert_array_equal(derivative(act.relu, [0.0]), [0])
    np.testing.assert_array_equal(derivative(act.leaky_relu, [0.0]), [0.01])
    np.testing.assert_array_equal(derivative(act.elu, [0.0]), [1])
    np.testing.assert_array_equal(derivative(act.hardtanh, [-1.0, 1.0]), [0, 0])
    np.testing.assert_array_equal(derivative(act.relu6, [0.0, 6.0]), [0, 0])


def test_nan_passes_through():
    t = Tensor(np.array([np.nan, 1.0]))
    for fn in (act.relu, act.leaky_relu, act.elu, act.sigmoid, act.softplus, act.hardtanh):
        assert np.isnan(fn(t).numpy()).tolist() == [True, False]


def test_softmax_of_nothing():
    assert act.softmax(Tensor(np.zeros((0, 3))), 1).shape == (0, 3)
    assert act.log_softmax(Tensor(np.zeros((2, 0))), 1).shape == (2, 0)


def test_dropout_keeps_the_mean_and_draws_the_same_mask_for_the_gradient():
    rng = Generator(0)
    x = leaf(np.full((400, 300), 2.0, np.float32))
    y = act.dropout(x, 0.25, rng=rng)
    assert set(np.unique(y.numpy())) == {0.0, np.float32(2 / 0.75)}
    kept = (y.numpy() > 0).mean()
    assert abs(kept - 0.75) < 4 * math.sqrt(0.75 * 0.25 / x.size)
    (slope,) = grad(y.sum(), [x])
    np.testing.assert_array_equal(slope.numpy() > 0, y.numpy() > 0)
    again = act.dropout(x, 0.25, rng=rng)
    assert (again.numpy() != y.numpy()).any()
    np.testing.assert_array_equal(act.dropout(x, 0.25, rng=Generator(0)).numpy(), y.numpy())


def test_dropout_at_its_ends():
    rng = Generator(1)
    x = Tensor(np.ones((2, 3)))
    assert act.dropout(x, 0.0, rng=rng) is x
    assert act.dropout(x, 0.5, training=False, rng=rng) is x
    np.testing.assert_array_equal(act.dropout(x, 1.0, rng=rng).numpy(), 0)
    assert rng.counter == 2  # only what was drawn is used up: ceil(6 / 4) blocks


@pytest.mark.parametrize("shape", [(40, 50, 3, 2), (50, 3, 2)])
def test_dropout2d_drops_whole_channels(shape):
    y = act.dropout2d(Tensor(np.ones(shape)), 0.5, rng=Generator(2)).numpy()
    first = y[..., :1, :1]
    np.testing.assert_array_equal(y, np.broadcast_to(first, shape))
    assert set(np.unique(first)) == {0, 2}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: act.gelu(x, "erf"), "approximate is 'erf'; expected 'none' or 'tanh'"),
        (lambda x: act.glu(x), "axis -1 of input (2, 3) has odd size 3"),
        (lambda x: act.dropout(x, 1.5, rng=Generator(0)), "dropout: p is 1.5"),
        (lambda x: act.dropout2d(x, rng=Generator(0)), "dropout2d: input has shape (2, 3)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError) as error:
        call(Tensor(np.zeros((2, 3))))
    assert message in str(error.value)
