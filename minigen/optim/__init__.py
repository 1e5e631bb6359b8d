"""Optimisers, schedules of the learning rate, the average of weights, and clipping.

An optimiser lays its parameters side by side in memory (`flat.py`) and steps over them with one
kernel call. Formulas and defaults are those of torch.optim. Nothing here computes a gradient.
"""

from minigen.optim.clip import clip_grad_norm, clip_grad_value, clip_weights
from minigen.optim.ema import EMA
from minigen.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from minigen.optim.schedules import (
    constant,
    cosine,
    exponential,
    linear_warmup,
    polynomial,
    step_decay,
)

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "clip_weights",
    "constant",
    "cosine",
    "exponential",
    "linear_warmup",
    "polynomial",
    "step_decay",
]
