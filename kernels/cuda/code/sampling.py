"""The reparameterisation trick with its KL term: one pass that draws the noise as it goes.

Read and written per element: 2 + 3 numbers forward, 5 + 2 backward.
"""

from __future__ import annotations

import math

from ... import formulas
from .language import FLOATS, cuda, device, kernel, uint64
from .random import COUNTER, first_block, four_normals, write4

latent_element = device(formulas.latent_element)
kl_element = device(formulas.kl_element)
dmu_element = device(formulas.dmu_element)
dlog_var_element = device(formulas.dlog_var_element)


@device
def _unit(mu, log_var, at, noise):
    """z and the KL of one element."""
    T = type(mu[0])
    m, v = mu[at], log_var[at]
    return latent_element(m, T(noise), math.exp(T(0.5) * v)), kl_element(m, v, math.expm1(v))


@kernel(f"z: T*, kl: T*, noise: T*, mu: T*, log_var: T*, {COUNTER}",
        fused=False, doubles=True, registers=96, T=FLOATS)  # fmt: skip
def reparameterize(T):
    def run(z, kl, noise, mu, log_var, key, low, high, base, live, n):
        start = first_block(low, base, live)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while 4 * i < n:
            at, last = 4 * i, n - 1
            e0, e1, e2, e3 = four_normals(uint64(key), start, uint64(high), uint64(i))
            z0, kl0 = _unit(mu, log_var, at, e0)
            z1, kl1 = _unit(mu, log_var, min(at + 1, last), e1)
            z2, kl2 = _unit(mu, log_var, min(at + 2, last), e2)
            z3, kl3 = _unit(mu, log_var, min(at + 3, last), e3)
            write4(z, at, n, T(z0), T(z1), T(z2), T(z3))
            write4(kl, at, n, T(kl0), T(kl1), T(kl2), T(kl3))
            write4(noise, at, n, T(e0), T(e1), T(e2), T(e3))
            i += step

    return run


@kernel("dmu: T*, dlog_var: T*, grad_z: T*, grad_kl: T*, mu: T*, log_var: T*, noise: T*, n: int",
        T=FLOATS)  # fmt: skip
def reparameterize_grad(T):
    def run(dmu, dlog_var, grad_z, grad_kl, mu, log_var, noise, n):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            g, h, v = grad_z[i], grad_kl[i], log_var[i]
            direct = g * noise[i] * math.exp(T(0.5) * v)
            dmu[i] = dmu_element(g, h, mu[i])
            dlog_var[i] = dlog_var_element(direct, h, math.expm1(v))
            i += step

    return run
