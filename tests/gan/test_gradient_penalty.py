"""The gradient of a penalty on gradients, by a critic's weights, against finite differences.

A penalty is of first order in the images, so its derivative by the weights is of second order, and
the check of order 2 of third. It holds for every kind of layer that a critic is made of, on the
reference kernels, the compiled ones and minimal filtering.
"""

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from minigen.gan.regularizers import dragan, gradient_penalty, r1, r2
from minigen.testing import GradientError, gradcheck

REAL, FAKE = (mg.tensor(x) for x in np.random.default_rng(8).normal(size=(2, 3, 2, 6, 6)))
ROUTES = {
    "reference": {"target": "reference"},
    "direct": {"target": "cpu", "convolution": "direct"},
    "winograd": {"target": "cpu", "convolution": "winograd"},
}


STEP = 1e-5  # small, since the kinks of relu's kin are kinks of the penalty


def weights(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.6, shape) for shape in shapes]


def ends(x, last):
    """A bend and a linear layer: the slope of a critic without a bend is the same everywhere."""
    return mg.linear(mg.tanh(x).reshape(len(x), -1), last)


CRITICS = {  # name: (critic of x and its weights, their shapes)
    "linear, leaky relu": (
        lambda x, a, b, c: mg.linear(mg.leaky_relu(mg.linear(x.reshape(len(x), -1), a, b), 0.2), c),
        [(5, 72), (5,), (1, 5)],
    ),
    "linear, tanh": (
        lambda x, a, b, c: ends(mg.linear(x.reshape(len(x), -1), a, b), c),
        [(5, 72), (5,), (1, 5)],
    ),
    "linear, elu": (
        lambda x, a, b, c: mg.linear(mg.elu(mg.linear(x.reshape(len(x), -1), a, b)), c),
        [(5, 72), (5,), (1, 5)],
    ),
    "conv 3x3": (
        lambda x, a, b, c: ends(mg.conv2d(x, a, b, 1, 1), c),
        [(2, 2, 3, 3), (2,), (1, 72)],
    ),
    "conv 4x4 stride 2, leaky relu": (
        lambda x, a, b, c: ends(mg.leaky_relu(mg.conv2d(x, a, b, 2, 1), 0.2), c),
        [(3, 2, 4, 4), (3,), (1, 27)],
    ),
    "transposed conv 4x4 stride 2": (
        lambda x, a, b, c: ends(mg.conv_transpose2d(x, a, b, 2, 1), c),
        [(2, 2, 4, 4), (2,), (1, 288)],
    ),
    "layer norm": (
        lambda x, a, b, c, d: ends(mg.layer_norm(mg.conv2d(x, a, None, 2, 1), (3, 3, 3), b, c), d),
        [(3, 2, 4, 4), (3, 3, 3), (3, 3, 3), (1, 27)],
    ),
    "instance norm": (
        lambda x, a, b, c, d: ends(
            mg.instance_norm(mg.conv2d(x, a, None, 2, 1), weight=b, bias=c), d
        ),
        [(3, 2, 4, 4), (3,), (3,), (1, 27)],
    ),
    "two convs, layer norm, elu": (
        lambda x, a, b, c: ends(
            mg.conv2d(mg.elu(mg.layer_norm(mg.conv2d(x, a, None, 1, 1), (2, 6, 6))), b, None, 2, 1),
            c,
        ),
        [(2, 2, 3, 3), (2, 2, 4, 4), (1, 18)],
    ),
}


def penalty(function, critic):
    """The penalty as a function of the critic's weights; the same mixes in every call."""

    def by_weights(*weights):
        return function(lambda x: critic(x, *weights), REAL, FAKE, rng=mg.Generator(0))

    return by_weights


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", CRITICS)
def test_gradient_penalty(name, route):
    critic, shapes = CRITICS[name]
    with kernels.use(**ROUTES[route]):
        first, second = gradcheck(
            penalty(gradient_penalty, critic), weights(*shapes), order=2, eps=STEP
        )
    assert max(first, second) < 1e-6


@pytest.mark.parametrize("function", [r1, r2, dragan])
@pytest.mark.parametrize("name", ["conv 3x3", "transposed conv 4x4 stride 2", "layer norm"])
def test_other_penalties(name, function):
    critic, shapes = CRITICS[name]
    with kernels.use("reference"):
        gradcheck(penalty(function, critic), weights(*shapes), order=2, eps=STEP)


def test_a_penalty_that_forgets_its_graph_is_caught():
    """The check can fail: a slope that is taken for a constant has no gradient."""

    def forgetful(critic, real, fake, *, rng):
        return r1(critic, real, fake, rng=rng).detach() + 0 * critic(real).sum()

    critic, shapes = CRITICS["conv 3x3"]
    with kernels.use("reference"), pytest.raises(GradientError, match="order-1"):
        gradcheck(penalty(forgetful, critic), weights(*shapes), order=1, eps=STEP)


def test_penalty_of_a_linear_critic_has_a_closed_form():
    """(|w| - 1)^2 with the gradient 2 (|w| - 1) w / |w|, wherever the images lie."""
    (w,) = weights((1, 72))
    leaf = mg.tensor(w, requires_grad=True)
    value = penalty(gradient_penalty, lambda x, w: mg.linear(x.reshape(len(x), -1), w))(leaf)
    length = np.linalg.norm(w)
    assert value.item() == pytest.approx((length - 1) ** 2)
    (found,) = mg.grad(value, [leaf])
    np.testing.assert_allclose(found.numpy(), 2 * (length - 1) * w / length, rtol=1e-9)
