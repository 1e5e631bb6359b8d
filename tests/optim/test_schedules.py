"""Schedules of the learning rate."""

import math

import numpy as np
import pytest

from minigen import optim
from minigen.tensor import Tensor, tensor


def test_values():
    assert optim.constant(0.1)(10**6) == 0.1
    warm = optim.linear_warmup(0.4, 4)
    assert [warm(t) for t in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    cosine = optim.cosine(1.0, 100, final=0.2)
    assert [cosine(t) for t in (0, 50, 100, 200)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert cosine(25) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    decay = optim.step_decay(1.0, 10, 0.5)
    assert [decay(t) for t in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]
    assert optim.exponential(1.0, 0.9)(3) == pytest.approx(0.729)
    line = optim.polynomial(1.0, 10)
    assert [line(t) for t in (0, 5, 10, 20)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert optim.polynomial(1.0, 10, 0.1, power=2)(5) == pytest.approx(0.1 + 0.9 * 0.25)
    both = optim.linear_warmup(optim.cosine(1.0, 100), 10)
    assert both(4) == pytest.approx(0.5 * optim.cosine(1.0, 100)(4))


def test_in_an_optimizer():
    x = tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.SGD([x], lr=optim.step_decay(1.0, 2, 0.1))
    rates = []
    for _ in range(4):
        rates.append(optimizer.lr)
        optimizer.step([Tensor(np.ones(1))])
    assert rates == [1.0, 1.0, 0.1, 0.1]
    np.testing.assert_allclose(x.data, [-2.2])
    state = optimizer.state_dict()
    assert "lr" not in state
    resumed = optim.SGD([x], lr=optim.step_decay(1.0, 2, 0.1))
    resumed.load_state_dict(state)
    assert resumed.lr == pytest.approx(0.01)
    resumed.lr = 0.5
    assert resumed.lr == 0.5 and resumed.state_dict()["lr"] == 0.5


def test_steps_must_be_positive():
    for make in (lambda n: optim.cosine(1.0, n), lambda n: optim.linear_warmup(1.0, n)):
        with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
            make(0)
