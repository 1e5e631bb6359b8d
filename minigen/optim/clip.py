"""Clipping: of gradients, by norm or by value, and of weights: three cures by three names."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigen import backend
from minigen.graph import recorded, written
from minigen.optim.flat import memory
from minigen.optim.state import named_leaves
from minigen.tensor import Tensor, raw


@recorded
def clip_grad_norm(
    grads: Sequence[Tensor | None], max_norm: float
) -> tuple[list[Tensor | None], float | Tensor]:
    """(gradients, norm): scaled to a joint 2-norm of at most max_norm, and the norm they had.

    Gradients that are short enough come back as they are (Pascanu et al. 2013). A norm that is
    not finite is returned as it is; watch for it. On a GPU it is a 0-d Tensor: a float would wait.
    """
    squares: Any = 0.0
    if any(g is not None and backend.device_of(raw(g)) != backend.CPU for g in grads):
        return _clip_on_device(grads, max_norm)
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


def _clip_on_device(grads, max_norm):
    """clip_grad_norm by arrays alone: scaled by 1 where the norm is small enough."""
    found = [np.square(raw(g)).sum(dtype=np.float64) for g in grads if g is not None]
    norm = np.sqrt(sum(found[1:], found[0]))
    scale = np.minimum(max_norm / (norm + 1e-6), 1.0)
    clipped = [None if g is None else raw(g) * scale.astype(g.dtype) for g in grads]
    return [None if g is None else Tensor(g) for g in clipped], Tensor(norm)


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
        written(t)
