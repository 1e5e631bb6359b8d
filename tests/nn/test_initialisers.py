"""Initialisers: variances, bounds, reproducibility, and the two conventions that models rely on."""

import math

import numpy as np
import pytest

from minigen import nn
from minigen.nn import init
from minigen.random import Generator
from minigen.tensor import Tensor


def weight(*shape):
    return Tensor(np.zeros(shape, np.float32))


FAN_IN, FAN_OUT = 180, 270  # of the weight below
BOTH = FAN_IN + FAN_OUT


@pytest.mark.parametrize(
    ("fill", "options", "std", "bound"),
    [
        (init.normal_, {"std": 0.02}, 0.02, None),
        (init.uniform_, {"a": -1}, 1 / math.sqrt(3), 1),
        (init.xavier_uniform_, {}, math.sqrt(2 / BOTH), math.sqrt(6 / BOTH)),
        (init.xavier_normal_, {"gain": 2.0}, 2 * math.sqrt(2 / BOTH), None),
        (init.kaiming_uniform_, {}, math.sqrt(2 / FAN_IN), math.sqrt(6 / FAN_IN)),
        (init.kaiming_normal_, {"a": 0.2, "mode": "fan_out"}, math.sqrt(2 / 1.04 / FAN_OUT), None),
        (init.kaiming_normal_, {"nonlinearity": "linear"}, math.sqrt(1 / FAN_IN), None),
    ],
)
def test_spread(fill, options, std, bound):
    t = fill(weight(30, 20, 3, 3), **options, rng=Generator(0))
    assert t.data.std() == pytest.approx(std, rel=0.03)
    assert abs(t.data.mean()) < 4 * std / math.sqrt(t.size)
    if bound is not None:
        assert np.abs(t.data).max() <= np.float32(bound)


def test_fans_of_a_transposed_convolution_are_torch_s():
    assert init.fans(weight(8, 3, 4, 4)) == (48, 128)
    layer = nn.ConvTranspose2d(8, 3, 4, rng=Generator(0))
    assert np.abs(layer.weight.data).max() == pytest.approx(1 / math.sqrt(48), rel=0.02)
    assert np.abs(layer.bias.data).max() <= 1 / math.sqrt(48)


def test_numbers_do_not_depend_on_the_memory_order():
    a, b = weight(5, 3, 4, 4), init.parameter((5, 3, 4, 4))
    assert a.data.strides != b.data.strides
    init.normal_(a, rng=Generator(0))
    init.normal_(b, rng=Generator(0))
    np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (4, 3, 2, 2)])
def test_orthogonal(shape):
    t = init.orthogonal_(weight(*shape), 2.0, rng=Generator(0))
    matrix = t.data.reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_constants_and_versions():
    t = weight(2, 3)
    before = t.version[0]
    assert (init.constant_(t, 3).data == 3).all() and (init.ones_(t).data == 1).all()
    assert (init.zeros_(t).data == 0).all() and t.version[0] == before + 3


def test_errors():
    with pytest.raises(ValueError, match=r"fans: tensor has shape \(3,\)"):
        init.xavier_normal_(weight(3), rng=Generator(0))
    with pytest.raises(ValueError, match="mode is 'fan', expected 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(weight(3, 3), mode="fan", rng=Generator(0))
    with pytest.raises(ValueError, match="gain: 'swish' is unknown"):
        init.gain("swish")
