"""Reparameterisation: cpu against the reference, the closed forms, the gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigen import kernels

KEY, COUNTER = 2**63 + 5, 77


def both(name, *args):
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"):
        return fast, getattr(kernels, name)(*args)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.one_of(
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9), st.just((200, 100))
    ),
    dtype=st.sampled_from([np.float32, np.float64]),
    transposed=st.booleans(),
)
def test_equals_reference(shape, dtype, transposed):
    rng = np.random.default_rng(9)
    arrays = rng.standard_normal((4, *shape)).astype(dtype)
    mu, log_var, grad_z, grad_kl = (a.T if transposed else a for a in arrays)
    kept = arrays.copy()
    fast, slow = both("reparameterize", mu, log_var, KEY, COUNTER)
    np.testing.assert_array_equal(fast[2], slow[2])
    gradients = both("reparameterize_grad", grad_z, grad_kl, mu, log_var, slow[2])
    tolerance = 3e-6 if dtype == np.float32 else 1e-13
    for one, other in [*zip(fast, slow, strict=True), *zip(*gradients, strict=True)]:
        assert one.dtype == dtype and one.shape == mu.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(arrays, kept)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_kl_is_the_closed_form_and_tiny_when_close(target):
    with kernels.use(target):
        _, kl, _ = kernels.reparameterize(np.array([0.0, 2.0]), np.array([0.0, 0.0]), KEY, 0)
        np.testing.assert_array_equal(kl, [0, 2])
        _, kl, _ = kernels.reparameterize(np.zeros(1), np.array([1e-6]), KEY, 0)
        # 0.5 (e^l - 1 - l) = l^2 / 4 to first order
        np.testing.assert_allclose(kl, 2.5e-13, rtol=1e-3)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_gradients_by_differences(target):
    rng = np.random.default_rng(10)
    mu, log_var, grad_z, grad_kl, direction = rng.standard_normal((5, 3, 4))
    h = 1e-6

    def loss(mu, log_var):
        z, kl, _ = kernels.reparameterize(mu, log_var, KEY, COUNTER)
        return np.sum(z * grad_z + kl * grad_kl)

    with kernels.use(target):
        noise = kernels.reparameterize(mu, log_var, KEY, COUNTER)[2]
        dmu, dlog_var = kernels.reparameterize_grad(grad_z, grad_kl, mu, log_var, noise)
        by_mu = (loss(mu + h * direction, log_var) - loss(mu - h * direction, log_var)) / (2 * h)
        by_var = (loss(mu, log_var + h * direction) - loss(mu, log_var - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.sum(dmu * direction), by_mu, rtol=1e-7)
    np.testing.assert_allclose(np.sum(dlog_var * direction), by_var, rtol=1e-7)
