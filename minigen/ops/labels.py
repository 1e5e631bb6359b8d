"""Losses at class labels, as in torch.nn.functional, except that unequal shapes raise.

What may never live here: other losses (loss). Labels are checked and counted in ops, so that a
captured step checks and counts those of each call.
"""

import math
from typing import Any

import numpy as np

from minigen.autograd import composed, op
from minigen.ops.activation import log_softmax
from minigen.ops.cases import case, integers, normal, positive
from minigen.ops.choosing import maximum, where
from minigen.ops.index import take_along_axis
from minigen.ops.logits import label_cost
from minigen.ops.loss import reduced
from minigen.ops.reduction import all, sum
from minigen.ops.shape import expand_dims, reshape, squeeze
from minigen.tensor import Tensor, asarray

__all__ = ["cross_entropy", "nll_loss"]

TARGET = np.array([1, -100, 2, 0])


@composed(
    cases=[
        case(normal(4, 3), TARGET, positive(3)),
        case(normal(4, 3), TARGET, positive(3), label_smoothing=0.2),
        case(normal(2, 3, 2), integers(0, 3, 2, 2), reduction="none"),
        case(normal(3), np.array(2)),
        case(normal(3, 4), positive(3, 4), positive(4), label_smoothing=0.1),
    ]
)
def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax of input (N, C, ...) or (C,) at labels (N, ...), or under probabilities.

    Labels of `ignore_index` do not count; the mean over labels is weighted by `weight` (C,), that
    over probabilities counts positions. Raises ValueError if shapes do not fit, IndexError for a
    label outside [0, C).
    """
    where_ = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{where_}: label_smoothing is {label_smoothing}; expected it in [0, 1]")
    axis = _class_axis(where_, input)
    target = asarray(target)
    if target.dtype.kind not in "f":
        if weight is None and not label_smoothing and axis == 1 and input.dtype.char in "fd":
            return _label_cost(where_, input, target, ignore_index, reduction)
        scores = log_softmax(input, axis)
        return _nll(where_, scores, target, weight, ignore_index, reduction, label_smoothing)
    scores = log_softmax(input, axis)
    if target.shape != input.shape:
        raise ValueError(
            f"{where_}: target of probabilities has shape {target.shape}, input {input.shape};"
            " expected the same, or integer labels"
        )
    classes = input.shape[axis]
    _check_weight(where_, weight, classes)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    loss = scores * target if weight is None else scores * target * _along(weight, input.ndim, axis)
    loss = -sum(loss, axis)
    if reduction != "mean":
        return reduced(where_, loss, reduction)
    return sum(loss) / (input.size / classes)


@composed(
    cases=[
        case(normal(4, 3), TARGET, positive(3)),
        case(normal(2, 3, 2), integers(0, 3, 2, 2), reduction="sum"),
    ]
)
def nll_loss(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input, of log-probabilities (N, C, ...) or (C,), at labels (N, ...); see cross_entropy."""
    return _nll("nll_loss", input, asarray(target), weight, ignore_index, reduction, 0.0)


def _label_cost(name, input, target, ignore_index, reduction):
    """Plain cross entropy at labels: one kernel, and one for its gradient."""
    labels = _labels(name, input, 1, target, ignore_index)
    loss = label_cost(input, labels)
    return label_mean(loss, labels) if reduction == "mean" else reduced(name, loss, reduction)


def _labels(name, scores, axis, target, ignore_index):
    expected = scores.shape[:axis] + scores.shape[axis + 1 :]
    if target.shape != expected or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: target has shape {target.shape} and dtype {target.dtype}, input"
            f" {scores.shape} needs integer labels of shape {expected}"
        )
    return counted_labels(target, scores.shape[axis], ignore_index, name)


@op(differentiable=False)
def counted_labels(target, classes, ignore_index, name):
    """The labels as int64, -1 for those that do not count; IndexError for one outside.

    On a GPU, where a look would wait for all that was asked of it, one outside does not raise: it
    makes its loss NaN.
    """
    counted = target != ignore_index
    outside = counted & ((target < 0) | (target >= classes))
    if not isinstance(target, np.ndarray):
        return np.where(counted, np.where(outside, classes, target), -1).astype(np.int64)
    if outside.any():
        raise IndexError(
            f"{name}: label {target[outside][0]} is outside 0..{classes - 1} (and not ignore_index"
            f" {ignore_index})"
        )
    return np.where(counted, target, -1).astype(np.int64)


LABELS = np.array([1, -1, 2, 0])


@op(linear=("losses",), cases=[case(normal(4), LABELS), case(normal(2, 2), integers(0, 3, 2, 2))])
def label_mean(losses, labels, of_nothing=math.nan):
    """The sum of losses over the number of labels from 0 on; where that is 0, plus of_nothing."""
    count = np.sum(labels >= 0)
    nothing = np.where(count > 0, 0.0, of_nothing).astype(losses.dtype)
    return losses.sum() / np.maximum(count, 1).astype(losses.dtype) + nothing


@op(linear=("grad",), cases=[case(normal(), LABELS)])
def label_mean_grad(grad, labels):
    """grad over the number of labels from 0 on, or 1, for each loss."""
    count = np.maximum(np.sum(labels >= 0), 1).astype(grad.dtype)
    return np.broadcast_to(grad / count, labels.shape)


label_mean.vjp(losses=lambda g, labels: label_mean_grad(g, labels))
label_mean_grad.vjp(grad=lambda g, labels: label_mean(g, labels, 0.0))


def _nll(name, scores, target, weight, ignore_index, reduction, smoothing):
    axis = _class_axis(name, scores)
    classes = scores.shape[axis]
    labels = _labels(name, scores, axis, target, ignore_index)
    _check_weight(name, weight, classes)
    counted = (labels >= 0).astype(scores.dtype)
    at = maximum(labels, 0)
    shares = counted  # the weight of each position
    if weight is not None:
        shares = take_along_axis(weight, reshape(at, -1), 0).reshape(at.shape) * counted
    loss = -squeeze(take_along_axis(scores, expand_dims(at, axis), axis), axis) * shares
    if smoothing:
        weighted = scores if weight is None else scores * _along(weight, scores.ndim, axis)
        loss = (1 - smoothing) * loss + (smoothing / classes) * (-sum(weighted, axis) * counted)
    if reduction != "mean":
        return reduced(name, loss, reduction)
    nothing = all(labels < 0)  # the mean of nothing is NaN; its gradient is 0, as in torch
    return where(nothing, math.nan, sum(loss) / (sum(shares) + nothing.astype(shares.dtype)))


def _class_axis(name, input):
    if input.ndim == 0:
        raise ValueError(f"{name}: input has no axis of classes; expected (N, C, ...) or (C,)")
    return 0 if input.ndim == 1 else 1


def _along(values, ndim, axis):
    return reshape(values, tuple(-1 if i == axis else 1 for i in range(ndim)))


def _check_weight(name, weight, classes):
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {weight.shape}; expected {(classes,)}")
