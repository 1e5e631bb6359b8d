"""Losses on logits: the cost, summed as it is made, and its gradient, each one pass over memory.

float64 goes to the reference.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..reference import loss as reference
from .elementwise import exp_element, log1p_element, sigmoid_element
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL, as_rows, contiguous_last, like_rows

PART = 8192  # elements whose costs are added in float32 lanes before the sum goes on in float64


def logit_cost(x: np.ndarray, target: np.ndarray, keep: int) -> np.ndarray:
    """softplus(x) - x target, summed over all axes but the first `keep`."""
    if x.dtype != np.float32:
        return reference.logit_cost(x, target, keep)
    shape = x.shape[:keep]
    out = np.zeros(shape, x.dtype)
    if x.size:
        x, target = _in_rows(math.prod(shape), _last(x, keep), _last(target, keep))
        _cost(x, target, out.reshape(-1))
    return out


def logit_cost_grad(grad: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """grad (sigmoid(x) - target), grad of x's first axes."""
    if x.dtype != np.float32:
        return reference.logit_cost_grad(grad, x, target)
    seen, target = _last(x, grad.ndim), _last(target, grad.ndim)
    dx = np.empty(seen.shape, x.dtype)
    if x.size:
        rows, target = _in_rows(grad.size, seen, target)
        grad = np.ascontiguousarray(grad, x.dtype).reshape(-1)
        _cost_grad(grad, rows, target, dx.reshape(rows.shape))
    return dx if seen is x else dx.transpose(0, 3, 1, 2)


def label_cost(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log softmax of x (N, C, ...) over C at the labels (N, ...); 0 where label < 0."""
    if x.dtype != np.float32 or x.size == 0:
        return reference.label_cost(x, labels)
    out = np.empty(labels.shape, x.dtype)
    _label_cost(as_rows(x), np.ascontiguousarray(labels, np.int64).reshape(-1), out.reshape(-1))
    return out


def label_cost_grad(grad: np.ndarray, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """grad (softmax(x) - 1 at the label), 0 where label < 0."""
    if x.dtype != np.float32 or x.size == 0:
        return reference.label_cost_grad(grad, x, labels)
    rows = as_rows(x)
    dx = np.empty_like(rows)
    grad, labels = np.ascontiguousarray(grad, x.dtype), np.ascontiguousarray(labels, np.int64)
    _label_cost_grad(grad.reshape(-1), rows, labels.reshape(-1), dx)
    return like_rows(dx, x.shape)


def _last(x, keep):
    """x with its channels last, as images lie in memory, unless the axes kept forbid it."""
    if x.ndim != 4 or keep > 1:
        return x
    return contiguous_last(x) if x.dtype == np.float32 else x.transpose(0, 2, 3, 1)


def _in_rows(rows, *arrays):
    return [np.ascontiguousarray(a, np.float32).reshape(rows, a.size // rows) for a in arrays]


@inline_kernel
def _element(x, target):
    zero = type(x)(0)
    return ((x if x > zero else zero) - x * target) + log1p_element(exp_element(-abs(x)))


@helper
def _part(x, target):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += _element(x[i], target[i])
    return total


@helper
def _row(x, target):
    total = 0.0
    for start in range(0, x.size, PART):
        total += _part(x[start : start + PART], target[start : start + PART])
    return total


@parallel_kernel
def _cost(x, target, out):
    rows, columns = x.shape
    if columns == 1:
        for i in prange(rows):
            out[i] = _element(x[i, 0], target[i, 0])
    elif x.size < SERIAL:
        for i in range(rows):
            out[i] = _row(x[i], target[i])
    elif rows > 4:
        for i in prange(rows):
            out[i] = _row(x[i], target[i])
    else:
        parts = -(-columns // PART)
        sums = np.empty((rows, parts))
        for task in prange(rows * parts):
            i, at = task // parts, task % parts * PART
            sums[i, task % parts] = _part(x[i, at : at + PART], target[i, at : at + PART])
        for i in range(rows):
            out[i] = sums[i].sum()


@parallel_kernel
def _cost_grad(grad, x, target, dx):
    rows, columns = x.shape
    if columns == 1:
        for i in prange(rows):
            dx[i, 0] = grad[i] * (sigmoid_element(x[i, 0]) - target[i, 0])
    elif x.size < SERIAL:
        for i in range(rows):
            for j in range(columns):
                dx[i, j] = grad[i] * (sigmoid_element(x[i, j]) - target[i, j])
    elif rows > 4:
        for i in prange(rows):
            for j in range(columns):
                dx[i, j] = grad[i] * (sigmoid_element(x[i, j]) - target[i, j])
    else:
        for i in range(rows):
            g = grad[i]
            for j in prange(columns):
                dx[i, j] = g * (sigmoid_element(x[i, j]) - target[i, j])


@helper
def _exps(row, y):
    """y = e^(row - its largest), their sum, and the largest."""
    largest = row[0]
    for j in range(row.size):
        largest = row[j] if row[j] > largest or row[j] != row[j] else largest
    total = row.dtype.type(0)
    for j in range(row.size):
        y[j] = exp_element(row[j] - largest)
        total += y[j]
    return total, largest


@parallel_kernel
def _label_cost(x, labels, out):
    rows, classes = x.shape
    chunks = 1 if x.size < SERIAL // 4 else 64
    for chunk in prange(chunks):
        y = np.empty(classes, x.dtype)
        for i in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
            if labels[i] < 0:
                out[i] = 0
            else:
                total, largest = _exps(x[i], y)
                out[i] = np.log(total) - (x[i, labels[i]] - largest)


@parallel_kernel
def _label_cost_grad(grad, x, labels, dx):
    rows, classes = x.shape
    chunks = 1 if x.size < SERIAL // 4 else 64
    for chunk in prange(chunks):
        for i in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
            if labels[i] < 0:
                dx[i] = 0
            else:
                total, _ = _exps(x[i], dx[i])
                scale = grad[i] / total
                for j in range(classes):
                    dx[i, j] *= scale
                dx[i, labels[i]] -= grad[i]
