"""The minibatch standard deviation: against plain NumPy, its groups, its gradients to order 2."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.testing import gradcheck


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def deviations(x, sizes, channels):
    """The definition, example by example."""
    out, start = [], 0
    for size in sizes:
        std = x[start : start + size].std(0)  # (C, ...)
        parts = [part.mean() for part in np.split(std, channels)]
        out += [parts] * size
        start += size
    return np.array(out)


@pytest.mark.parametrize(
    ("n", "group_size", "sizes"),
    [
        (8, 4, (4, 4)), (10, 4, (4, 3, 3)), (7, 4, (4, 3)), (3, 4, (3,)), (1, 4, (1,)),
        (9, 2, (2, 2, 2, 2, 1)), (5, 16, (5,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("shape", "channels"), [((6, 2, 3), 1), ((6, 2, 3), 3), ((6,), 2)])
def test_appends_the_mean_deviation_of_each_group(n, group_size, sizes, shape, channels):
    x = features(n, *shape)
    y = nn.MinibatchStddev(group_size, channels)(mg.tensor(x)).numpy()
    assert y.shape == (n, 6 + channels, *shape[1:])
    np.testing.assert_array_equal(y[:, :6], x)
    expected = deviations(x, sizes, channels).reshape(n, channels, *(1,) * (len(shape) - 1))
    np.testing.assert_allclose(y[:, 6:], np.broadcast_to(expected, y[:, 6:].shape), atol=1e-4)


def test_alike_images_are_told_from_different_ones():
    x = features(1, 4, 3, 3)
    same, differ = np.repeat(x, 4, 0), features(4, 4, 3, 3)
    layer = nn.MinibatchStddev()
    assert layer(mg.tensor(same)).numpy()[:, -1].max() < 1e-3
    assert layer(mg.tensor(differ)).numpy()[:, -1].min() > 0.5


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("shape", [(4, 2, 2), (4,)])
def test_gradients_to_second_order(n, shape):
    layer = nn.MinibatchStddev(4, 2)
    gradcheck(lambda x: mg.tanh(layer(x)), [features(n, *shape)], order=2)


def test_second_order_stays_finite_where_examples_are_equal():
    critic = nn.Sequential(
        nn.MinibatchStddev(), nn.Flatten(), nn.Linear(20, 1, rng=mg.Generator(0))
    )
    x = mg.tensor(np.ones((4, 4, 2, 2), np.float32), requires_grad=True)
    (slope,) = mg.grad(critic(x).sum(), [x], create_graph=True)
    grads = mg.grad((slope**2).sum(), [x, *critic.parameters()], allow_unused=True)
    assert all(np.isfinite(g.numpy()).all() for g in grads if g is not None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MinibatchStddev(1), "group_size is 1, channels 1; expected at least 2 and 1"),
        (lambda: nn.MinibatchStddev(4, 3)(mg.zeros((4, 4))), r"shape \(4, 4\).* multiple of 3"),
        (lambda: nn.MinibatchStddev()(mg.zeros((0, 4))), r"input has shape \(0, 4\)"),
        (lambda: nn.MinibatchStddev()(mg.zeros(4)), r"input has shape \(4,\)"),
    ],
)
def test_errors_are_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
