"""Optimiser steps: one fused pass over flat memory, in place.

A thread reads four elements, a whole grid apart, before it changes one, so that enough loads are
in flight. Numbers read and written per element: sgd 2 + 1 (with momentum 3 + 2), rmsprop 3 + 2
(5 + 4 with all of its state), adam 4 + 3, ema 2 + 1.

`lr`, `step` and `decay` may change from step to step: where `live` is set they are what memory
at `live_lr` and so on holds when the kernel runs.
"""

from __future__ import annotations

from ... import formulas
from .language import FLOATS, cuda, device, float64, kernel

sgd_element = device(formulas.sgd_element)
momentum_element = device(formulas.momentum_element)
rmsprop_move = device(formulas.rmsprop_move)
adam_rates = device(formulas.adam_rates)
adam_element = device(formulas.adam_element)
ema_element = device(formulas.ema_element)


@kernel("p: T*, g: T*, v: T*, n: int, live: int, live_lr: float64*, lr: float, momentum: float,"
        "share: float, decay: float, nesterov: int", T=FLOATS)  # fmt: skip
def sgd(T):
    def run(p, g, v, n, live, live_lr, lr, momentum, share, decay, nesterov):
        rate, mass, part, wane = T(live_lr[0] if live else lr), T(momentum), T(share), T(decay)
        ps, gs, vs = cuda.local.array(4, T), cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = i + k * step if i + k * step < n else i  # beyond: its own again
                ps[k], gs[k] = p[at], g[at]
                vs[k] = v[at] if mass != T(0) else T(0)
            for k in range(4):
                at = i + k * step
                if at < n:
                    if mass == T(0):
                        p[at] = sgd_element(ps[k], gs[k], rate, wane)
                    else:
                        p[at], v[at] = momentum_element(
                            ps[k], gs[k], vs[k], rate, mass, part, wane, nesterov
                        )
            i += 4 * step

    return run


@kernel("p: T*, g: T*, s: T*, v: T*, a: T*, n: int, live: int, live_lr: float64*, lr: float,"
        "alpha: float, share: float, eps: float, decay: float, momentum: float, centered: int",
        registers=80, T=FLOATS)  # fmt: skip
def rmsprop(T):
    def run(
        p, g, s, v, a, n, live, live_lr, lr, alpha, share, eps, decay, momentum, centered
    ):  # fmt: skip
        rate, mass = T(live_lr[0] if live else lr), T(momentum)
        keep, part, least, wane = T(alpha), T(share), T(eps), T(decay)
        ps, gs, ss = cuda.local.array(4, T), cuda.local.array(4, T), cuda.local.array(4, T)
        vs, means = cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = i + k * step if i + k * step < n else i  # beyond: its own again
                ps[k], gs[k], ss[k] = p[at], g[at], s[at]
                vs[k] = v[at] if mass != T(0) else T(0)
                means[k] = a[at] if centered else T(0)
            for k in range(4):
                at = i + k * step
                if at < n:
                    move, s[at], mean = rmsprop_move(
                        ps[k], gs[k], ss[k], means[k], keep, part, least, wane, centered
                    )
                    if centered:
                        a[at] = mean
                    if mass != T(0):
                        move += mass * vs[k]
                        v[at] = move
                    p[at] = ps[k] - rate * move
            i += 4 * step

    return run


@kernel("p: T*, g: T*, m: T*, v: T*, n: int, live: int, live_lr: float64*, live_step: float64*,"
        "lr: float, step: float, beta1: float, beta2: float, eps: float, weight_decay: float,"
        "decoupled: int", doubles=True, registers=80, T=FLOATS)  # fmt: skip
def adam(T):
    def run(
        p, g, m, v, n, live, live_lr, live_step, lr, step, beta1, beta2, eps, weight_decay,
        decoupled,
    ):  # fmt: skip
        rates = cuda.shared.array(4, float64)
        if cuda.threadIdx.x == 0:  # the powers are slow: once a block
            rates[0], rates[1], rates[2], rates[3] = adam_rates(
                live_lr[0] if live else lr, beta1, beta2, weight_decay, decoupled,
                live_step[0] if live else step,
            )  # fmt: skip
        cuda.syncthreads()
        keep, decay, rate, root = T(rates[0]), T(rates[1]), T(rates[2]), T(rates[3])
        share1, kept2, share2, least = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps)
        ps, gs = cuda.local.array(4, T), cuda.local.array(4, T)
        ms, vs = cuda.local.array(4, T), cuda.local.array(4, T)
        i, stride = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = i + k * stride if i + k * stride < n else i  # beyond: its own again
                ps[k], gs[k], ms[k], vs[k] = p[at], g[at], m[at], v[at]
            for k in range(4):
                at = i + k * stride
                if at < n:
                    p[at], m[at], v[at] = adam_element(
                        ps[k], gs[k], ms[k], vs[k], keep, decay, share1, kept2, share2, rate,
                        root, least,
                    )  # fmt: skip
            i += 4 * stride

    return run


@kernel("average: T*, p: T*, n: int, live: int, live_decay: float64*, decay: float",
        doubles=True, T=FLOATS)  # fmt: skip
def ema(T):
    def run(average, p, n, live, live_decay, decay):
        whole = live_decay[0] if live else decay
        keep, take = T(whole), T(1.0 - whole)
        averages, ps = cuda.local.array(4, T), cuda.local.array(4, T)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            for k in range(4):
                at = i + k * step if i + k * step < n else i  # beyond: its own again
                averages[k], ps[k] = average[at], p[at]
            for k in range(4):
                at = i + k * step
                if at < n:
                    average[at] = ema_element(averages[k], ps[k], keep, take)
            i += 4 * step

    return run
