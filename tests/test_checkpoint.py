"""Checkpoints: the gradients of what is computed again, and what a checkpoint may close over."""

import sys

import numpy as np
import pytest

import minigen as mg
from minigen.testing import gradcheck


def leaf(*values):
    return mg.tensor(np.array(values, np.float64), requires_grad=True)


def test_checkpoint_gives_the_same_gradients_also_to_closures():
    w = mg.tensor(np.random.default_rng(0).standard_normal((3, 3)), requires_grad=True)

    def block(x):
        return mg.tanh(mg.exp(x @ w) * 0.1)

    x = mg.tensor(np.random.default_rng(1).standard_normal((2, 3)), requires_grad=True)
    plain = mg.grad(block(x).sum(), [x, w])
    again = mg.grad(mg.checkpoint(block, x).sum(), [x, w])
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    gradcheck(lambda x: mg.checkpoint(block, x), [x])


def test_checkpoints_in_a_row_share_weights_and_add_up_once():
    x, w = leaf(0.7), leaf(0.3)
    step = lambda h: mg.tanh(h * w + x)
    again = lambda h: mg.checkpoint(step, h)
    plain, checked = step(step(step(x))), again(again(again(x)))
    for a, b in zip(mg.grad(plain, [x, w]), mg.grad(checked, [x, w]), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-14)
    gradcheck(lambda x, w: mg.checkpoint(lambda h: mg.sin(h * w), mg.sin(x * w)), [x, w], order=3)


def test_a_checkpoint_sweeps_its_own_graph_only(monkeypatch):
    x, w, visited = leaf(0.7), leaf(0.3), []
    sweep = sys.modules["minigen.sweep"]
    pull = sweep._pull
    monkeypatch.setattr(sweep, "_pull", lambda node, *a: visited.append(node) or pull(node, *a))
    y = x
    for _ in range(20):
        y = mg.checkpoint(lambda h: mg.tanh(h * w), y)
    mg.grad(y, [x, w])
    assert len(visited) == 20 * 3  # the checkpoint, tanh, multiply


def test_what_a_checkpoint_closes_over_is_guarded():
    x, w = leaf(0.7), leaf(0.3)
    y = mg.checkpoint(lambda h: mg.tanh(h * w), x)
    with mg.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match="written in place afterwards"):
        mg.grad(y, [x])


def test_checkpoint_of_something_from_outside():
    x, w = leaf(1.0), leaf(2.0)
    assert mg.grad(mg.checkpoint(lambda x: w, x), [w])[0].item() == 1
    with pytest.raises(TypeError, match="fn returned tuple"):
        mg.checkpoint(lambda x: (x, x), x)


def test_checkpoint_replays_its_generator():
    x = leaf(*np.ones(50))
    rng = mg.Generator(0)
    y = mg.checkpoint(lambda x, rng: mg.dropout(x, 0.5, rng=rng) * x, x, rng)
    (g,) = mg.grad(y.sum(), [x])
    np.testing.assert_allclose(g.numpy(), 2 * y.numpy())


# errors -----------------------------------------------------------------------------------
