"""Normalisations against their definitions in float64, running statistics, fused activations,
errors.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import kernels
from minigen.autograd import grad
from minigen.ops.activation import leaky_relu
from minigen.ops.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    pixel_norm,
)
from minigen.tensor import Tensor
from minigen.testing import gradcheck

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SHAPES = st.sampled_from([(4, 3), (3, 2, 5), (2, 3, 4, 5), (2, 2, 2, 3, 2), (0, 3, 2, 2)])


def standard(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def over(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 2))


@QUICK
@given(
    SHAPES, st.booleans(), st.sampled_from([None, 0.0, 0.2]), st.sampled_from(["reference", "cpu"]),
    st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_batch_norm_is_its_definition(shape, affine, slope, target, dtype):
    rng = np.random.default_rng(0)
    x = np.moveaxis(rng.standard_normal((shape[0], *shape[2:], shape[1])), -1, 1).astype(dtype)
    c = shape[1]
    w, b = (rng.standard_normal((2, c)).astype(dtype)) if affine else (None, None)
    mean, var = rng.standard_normal(c).astype(dtype), rng.uniform(0.5, 2, c).astype(dtype)
    tolerance = 1e-10 if dtype == np.float64 else 2e-5

    def finish(y):
        y = y if w is None else y * over(w, x) + over(b, x)
        return y if slope is None else np.where(y > 0, y, slope * y)

    with kernels.use(target):
        args = (None if w is None else Tensor(w), None if b is None else Tensor(b))
        fixed = batch_norm(
            Tensor(x), Tensor(mean), Tensor(var), *args, eps=1e-3, negative_slope=slope
        )
        expected = finish((x - over(mean, x)) / np.sqrt(over(var, x) + 1e-3))
        np.testing.assert_allclose(fixed.numpy(), expected, atol=tolerance, rtol=tolerance)
        assert fixed.dtype == dtype
        running = Tensor(mean.copy()), Tensor(var.copy())
        y = batch_norm(Tensor(x), *running, *args, True, 0.3, 1e-3, negative_slope=slope)
    if x.size == 0:
        assert y.shape == shape
        np.testing.assert_array_equal(running[0].numpy(), mean)
        return
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(
        y.numpy(), finish(standard(x.astype(float), axes, 1e-3)), atol=tolerance, rtol=tolerance
    )
    moved = 0.7 * mean + 0.3 * x.mean(axes), 0.7 * var + 0.3 * x.var(axes, ddof=1)
    for array, expected in zip(running, moved, strict=True):
        np.testing.assert_allclose(array.numpy(), expected, rtol=1e-5, atol=1e-6)
        assert array.version[0] == 1


def test_batch_norm_keeps_no_statistics_it_is_not_given():
    x = Tensor(np.random.default_rng(0).standard_normal((4, 2, 3)))
    y = batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(y.numpy(), standard(x.numpy(), (0, 2), 1e-5), atol=1e-12)
    mean = np.zeros(2)
    batch_norm(x, mean, np.ones(2), training=True, momentum=1.0)  # plain arrays work too
    np.testing.assert_allclose(mean, x.numpy().mean((0, 2)), atol=1e-12)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_fused_activation_is_the_activation_to_third_order(target):
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((3, 2, 2, 3)), rng.uniform(1, 2, 2), rng.standard_normal(2)

    def fused(x, w, b):
        return batch_norm(x, None, None, w, b, True, negative_slope=0.2)

    def apart(x, w, b):
        return leaky_relu(batch_norm(x, None, None, w, b, True), 0.2)

    with kernels.use(target):
        found = []
        for fn in (fused, apart):
            inputs = [Tensor(v) for v in (x, w, b)]
            for t in inputs:
                t.requires_grad = True
            first = grad((fn(*inputs) ** 3).sum(), inputs, create_graph=True)
            second = grad(sum((g**2).sum() for g in first), inputs)
            found.append([*first, *second])
        for a, b_ in zip(*found, strict=True):
            np.testing.assert_allclose(a.numpy(), b_.numpy(), rtol=1e-9, atol=1e-9)
        gradcheck(fused, [x, w, b], order=3, tolerance=1e-5)


def test_only_the_statistics_of_a_far_mean_are_lost():
    x = np.random.default_rng(1).standard_normal((64, 2, 8, 8)).astype(np.float32)
    near = batch_norm(Tensor(x), None, None, training=True).numpy()
    far = batch_norm(Tensor(x + np.float32(1000)), None, None, training=True).numpy()
    np.testing.assert_allclose(far, near, atol=2e-3)  # x + 1000 itself is rounded to 6e-5


def test_the_others_are_their_definitions():
    rng = np.random.default_rng(2)
    x, w, b = rng.standard_normal((2, 4, 3, 5)), rng.standard_normal(4), rng.standard_normal(4)
    t = Tensor(x)
    affine = over(w, x), over(b, x)
    lw, lb = rng.standard_normal((2, 3, 5))
    np.testing.assert_allclose(
        layer_norm(t, (3, 5), Tensor(lw), Tensor(lb)).numpy(),
        standard(x, (2, 3), 1e-5) * lw + lb, atol=1e-12,
    )  # fmt: skip
    groups = standard(x.reshape(2, 2, 2, 3, 5), (2, 3, 4), 1e-5).reshape(x.shape)
    np.testing.assert_allclose(
        group_norm(t, 2, Tensor(w), Tensor(b)).numpy(), groups * affine[0] + affine[1], atol=1e-12
    )
    mean, var = Tensor(np.zeros(4)), Tensor(np.ones(4))
    np.testing.assert_allclose(
        instance_norm(t, mean, var, Tensor(w), Tensor(b)).numpy(),
        standard(x, (2, 3), 1e-5) * affine[0] + affine[1], atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(mean.numpy(), 0.1 * x.mean((0, 2, 3)), atol=1e-12)
    moved = 0.9 + 0.1 * x.var((2, 3), ddof=1).mean(0)
    np.testing.assert_allclose(var.numpy(), moved, atol=1e-12)
    np.testing.assert_allclose(
        instance_norm(t, mean, var, use_input_stats=False).numpy(),
        batch_norm(t, mean, var).numpy(), atol=1e-12,
    )  # fmt: skip
    rms = np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(pixel_norm(t).numpy(), x / rms, atol=1e-12)
    around = np.pad(np.square(x), ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
    np.testing.assert_allclose(
        local_response_norm(t, 3, 0.3, 0.5, 2.0).numpy(), x / (2 + 0.1 * total) ** 0.5, atol=1e-12
    )


@pytest.mark.parametrize("p", [1, 2, 3.5, np.inf])
def test_normalize_gives_unit_vectors_and_spares_zeros(p):
    x = np.random.default_rng(0).standard_normal((3, 4))
    x[1] = 0
    t = Tensor(x)
    t.requires_grad = True
    y = normalize(t, p)
    size = np.linalg.norm(x, p, axis=1, keepdims=True)
    np.testing.assert_allclose(y.numpy(), x / np.where(size == 0, 1, size), atol=1e-12)
    (slope,) = grad(y[:, 0].sum(), [t])
    assert np.isfinite(slope.numpy()).all()


X = Tensor(np.zeros((2, 4, 3)))
THREE = Tensor(np.zeros(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_norm(X, None, None), "training is False, which needs running_mean"),
        (
            lambda: batch_norm(Tensor(np.zeros((1, 4))), None, None, training=True),
            "more than 1 value per channel, input has shape (1, 4)",
        ),
        (
            lambda: batch_norm(X, None, None, THREE, training=True),
            "batch_norm: weight has shape (3,), input (2, 4, 3) needs (4,)",
        ),
        (lambda: batch_norm(THREE, None, None), "input has shape (3,); expected (N, C, ...)"),
        (lambda: layer_norm(X, (4,)), "its last axes must be normalized_shape (4,)"),
        (lambda: layer_norm(X, (4, 3), THREE), "weight has shape (3,); expected (4, 3)"),
        (lambda: group_norm(X, 3), "num_groups 3 must divide the channels of input (2, 4, 3)"),
        (lambda: group_norm(X, 2, THREE), "weight has shape (3,); expected (4,)"),
        (lambda: instance_norm(Tensor(np.zeros((2, 4, 1)))), "more than 1 value per channel"),
        (lambda: instance_norm(Tensor(np.zeros((2, 4)))), "input has shape (2, 4)"),
        (lambda: local_response_norm(X, 0), "size 0"),
    ],
)
def test_errors_name_both_values(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
