"""Equalised learning rate: the scale, the variance that it keeps, gradients to order 2."""

import math

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim
from minigen.testing import gradcheck

R = mg.Generator(0)


def image(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


LAYERS = [  # layer, its twin without scale, its scale, input shape
    (
        nn.EqualizedConv2d(4, 6, 3, 1, 1, rng=R),
        nn.Conv2d(4, 6, 3, 1, 1, rng=R), math.sqrt(2 / 36), (2, 4, 5, 5),
    ),
    (
        nn.EqualizedConv2d(4, 6, 3, 2, groups=2, gain=1.0, rng=R),
        nn.Conv2d(4, 6, 3, 2, groups=2, rng=R), math.sqrt(1 / 18), (2, 4, 5, 5),
    ),
    (
        nn.EqualizedConvTranspose2d(4, 6, 4, 2, 1, rng=R),
        nn.ConvTranspose2d(4, 6, 4, 2, 1, rng=R), math.sqrt(2 / 16), (2, 4, 3, 3),
    ),
    (
        nn.EqualizedConvTranspose2d(4, 6, 4, 1, 0, rng=R, groups=2),
        nn.ConvTranspose2d(4, 6, 4, 1, 0, groups=2, rng=R), math.sqrt(2 / 32), (2, 4, 1, 1),
    ),
    (
        nn.EqualizedLinear(5, 7, gain=1.0, rng=R),
        nn.Linear(5, 7, rng=R), math.sqrt(1 / 5), (3, 5),
    ),
]  # fmt: skip
EACH = pytest.mark.parametrize(
    ("layer", "plain", "scale", "shape"), LAYERS, ids=lambda v: repr(v)[:30]
)


@EACH
def test_is_the_plain_layer_with_scaled_weights(layer, plain, scale, shape):
    assert layer.scale == pytest.approx(scale)
    plain.weight.data[...] = layer.weight.data * scale
    plain.bias.data[...] = 0
    x = mg.tensor(image(*shape).astype(np.float32))
    np.testing.assert_allclose(layer(x).numpy(), plain(x).numpy(), atol=1e-5)
    assert set(layer.state_dict()) == {"weight", "bias"} and not layer.bias.numpy().any()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda gain: nn.EqualizedConv2d(32, 64, 3, gain=gain, rng=R), (4, 32, 8, 8)),
        (
            lambda gain: nn.EqualizedConvTranspose2d(64, 32, 4, 2, 3, gain=gain, rng=R),
            (4, 64, 8, 8),
        ),
        (lambda gain: nn.EqualizedLinear(256, 128, gain=gain, rng=R), (64, 256)),
    ],
)
def test_weights_are_standard_normal_and_variance_is_kept(make, shape):
    layer = make(1.0)
    assert layer.weight.numpy().std() == pytest.approx(1, rel=0.03)
    x = mg.tensor(image(*shape).astype(np.float32))
    assert layer(x).numpy().std() == pytest.approx(1, rel=0.1)
    assert make(3.0)(x).numpy().std() == pytest.approx(3, rel=0.1)


@EACH
def test_gradients_to_second_order(layer, plain, scale, shape):
    weight, bias = layer.weight, layer.bias

    def run(x, w, b):
        layer.weight, layer.bias = w, b
        return mg.tanh(layer(x))

    try:
        gradcheck(run, [image(*shape), weight.numpy().astype(float), image(*bias.shape)], order=2)
    finally:
        layer.weight, layer.bias = weight, bias


def test_penalty_on_slopes_is_differentiable_by_the_weights():
    critic = nn.Sequential(
        nn.EqualizedConv2d(1, 3, 3, 1, 1, rng=R), nn.LeakyReLU(0.2), nn.MinibatchStddev(),
        nn.EqualizedConv2d(4, 3, 3, rng=R), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.EqualizedLinear(12, 1, gain=1.0, rng=R),
    ).to(dtype=np.float64)  # fmt: skip
    x = image(4, 1, 4, 4)

    def penalty(w):
        critic[3].weight = w
        mix = mg.tensor(x, requires_grad=True)
        (slope,) = mg.grad(critic(mix).sum(), [mix], create_graph=True)
        return ((mg.sqrt((slope**2).sum((1, 2, 3))) - 1) ** 2).mean()

    gradcheck(penalty, [critic[3].weight.numpy().copy()], order=1, eps=1e-5)


def test_steps_of_adam_are_alike_relative_to_each_weights_range():
    """What the trick is for: a step changes the effective weights by the same share everywhere."""

    def change(kind, **options):
        shares = []
        for inputs in (4, 400):
            layer = kind(inputs, 8, bias=False, rng=mg.Generator(1), **options)
            units = mg.tensor(np.eye(inputs, dtype=np.float32))
            before = layer(units).numpy()
            optim.Adam(layer, lr=0.01).step([mg.tensor(np.ones_like(layer.weight.data))])
            shares.append(np.abs(layer(units).numpy() - before).mean() / before.std())
        return shares

    few, many = change(nn.EqualizedLinear)
    assert many == pytest.approx(few, rel=0.3)
    few, many = change(nn.Linear)
    assert many > 5 * few


def test_sequential_fuses_the_rectifier(monkeypatch):
    for layer, _, _, shape in LAYERS:
        x = mg.tensor(image(*shape).astype(np.float32))
        apart = nn.LeakyReLU(0.2)(layer(x)).numpy()
        with monkeypatch.context() as patch:
            patch.setattr(nn.LeakyReLU, "forward", lambda self, x: 1 / 0)
            together = nn.Sequential(layer, nn.LeakyReLU(0.2))(x).numpy()
        np.testing.assert_allclose(together, apart, atol=1e-6)


def test_a_generator_is_asked_for():
    with pytest.raises(TypeError, match="rng"):
        nn.EqualizedLinear(2, 3)
