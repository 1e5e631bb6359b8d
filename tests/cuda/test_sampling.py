"""The reparameterisation trick on the device: its noise bit for bit, the rest to the tolerance."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (5, 7), (4, 16)])
def test_forward_and_backward(gpu, shape, dtype):
    rng = np.random.default_rng(2)
    mu, log_var, g, h = (np.asarray(rng.normal(size=shape), dtype) for _ in range(4))
    *_, noise = check("reparameterize", mu, log_var, 2**63 + 5, 11, rtol=2e-6, atol=1e-6)
    drawn = kernels.philox_normal(2**63 + 5, 11, mu.size, mu.dtype).reshape(shape)
    np.testing.assert_array_equal(noise.get(), drawn)
    check("reparameterize_grad", g, h, mu, log_var, drawn, rtol=2e-6, atol=1e-6)


def test_other_memory_orders_and_small_variances(gpu):
    rng = np.random.default_rng(3)
    mu, log_var = (rng.normal(size=(6, 5)).astype(np.float32).T for _ in range(2))
    check("reparameterize", mu, log_var * 1e-4, 1, 2, rtol=2e-6, atol=1e-6)
    z, kl, _ = check("reparameterize", mu[::2], log_var[::2] - 80, 1, 2, rtol=2e-6, atol=1e-6)
    assert np.isfinite(z.get()).all() and np.isfinite(kl.get()).all()


def test_a_counter_on_the_device_gives_the_same_bits(gpu):
    mu = gpu.asarray(np.linspace(-1, 1, 21, dtype=np.float32).reshape(3, 7))
    counter = gpu.asarray(np.array(40, np.uint64))
    plain = kernels.reparameterize(mu, mu, 9, 42)
    for a, b in zip(plain, kernels.reparameterize(mu, mu, 9, (counter, 2)), strict=True):
        np.testing.assert_array_equal(a.get(), b.get())


def test_a_small_grid_strides_over_the_rest(gpu, monkeypatch):
    monkeypatch.setattr("minigen.kernels.cuda.arrays.BLOCKS", 1)
    mu, log_var = np.random.default_rng(4).normal(size=(2, 1234)).astype(np.float32)
    *_, noise = check("reparameterize", mu, log_var, 1, 2, rtol=2e-6, atol=1e-6)
    check("reparameterize_grad", log_var, mu, mu, log_var, noise.get(), rtol=2e-6, atol=1e-6)
