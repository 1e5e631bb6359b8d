"""The reparameterisation trick with its KL term in plain NumPy (Kingma & Welling 2013, app. B)."""

import numpy as np

from .random import philox_normal


def reparameterize(mu: np.ndarray, log_var: np.ndarray, key: int, counter: int):
    """z = mu + exp(log_var / 2) noise, the KL to N(0, 1) of every unit in nats, and the noise.

    All have mu's shape; noise is philox_normal(key, counter, mu.size) in C order.
    """
    noise = philox_normal(key, counter, mu.size, mu.dtype).reshape(mu.shape)
    with np.errstate(over="ignore"):
        z = mu + np.exp(0.5 * log_var) * noise
        kl = 0.5 * (mu * mu + (np.expm1(log_var) - log_var))
    return z, kl, noise


def reparameterize_grad(grad_z, grad_kl, mu, log_var, noise):
    """dmu, dlog_var from the gradients of z and of the KL of every unit."""
    with np.errstate(over="ignore"):
        dmu = grad_z + grad_kl * mu
        dlog_var = 0.5 * (grad_z * noise * np.exp(0.5 * log_var) + grad_kl * np.expm1(log_var))
    return dmu, dlog_var
