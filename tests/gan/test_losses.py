"""GAN losses against theory: values, optima, signs, and finiteness for any output."""

import numpy as np
import pytest

import minigen as mg
from minigen.gan.losses import LOSSES

STANDARD = LOSSES["non-saturating"]


def column(*values):
    return mg.tensor(np.array(values, np.float64)[:, None])


def test_optimal_discriminator_pays_two_ln_two():
    undecided = column(*[0.0] * 8)
    loss = STANDARD.discriminator(undecided, undecided)
    assert loss.item() == pytest.approx(2 * np.log(2), abs=1e-12)


def test_discriminator_loss_is_minimal_at_the_ratio_of_densities():
    """On two points with p_data (.8, .2), p_model (.3, .7): D* = p_data / (p_data + p_model)."""
    p, q = np.array([0.8, 0.2]), np.array([0.3, 0.7])
    logit = mg.tensor(np.log(p / q), requires_grad=True)
    # ten real and ten generated images in the shares of the two densities
    real, fake = (mg.take(logit, np.repeat([0, 1], (10 * d).round().astype(int))) for d in (p, q))
    loss = STANDARD.discriminator(real, fake)
    (g,) = mg.grad(loss, [logit])
    np.testing.assert_allclose(g.numpy(), 0, atol=1e-12)
    divergence = 0.5 * sum((d * np.log(2 * d / (p + q))).sum() for d in (p, q))
    assert loss.item() == pytest.approx(2 * np.log(2) - 2 * divergence)


def test_generator_losses_agree_in_sign_and_differ_where_saturated():
    fake = mg.tensor(np.array([-30.0]), requires_grad=True)
    (flat,) = mg.grad(LOSSES["minimax"].generator(fake), [fake])
    (steep,) = mg.grad(STANDARD.generator(fake), [fake])
    assert -1e-12 < flat.item() < 0 and steep.item() == pytest.approx(-1)


@pytest.mark.parametrize(
    ("name", "d", "g"),
    [
        ("non-saturating", np.log1p(np.exp(-2)) + np.log1p(np.e), np.log1p(np.exp(-1))),
        ("minimax", np.log1p(np.exp(-2)) + np.log1p(np.e), -np.log1p(np.e)),
        ("least-squares", 0.5 * (2 - 1) ** 2 + 0.5 * 1**2, 0.0),
        ("wasserstein", 1.0 - 2.0, -1.0),
        ("hinge", 0.0 + 2.0, -1.0),
    ],
)
def test_values_by_hand_at_two_and_one(name, d, g):
    """D(x) = 2, D(G(z)) = 1."""
    loss = LOSSES[name]
    assert loss.discriminator(column(2.0), column(1.0)).item() == pytest.approx(d)
    assert loss.generator(column(1.0)).item() == pytest.approx(g)


def test_hinge_is_indifferent_beyond_the_margin():
    hinge = LOSSES["hinge"]
    assert hinge.discriminator(column(1.5, 7.0), column(-1.5, -9.0)).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_each_generator_loss_pulls_towards_the_real_side(name):
    fake = mg.tensor(np.array([[-0.5], [0.3]]), requires_grad=True)
    (slope,) = mg.grad(LOSSES[name].generator(fake), [fake])
    assert (slope.numpy() < 0).all()  # a descent step raises the decision


@pytest.mark.parametrize("name", ["non-saturating", "minimax"])
def test_losses_of_logits_stay_finite_for_any_logit(name):
    for size in (1e4, -1e4):
        logit = mg.tensor(np.array([[size]], np.float32))
        for loss in (LOSSES[name].discriminator(logit, logit), LOSSES[name].generator(logit)):
            assert np.isfinite(loss.item())


def test_wasserstein_is_the_distance_of_two_points_for_the_best_critic():
    """Points 0 and 3 on a line; the critic -x has slope 1 and gives -W1."""
    critic = lambda x: -x
    loss = LOSSES["wasserstein"].discriminator(critic(column(0.0)), critic(column(3.0)))
    assert loss.item() == -3
