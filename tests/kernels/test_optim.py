"""Optimiser steps: cpu against the reference, and two steps of each worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import kernels

DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.sampled_from([0, 1, 7, 100, 20000])


def run(target, name, state, grads, *settings_):
    """The arrays after a step for every gradient; state[0] is the parameter."""
    state = [None if a is None else a.copy() for a in state]
    with kernels.use(target):
        for step, grad in enumerate(grads, 1):
            kept = grad.copy()
            tail = (*settings_, step) if name == "adam" else settings_
            assert getattr(kernels, name)(state[0], grad, *state[1:], *tail) is None
            np.testing.assert_array_equal(grad, kept)
    return state


def compare(name, state, grads, *settings_):
    fast = run("cpu", name, state, grads, *settings_)
    slow = run("reference", name, state, grads, *settings_)
    tolerance = 2e-5 if state[0].dtype == np.float32 else 1e-13
    for one, other in zip(fast, slow, strict=True):
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def data(size, dtype, count):
    rng = np.random.default_rng(16)
    return rng.standard_normal((count, size)).astype(dtype)


@settings(max_examples=20, deadline=None)
@given(SIZES, DTYPES, st.sampled_from([0, 0.9]), st.sampled_from([0, 0.1]), st.booleans())
def test_sgd(size, dtype, momentum, decay, nesterov):
    param, velocity, *grads = data(size, dtype, 5)
    state = [param, velocity if momentum else None]
    compare("sgd", state, grads, 0.1, momentum, 0.0 if nesterov else 0.2, decay, nesterov)


@settings(max_examples=20, deadline=None)
@given(SIZES, DTYPES, st.sampled_from([0, 0.9]), st.sampled_from([0, 0.1]), st.booleans())
def test_rmsprop(size, dtype, momentum, decay, centered):
    param, *grads = data(size, dtype, 4)
    zeros = np.zeros_like(param)
    state = [param, zeros, zeros if momentum else None, zeros if centered else None]
    compare("rmsprop", state, grads, 0.01, 0.9, 1e-2, decay, momentum, centered)


@settings(max_examples=20, deadline=None)
@given(SIZES, DTYPES, st.sampled_from([0, 0.1]), st.booleans())
def test_adam(size, dtype, decay, decoupled):
    param, *grads = data(size, dtype, 4)
    zeros = np.zeros_like(param)
    compare("adam", [param, zeros, zeros], grads, 0.01, 0.9, 0.99, 1e-8, decay, decoupled)


@settings(max_examples=10, deadline=None)
@given(SIZES, DTYPES)
def test_ema(size, dtype):
    average, *params = data(size, dtype, 3)
    compare("ema", [average], params, 0.99)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_steps_by_hand(target):
    one, zero, grads = np.ones(1), np.zeros(1), [np.array([2.0]), np.array([-1.0])]
    # velocity 2, then 0.9 * 2 - 1 = 0.8
    p, v = run(target, "sgd", [one, zero], grads, 0.1, 0.9, 0.0, 0.0, False)
    np.testing.assert_allclose([p[0], v[0]], [1 - 0.1 * 2 - 0.1 * 0.8, 0.8])
    # nesterov: moves are 2 + 0.9 * 2 and -1 + 0.9 * 0.8
    p, _ = run(target, "sgd", [one, zero], grads, 0.1, 0.9, 0.0, 0.0, True)
    np.testing.assert_allclose(p[0], 1 - 0.1 * 3.8 + 0.1 * 0.28)
    # square 0.4, then 0.46
    p, s, _, _ = run(
        target, "rmsprop", [one, zero, None, None], grads, 0.1, 0.9, 0.0, 0.0, 0.0, False
    )
    np.testing.assert_allclose(p[0], 1 - 0.2 / 0.4**0.5 + 0.1 / 0.46**0.5)
    np.testing.assert_allclose(s[0], 0.46)
    # centred: averages 0.2 and 0.08, so variances 0.36 and 0.4536
    p, _, _, a = run(
        target, "rmsprop", [one, zero, None, zero], grads, 0.1, 0.9, 0.0, 0.0, 0.0, True
    )
    np.testing.assert_allclose(p[0], 1 - 0.2 / 0.6 + 0.1 / 0.4536**0.5)
    np.testing.assert_allclose(a[0], 0.08)
    # the first step of Adam is lr * sign; then m = 0.08 / 0.19, v = 0.00499 / 0.001999
    p, m, v = run(
        target, "adam", [one, zero, zero], grads, 0.1, 0.9, 0.999, 0.0, 0.0, False
    )
    np.testing.assert_allclose([m[0], v[0]], [0.08, 0.999 * 0.004 + 0.001])
    np.testing.assert_allclose(
        p[0], 1 - 0.1 - 0.1 * (0.08 / 0.19) / (0.004996 / 0.001999) ** 0.5
    )
    # decoupled decay shrinks the parameter before the step
    p, _, _ = run(
        target, "adam", [one, zero, zero], grads[:1], 0.1, 0.9, 0.999, 0.0, 0.5, True
    )
    np.testing.assert_allclose(p[0], 0.95 - 0.1)


def test_cpu_refuses_memory_it_cannot_update_in_place():
    strided = np.zeros((4, 4))[:, ::2]
    with kernels.use("cpu"), pytest.raises(ValueError, match="C-contiguous"):
        kernels.ema(strided, np.zeros((4, 2)), 0.9)
    with kernels.use("cpu"), pytest.raises(ValueError, match=r"shape \(4,\)"):
        kernels.ema(np.zeros((4, 2)), np.zeros(4), 0.9)
    one = np.ones(4, np.float32)
    with kernels.use("cpu"), pytest.raises(ValueError, match=r"float64 array .* expected float32"):
        kernels.sgd(one, one, np.zeros(4), 0.1, 0.9, 0.0, 0.0, False)
