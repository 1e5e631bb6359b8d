"""Self-attention against its formula in NumPy, and its gradients."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.testing import gradcheck

DRAW = np.random.default_rng(0)


def made(channels=16):
    layer = nn.SelfAttention2d(channels, rng=mg.Generator(0)).to(dtype=np.float64)
    layer.gamma.data[...] = 0.7
    return layer


def test_follows_its_formula():
    layer, x = made(), DRAW.normal(size=(2, 16, 4, 6))
    query, key, value, output = (
        part.weight.numpy()[:, :, 0, 0]
        for part in (layer.query, layer.key, layer.value, layer.output)
    )
    assert query.shape == key.shape == (2, 16) and value.shape == (8, 16)
    pooled = lambda a: a.reshape(2, -1, 2, 2, 3, 2).max((3, 5)).reshape(2, -1, 6)
    q = np.einsum("oc,nchw->nohw", query, x).reshape(2, 2, 24)
    k, v = (pooled(np.einsum("oc,nchw->nohw", w, x)) for w in (key, value))
    energy = np.exp(np.einsum("nci,ncj->nij", q, k))
    taken = np.einsum("nij,ncj->nci", energy / energy.sum(-1, keepdims=True), v)
    expected = x + 0.7 * np.einsum("oc,nci->noi", output, taken).reshape(x.shape)
    np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), expected, atol=1e-12)


def test_starts_as_the_identity_and_learns_first_how_much_to_take():
    layer, x = nn.SelfAttention2d(8, rng=mg.Generator(0)), mg.tensor(DRAW.normal(size=(1, 8, 4, 4)))
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())
    grads = mg.grad((layer(x) ** 2).sum(), layer.parameters())
    moved = [
        p is layer.gamma for p, g in zip(layer.parameters(), grads, strict=True) if g.data.any()
    ]
    assert moved == [True]


def test_gradients_to_order_two():
    layer, x = made(8), DRAW.normal(size=(2, 8, 3, 3))

    def attended(x, gamma, query, output):
        layer.gamma, layer.query.weight, layer.output.weight = gamma, query, output
        return layer(x)

    gradcheck(attended, [x, 0.7 * np.ones(()), layer.query.weight.data, layer.output.weight.data])


def test_an_image_without_four_pixels_is_refused():
    with pytest.raises(ValueError, match="SelfAttention2d: image is 1x4, expected at least 2x2"):
        made()(mg.zeros((1, 16, 1, 4)))
