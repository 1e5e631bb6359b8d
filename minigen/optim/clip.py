"""Clipping: of gradients, by norm or by value, and of weights: three cures by three names."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigen.graph import recorded
from minigen.optim.flat import memory
from minigen.optim.state import named_leaves
from minigen.tensor import Tensor, raw


@recorded
def clip_grad_norm(
    grads: Sequence[Tensor | None], max_norm: float
) -> tuple[list[Tensor | None], float]:
    """(gradients, norm): scaled to a joint 2-norm of at most max_norm, and the norm they had.

    Gradients that are short enough come back as they are (Pascanu et al. 2013). A norm that is
    not finite is returned as it is; watch for it.
    """
    squares = 0.0
    for g in grads:
        if g is not None:
            flat = memory(raw(g))
            flat = raw(g).ravel() if flat is None else flat
            squares += float(np.vdot(flat, flat).real)
    norm = math.sqrt(squares)
    scale = max_norm / (norm + 1e-6)
    if scale >= 1:
        return list(grads), norm
    return [None if g is None else Tensor(raw(g) * scale) for g in grads], norm


@recorded
def clip_grad_value(grads: Sequence[Tensor | None], limit: float) -> list[Tensor | None]:
    """The gradients with every element clipped to [-limit, limit]."""
    return [None if g is None else Tensor(np.clip(raw(g), -limit, limit)) for g in grads]


@recorded
def clip_weights(parameters: Any, limit: float) -> None:
    """Clip every weight of a model, or of a list of Tensors, to [-limit, limit] in place.

    It keeps the critic of a WGAN Lipschitz (Arjovsky et al. 2017, algorithm 1); it is not
    gradient clipping.
    """
    for t in named_leaves("clip_weights", parameters)[1]:
        np.clip(t.data, -limit, limit, out=t.data)
        t.version[0] += 1
