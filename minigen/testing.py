"""Proofs for ops: gradients against finite differences to any order, adjoints by inner products.

All checks are made along random directions: a gradient that is right along several random
directions is right (a wrong one passes with probability zero), and a check costs two evaluations
instead of two an element.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigen.autograd import grad
from minigen.tensor import Tensor


class GradientError(AssertionError):
    """A gradient disagrees with finite differences, or an adjoint with its operator."""


def gradcheck(
    fn: Callable,
    inputs: Sequence[Any],
    order: int = 2,
    *,
    eps: float = 1e-4,
    tolerance: float = 1e-6,
    directions: int = 2,
    seed: int = 0,
) -> tuple[float, ...]:
    """Check the derivatives of `fn(*inputs)` up to `order` and return the error of each order.

    Raises GradientError for an error above `tolerance`. Floating inputs (arrays or Tensors, used in
    float64; complex in complex128) are differentiated, others passed as they are. Order k compares
    the derivative of the (k-1)-th vector-Jacobian product, with respect to the inputs and to the
    vector, with a five-point difference along random directions. Errors are relative to the
    magnitude of the derivative, at least 1.
    """
    errors = gradient_errors(fn, inputs, order, eps=eps, directions=directions, seed=seed)
    name = getattr(fn, "__name__", "function")
    for k, error in enumerate(errors, 1):
        if not error <= tolerance:
            raise GradientError(f"{name}: order-{k} error {error:.1e} is above {tolerance:.0e}")
    return errors


def gradient_errors(
    fn: Callable,
    inputs: Sequence[Any],
    order: int = 2,
    *,
    eps: float = 1e-4,
    directions: int = 2,
    seed: int = 0,
) -> tuple[float, ...]:
    """The relative error of each order, as `gradcheck` measures it, without raising."""
    rng = np.random.default_rng(seed)
    free = [i for i, x in enumerate(inputs) if _floating(x)]
    values = [_double(inputs[i]) for i in free]

    def call(*tensors):
        args = list(inputs)
        for i, t in zip(free, tensors, strict=True):
            args[i] = t
        out = fn(*args)
        return [t for t in (out if isinstance(out, (tuple, list)) else (out,)) if _floating(t)]

    errors = []
    for _ in range(order):
        outs = call(*map(Tensor, values))
        cotangents = [_random(rng, o.data) for o in outs]
        errors.append(_order_one(call, values, cotangents, rng, eps, directions))
        call, values = _product(call, len(values)), values + cotangents
    return tuple(errors)


def check_adjoint(
    forward: Callable, adjoint: Callable, x: Any, y: Any, tolerance: float = 1e-10
) -> float:
    """Check <forward(x), y> = <x, adjoint(y)> for a linear `forward` and return the relative gap.

    x and y are arrays or Tensors of the shapes of `forward`'s input and output. Raises
    GradientError for a gap above `tolerance`.
    """
    x, y = (np.asarray(v.data if isinstance(v, Tensor) else v) for v in (x, y))
    left = _inner(forward(Tensor(x)).data, y)
    right = _inner(x, adjoint(Tensor(y)).data)
    scale = max(1.0, np.linalg.norm(x) * np.linalg.norm(y))
    gap = abs(left - right) / scale
    if not gap <= tolerance:
        raise GradientError(f"adjoint: <Ax, y> = {left:.12g}, <x, A'y> = {right:.12g}")
    return gap


def _order_one(call, values, cotangents, rng, eps, directions):
    """The largest relative gap between <gradient, direction> and the difference quotient."""
    grads, _ = _gradients(call, values, cotangents)
    worst = 0.0
    for _ in range(directions):
        steps = [_random(rng, v) for v in values]
        exact = sum(_inner(g, s) for g, s in zip(grads, steps, strict=True))

        def along(t, steps=steps):
            outs = call(*[Tensor(v + t * s) for v, s in zip(values, steps, strict=True)])
            return sum(_inner(o.data, c) for o, c in zip(outs, cotangents, strict=True))

        numeric = (8 * (along(eps) - along(-eps)) - (along(2 * eps) - along(-2 * eps))) / (12 * eps)
        if not np.isfinite(exact - numeric):
            return float("inf")
        worst = max(worst, abs(exact - numeric) / max(1.0, abs(exact), abs(numeric)))
    return float(worst)


def _gradients(call, values, cotangents):
    leaves = [_leaf(v) for v in values]
    outs = call(*leaves)
    pairs = [(o, Tensor(c)) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return [np.zeros_like(v) for v in values], outs
    found = grad([o for o, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True)
    return [
        np.zeros_like(v) if g is None else g.data for g, v in zip(found, values, strict=True)
    ], outs


def _product(call, n):
    """The vector-Jacobian product of `call` as a function of its n inputs and of the vector."""

    def product(*args):
        inputs = [a if a.requires_grad else _leaf(a.data) for a in args[:n]]
        outs = call(*inputs)
        pairs = [(o, c) for o, c in zip(outs, args[n:], strict=True) if o.requires_grad]
        if not pairs:
            return [Tensor(np.zeros_like(a.data)) for a in inputs]
        outs, cotangents = zip(*pairs, strict=True)
        found = grad(outs, inputs, cotangents, create_graph=True, allow_unused=True)
        return [
            Tensor(np.zeros_like(a.data)) if g is None else g
            for g, a in zip(found, inputs, strict=True)
        ]

    return product


def _floating(x):
    return getattr(getattr(x, "dtype", None), "kind", "-") in "fc"


def _double(x):
    array = np.asarray(x.data if isinstance(x, Tensor) else x)
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return array.astype(wide, order="K")


def _random(rng, like):
    shape = np.shape(like)
    if np.iscomplexobj(like):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return rng.standard_normal(shape)


def _inner(a, b):
    """The real inner product; complex arrays are pairs of reals."""
    return float(np.real(np.vdot(b, a)))


def _leaf(value):
    t = Tensor(value)
    t.requires_grad = True
    return t
