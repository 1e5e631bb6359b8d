"""Convolutions that see what comes before: against masked ones, and place by place."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.testing import gradcheck

KINDS = [nn.VerticalConv2d, nn.HorizontalConv2d]


def seen(kind, reach, own):
    """Which weights of a (2 reach + 1)^2 kernel a mask would keep."""
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    if kind is nn.VerticalConv2d:
        return (rows < own) * np.ones_like(columns)
    return (rows == 0) & (columns < own)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reach", "own"), [(1, False), (1, True), (3, False), (2, True)])
def test_it_is_the_masked_convolution(kind, reach, own):
    layer = kind(2, 3, reach, own=own, rng=mg.Generator(0))
    kept = seen(kind, reach, own).astype(bool)
    full = np.zeros((3, 2, *kept.shape), np.float32)
    full[:, :, kept] = layer.conv.weight.numpy().reshape(3, 2, -1)
    x = mg.Generator(1).normal((2, 2, 5, 6))
    expected = mg.conv2d(x, mg.tensor(full), layer.conv.bias, padding=reach)
    np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_one_place_that_sees_nothing_gets_the_bias(kind):
    layer = kind(2, 3, 1, own=False, rng=mg.Generator(0))
    y = layer(mg.Generator(1).normal((4, 2, 1, 1)))
    np.testing.assert_allclose(y.numpy()[:, :, 0, 0], np.tile(layer.conv.bias.numpy(), (4, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
def test_gradients_to_order_2(kind, own):
    layer = kind(2, 2, 1, own=own, rng=mg.Generator(0)).to(dtype=np.float64)
    gradcheck(lambda x: layer(x) ** 2, [np.random.default_rng(0).normal(size=(1, 2, 3, 3))])


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_that_sees_nothing_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: reach is 0, expected at least 1"):
        kind(1, 1, 0, own=False, rng=mg.Generator(0))
