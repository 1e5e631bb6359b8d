"""Conditional batch norm: each example's own gain and bias after the batch's statistics."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.testing import gradcheck

R = mg.Generator(0)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(6, 3, 4, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 1])


def of_classes(**options):
    layer = nn.ConditionalBatchNorm2d(3, classes=4, rng=R, **options)
    for table in (layer.gain, layer.bias):
        nn.init.normal_(table.weight, rng=R)
    return layer


def of_vectors(**options):
    return nn.ConditionalBatchNorm2d(3, features=5, rng=R, **options)


def test_a_class_chooses_gain_and_bias():
    layer = of_classes()
    normal = nn.BatchNorm2d(3, affine=False)(mg.tensor(X)).numpy()
    gain, bias = (t.weight.numpy()[LABELS][:, :, None, None] for t in (layer.gain, layer.bias))
    found = layer(mg.tensor(X), LABELS).numpy()
    np.testing.assert_allclose(found, normal * (1 + gain) + bias, atol=1e-5)


def test_a_vector_makes_gain_and_bias():
    layer, y = of_vectors(), DRAW.normal(size=(6, 5)).astype(np.float32)
    normal = nn.BatchNorm2d(3, affine=False)(mg.tensor(X)).numpy()
    gain, bias = ((y @ t.weight.numpy().T)[:, :, None, None] for t in (layer.gain, layer.bias))
    found = layer(mg.tensor(X), mg.tensor(y)).numpy()
    np.testing.assert_allclose(found, normal * (1 + gain) + bias, atol=1e-5)
    plain = layer(mg.tensor(X), mg.zeros((6, 5))).numpy()  # gain is centred at 1
    np.testing.assert_allclose(plain, normal, atol=1e-6)


def test_tables_start_as_plain_batch_norm_and_the_rectifier_follows():
    layer = nn.ConditionalBatchNorm2d(3, classes=4, negative_slope=0.2, rng=R)
    plain = nn.BatchNorm2d(3, negative_slope=0.2)
    np.testing.assert_allclose(
        layer(mg.tensor(X), LABELS).numpy(), plain(mg.tensor(X)).numpy(), atol=1e-6
    )


def test_evaluation_uses_the_running_statistics():
    layer = of_classes(momentum=1.0, eps=1e-3)
    layer(mg.tensor(X), LABELS)
    np.testing.assert_allclose(layer.norm.running_mean.data, X.mean((0, 2, 3)), atol=1e-6)
    one, all_ = (layer.eval()(mg.tensor(x), LABELS[: len(x)]).numpy() for x in (X[:1], X))
    np.testing.assert_allclose(one[0], all_[0], atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slope", [None, 0.2])
def test_gradients_to_order_two(training, slope):
    layer = of_classes(negative_slope=slope).train(training).to(dtype=np.float64)

    def by_class(x, gain, bias):
        layer.gain.weight, layer.bias.weight = gain, bias
        return layer(x, LABELS)

    gradcheck(by_class, [X, layer.gain.weight.data, layer.bias.weight.data])
    vectors = of_vectors(negative_slope=slope).train(training).to(dtype=np.float64)

    def by_vector(x, y, gain):
        vectors.gain.weight = gain
        return vectors(x, y)

    gradcheck(by_vector, [X, DRAW.normal(size=(6, 5)), vectors.gain.weight.data])


@pytest.mark.parametrize("both", [{}, {"classes": 2, "features": 3}])
def test_one_kind_of_condition_is_asked_for(both):
    with pytest.raises(ValueError, match=r"ConditionalBatchNorm2d: got classes=.*, expected one"):
        nn.ConditionalBatchNorm2d(3, rng=R, **both)
