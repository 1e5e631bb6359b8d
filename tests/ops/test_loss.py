"""Losses against their formulas, frozen values, tails, reductions and errors."""

import math

import numpy as np
import pytest

import minigen as mg
from minigen.autograd import grad
from minigen.ops import labels, loss
from minigen.tensor import Tensor

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3, 4))
P, Q = RNG.uniform(0.05, 0.95, (2, 3, 4))


def leaf(array):
    t = Tensor(np.asarray(array))
    t.requires_grad = True
    return t


def log_softmax(x, axis=1):
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def cross(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


D = np.abs(A - B)
CASES = [
    (loss.mse_loss, (A, B), {}, D**2),
    (loss.l1_loss, (A, B), {}, D),
    (loss.smooth_l1_loss, (A, B), {}, np.where(D < 1, D**2 / 2, D - 0.5)),
    (loss.smooth_l1_loss, (A, B), {"beta": 0.3}, np.where(D < 0.3, D**2 / 0.6, D - 0.15)),
    (loss.smooth_l1_loss, (A, B), {"beta": 0}, D),
    (loss.huber_loss, (A, B), {"delta": 0.4}, np.where(D < 0.4, D**2 / 2, 0.4 * (D - 0.2))),
    (loss.binary_cross_entropy, (P, Q), {}, cross(P, Q)),
    (loss.binary_cross_entropy, (P, Q), {"weight": Tensor(P[0])}, cross(P, Q) * P[0]),
    (loss.binary_cross_entropy_with_logits, (A, Q), {}, cross(1 / (1 + np.exp(-A)), Q)),
    (
        loss.binary_cross_entropy_with_logits, (A, Q), {"pos_weight": Tensor(P[0])},
        -(Q * P[0] * np.log(1 / (1 + np.exp(-A))) + (1 - Q) * np.log(1 / (1 + np.exp(A)))),
    ),
    (loss.kl_div, (A, P), {}, P * (np.log(P) - A)),
    (loss.kl_div, (A, B), {"log_target": True}, np.exp(B) * (B - A)),
    (loss.gaussian_nll_loss, (A, B, P), {}, (np.log(P) + D**2 / P) / 2),
    (
        loss.gaussian_nll_loss, (A, B, P[:, :1]), {"full": True},
        (np.log(P[:, :1]) + D**2 / P[:, :1] + math.log(2 * math.pi)) / 2,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "inputs", "options", "expected"), CASES)
def test_values_under_every_reduction(fn, inputs, options, expected):
    tensors = [Tensor(x) for x in inputs]
    for reduction, value in [
        ("none", expected), ("mean", expected.mean()), ("sum", expected.sum()),
    ]:  # fmt: skip
        found = fn(*tensors, **options, reduction=reduction).numpy()
        np.testing.assert_allclose(found, value, rtol=1e-10)
    with pytest.raises(ValueError, match="reduction is 'max'; expected 'mean', 'sum' or 'none'"):
        fn(*tensors, **options, reduction="max")


@pytest.mark.parametrize("fn", [c[0] for c in CASES[:1] + CASES[1:3] + CASES[6:7] + CASES[8:9]])
def test_shapes_must_match(fn):
    with pytest.raises(ValueError, match=r"target has shape \(4,\), input \(3, 4\)"):
        fn(Tensor(P), Tensor(Q[0]))


def test_a_number_may_be_the_target():
    np.testing.assert_allclose(loss.mse_loss(Tensor(A), 1.0).item(), ((A - 1) ** 2).mean())
    real = loss.binary_cross_entropy_with_logits(Tensor(A), 1.0).item()
    np.testing.assert_allclose(real, np.log1p(np.exp(-A)).mean())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tails(dtype):
    x, t = leaf(np.array([-1e4, 1e4, -1e4, 1e4], dtype)), np.array([0, 1, 1, 0], dtype)
    cost = loss.binary_cross_entropy_with_logits(x, Tensor(t), reduction="none")
    np.testing.assert_array_equal(cost.numpy(), [0, 0, 1e4, 1e4])
    np.testing.assert_array_equal(grad(cost.sum(), [x])[0].numpy(), [0, 0, -1, 1])
    p = leaf(np.array([0.0, 1.0], dtype))
    cost = loss.binary_cross_entropy(p, Tensor(np.array([1.0, 1.0], dtype)), reduction="none")
    np.testing.assert_array_equal(cost.numpy(), [100, 0])
    assert np.isfinite(grad(cost.sum(), [p])[0].numpy()).all()
    zero = loss.kl_div(Tensor(np.zeros(2)), Tensor(np.array([0.0, 1.0])), reduction="none")
    np.testing.assert_array_equal(zero.numpy(), [0, 0])


SCORES = RNG.standard_normal((4, 3, 2))
LABELS = np.array([[0, 2], [-100, 1], [2, 2], [1, 0]])
WEIGHT = np.array([0.5, 1.0, 2.0])


def test_cross_entropy_of_labels():
    logs = log_softmax(SCORES)
    counted = LABELS != -100
    at = np.where(counted, LABELS, 0)
    chosen = -np.take_along_axis(logs, at[:, None], 1)[:, 0]
    share = WEIGHT[at] * counted
    t, y, w = Tensor(SCORES), Tensor(LABELS), Tensor(WEIGHT)
    plain = labels.cross_entropy(t, y, reduction="none").numpy()
    np.testing.assert_allclose(plain, chosen * counted, atol=1e-12)
    mean = labels.cross_entropy(t, y).item()
    np.testing.assert_allclose(mean, (chosen * counted).sum() / counted.sum())
    weighted = (chosen * share).sum() / share.sum()
    np.testing.assert_allclose(labels.cross_entropy(t, y, w).item(), weighted)
    np.testing.assert_allclose(labels.nll_loss(Tensor(logs), y, w).item(), weighted)
    spread = -(logs * WEIGHT[:, None]).sum(1) * counted
    smooth = (0.8 * chosen * share + 0.2 / 3 * spread).sum() / share.sum()
    np.testing.assert_allclose(labels.cross_entropy(t, y, w, label_smoothing=0.2).item(), smooth)
    seven = np.where(counted, LABELS, 7)
    np.testing.assert_allclose(
        labels.cross_entropy(t, Tensor(seven), w, ignore_index=7).item(), weighted
    )
    one = labels.cross_entropy(Tensor(SCORES[0, :, 0]), Tensor(np.array(2))).item()
    np.testing.assert_allclose(one, -logs[0, 2, 0])
    nothing = leaf(SCORES)
    for options in ((), (w,)):
        mean = labels.cross_entropy(nothing, Tensor(np.full((4, 2), -100)), *options)
        assert np.isnan(mean.item())
        np.testing.assert_array_equal(grad(mean, [nothing])[0].numpy(), 0)


def test_cross_entropy_of_probabilities():
    target = np.exp(log_softmax(RNG.standard_normal((4, 3, 2))))
    logs, t, y = log_softmax(SCORES), Tensor(SCORES), Tensor(target)
    expected = -(logs * target).sum(1)
    np.testing.assert_allclose(labels.cross_entropy(t, y).item(), expected.mean())
    smooth = 0.9 * target + 0.1 / 3
    expected = -(logs * smooth * WEIGHT[:, None]).sum(1)
    np.testing.assert_allclose(
        labels.cross_entropy(t, y, Tensor(WEIGHT), -100, "none", 0.1).numpy(), expected
    )


def test_frozen_values():
    """Computed once with another library."""
    x = Tensor(np.array([[1.0, -2.0, 0.5], [0.1, 0.2, 0.3]]))
    y = Tensor(np.array([2, 0]))
    np.testing.assert_allclose(
        labels.cross_entropy(x, y, label_smoothing=0.1).item(), 1.131603208619097
    )


def test_kl_batchmean_and_cosine():
    per_batch = loss.kl_div(Tensor(A), Tensor(P), "batchmean").item()
    np.testing.assert_allclose(per_batch, (P * (np.log(P) - A)).sum() / 3)
    cosine = (A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)
    np.testing.assert_allclose(loss.cosine_similarity(Tensor(A), Tensor(B)).numpy(), cosine)
    zero = leaf(np.zeros((1, 3)))
    same = loss.cosine_similarity(zero, Tensor(np.ones((1, 3))))
    assert same.item() == 0
    assert np.isfinite(grad(same.sum(), [zero])[0].numpy()).all()


def test_gaussian_nll_keeps_the_gradient_of_a_small_variance():
    var = leaf(np.array([0.0, 1.0]))
    cost = loss.gaussian_nll_loss(Tensor(np.ones(2)), Tensor(np.zeros(2)), var, eps=0.5)
    (slope,) = grad(cost, [var])
    np.testing.assert_allclose(slope.numpy(), [0.25 * (1 / 0.5 - 1 / 0.25), 0])
    number = loss.gaussian_nll_loss(Tensor(A), Tensor(B), 0.3).item()
    np.testing.assert_allclose(number, ((np.log(0.3) + D**2 / 0.3) / 2).mean(), rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: labels.cross_entropy(Tensor(SCORES), Tensor(LABELS[:3])), ValueError,
            "target has shape (3, 2) and dtype int64, input (4, 3, 2) needs integer labels of shape"
            " (4, 2)",
        ),
        (
            lambda: labels.cross_entropy(Tensor(SCORES), Tensor(LABELS + 3)), IndexError,
            "label 3 is outside 0..2 (and not ignore_index -100)",
        ),
        (
            lambda: labels.cross_entropy(Tensor(SCORES), Tensor(SCORES[:3])), ValueError,
            "target of probabilities has shape (3, 3, 2), input (4, 3, 2)",
        ),
        (
            lambda: labels.cross_entropy(Tensor(SCORES), Tensor(LABELS), label_smoothing=2),
            ValueError, "label_smoothing is 2",
        ),
        (
            lambda: labels.nll_loss(Tensor(SCORES), Tensor(LABELS), Tensor(np.ones(4))), ValueError,
            "nll_loss: weight has shape (4,); expected (3,)",
        ),
        (
            lambda: loss.binary_cross_entropy(Tensor(A), Tensor(Q)), ValueError,
            "expected probabilities in [0, 1]",
        ),
        (
            lambda: loss.gaussian_nll_loss(Tensor(A), Tensor(B), Tensor(P[:2])), ValueError,
            "var has shape (2, 4), input (3, 4)",
        ),
        (
            lambda: loss.gaussian_nll_loss(Tensor(A), Tensor(B), Tensor(-P)), ValueError,
            "expected none below 0",
        ),
        (lambda: loss.huber_loss(Tensor(A), Tensor(B), delta=0), ValueError, "delta is 0"),
        (lambda: loss.smooth_l1_loss(Tensor(A), Tensor(B), beta=-1), ValueError, "beta is -1"),
    ],
)  # fmt: skip
def test_errors_name_both_values(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


COUNTED = {
    "cross_entropy": lambda x, y, w: mg.cross_entropy(x, y),
    "weighted": lambda x, y, w: mg.cross_entropy(x, y, w, label_smoothing=0.1),
    "nll_loss": lambda x, y, w: mg.nll_loss(mg.log_softmax(x, 1), y),
    "of variances": lambda x, y, w: mg.gaussian_nll_loss(x, x * 2, x * x),
    "of one variance": lambda x, y, w: mg.gaussian_nll_loss(x, x * 2, 0.3),
}


@pytest.mark.parametrize("name", COUNTED)
def test_losses_at_labels_are_checked_and_counted_at_each_replay(name):
    w = mg.tensor(np.linspace(0.5, 2, 12).reshape(3, 4), requires_grad=True)
    weight = mg.tensor(np.arange(1.0, 5.0))

    def step(x, y):
        return mg.value_and_grad(lambda: COUNTED[name](x @ w, mg.asarray(y), weight), [w])()

    captured, x = mg.capture(step), mg.tensor(SCORES[:3, :, 0])
    for y in ([0, 1, 2], [0, 1, -100], [3, 3, -100], [-100, 2, -100], [-100] * 3, [0, 1, 2]):
        (loss, (g,)), (expected, (h,)) = (f(x, np.array(y)) for f in (captured, step))
        np.testing.assert_array_equal(loss.data, expected.data)
        np.testing.assert_array_equal(g.data, h.data)
    if "variance" not in name:
        with pytest.raises(IndexError, match="label 4 is outside"):
            captured(x, np.array([0, 4, 0]))
