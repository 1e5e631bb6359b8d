"""Losses on logits: cpu against the reference in float64, layouts, reductions, special values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from minigen.kernels.cpu import loss as cpu
from minigen.kernels.reference import loss as reference

SHAPES = st.one_of(
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6),
    st.sampled_from([(2, 40000), (300, 100), (50000,), (3, 2, 90, 80)]),
)


def drawn(shape, seed=0):
    rng = np.random.default_rng(seed)
    x = (3 * rng.standard_normal(shape)).astype(np.float32)
    return x, rng.random(shape, dtype=np.float32)


def close(got, expected, scale=1.0):
    assert got.shape == expected.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=3e-6 * scale)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 4), st.booleans())
def test_logit_cost_and_gradient_equal_the_reference(shape, keep, last):
    keep = min(keep, len(shape))
    x, target = drawn(shape)
    if last and x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = x.astype(np.float64), target.astype(np.float64)
    expected = reference.logit_cost(*wide, keep)
    close(cpu.logit_cost(x, target, keep), expected)
    grad = drawn(shape[:keep], 1)[0]
    expected = reference.logit_cost_grad(grad.astype(np.float64), *wide)
    close(cpu.logit_cost_grad(grad, x, target), expected, 10)


def test_logits_of_any_size_cost_what_they_should():
    x = np.array([200.0, -200.0, 1e4, -1e4, 0.0], np.float32)
    for module in (cpu, reference):
        np.testing.assert_allclose(
            module.logit_cost(x, np.zeros_like(x), 1), [200, 0, 1e4, 0, np.log(2)], atol=1e-6
        )
        np.testing.assert_allclose(
            module.logit_cost(x, np.ones_like(x), 1), [0, 200, 0, 1e4, np.log(2)], atol=1e-6
        )
        assert np.isnan(module.logit_cost(np.full(3, np.nan, np.float32), np.ones(3, "f"), 0))


@pytest.mark.parametrize("shape", [(4, 3), (5, 1), (2, 3, 4), (2, 5, 3, 2), (3000, 30)])
def test_label_cost_and_gradient_equal_the_reference(shape):
    x, _ = drawn(shape)
    x *= 10
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, shape[1], (shape[0], *shape[2:]))
    grad = rng.standard_normal(labels.shape).astype(np.float32)
    wide = x.astype(np.float64)
    close(cpu.label_cost(x, labels), reference.label_cost(wide, labels), 10)
    expected = reference.label_cost_grad(grad.astype(np.float64), wide, labels)
    close(cpu.label_cost_grad(grad, x, labels), expected)
    assert (cpu.label_cost(x, labels)[labels < 0] == 0).all()


def test_label_cost_keeps_nan_and_takes_large_scores():
    x = np.array([[1e4, 0.0, -1e4], [np.nan, 0.0, 1.0], [np.inf, 0.0, 0.0]], np.float32)
    cost = cpu.label_cost(x, np.array([2, 1, 1]))
    assert cost[0] == 2e4 and np.isnan(cost[1]) and np.isnan(cost[2])
