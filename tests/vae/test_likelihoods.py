"""Likelihoods: each against its formula written out."""

import numpy as np
import pytest
from scipy import stats

import minigen as mg
from minigen.testing import gradcheck
from minigen.vae.likelihoods import LIKELIHOODS, likelihood

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (3, 2, 4, 5)) / 255
X.flat[:6] = 0, 1, 0, 1, 1 / 255, 254 / 255


def out_of(name):
    return RNG.normal(0.5, 0.4, (3, 2 * likelihood(name, 0.3).outputs, 4, 5))


def nll(name, out, sigma=0.3):
    return likelihood(name, sigma).to(dtype=np.float64).nll(mg.tensor(X), mg.tensor(out)).numpy()


def test_bernoulli():
    out = out_of("bernoulli")
    p = 1 / (1 + np.exp(-out))
    expected = -(X * np.log(p) + (1 - X) * np.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(nll("bernoulli", out), expected)


def test_gaussian():
    out = out_of("gaussian")
    expected = -stats.norm.logpdf(X, out, 0.3).sum((1, 2, 3))
    np.testing.assert_allclose(nll("gaussian", out), expected, rtol=1e-6)


def test_gaussian_of_every_pixel():
    out = out_of("gaussian-pixels")
    mean, raw = np.split(out, 2, axis=1)
    least, first = np.log(1 / 510), np.log(1 / 8)
    sigma = np.exp(least + np.log1p(np.exp(raw + first - least)))
    expected = -stats.norm.logpdf(X, mean, sigma).sum((1, 2, 3))
    np.testing.assert_allclose(nll("gaussian-pixels", out), expected)


def test_logistic_is_the_probability_of_a_level():
    out = out_of("logistic")
    scale = 0.3 * np.sqrt(3) / np.pi
    upper = np.where(X > 1 - 1 / 510, np.inf, X + 1 / 510)
    lower = np.where(X < 1 / 510, -np.inf, X - 1 / 510)
    p = stats.logistic.cdf(upper, out, scale) - stats.logistic.cdf(lower, out, scale)
    np.testing.assert_allclose(nll("logistic", out), -np.log(p).sum((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("mean", [-0.2, 0.0, 0.31, 1.4])
@pytest.mark.parametrize("sigma", [0.001, 0.05, 1.0])
def test_the_levels_of_a_logistic_have_probabilities_that_sum_to_1(mean, sigma):
    levels = mg.tensor((np.arange(256) / 255).reshape(256, 1, 1, 1))
    model = likelihood("logistic", sigma).to(dtype=np.float64)
    costs = model.nll(levels, mg.tensor(np.full((256, 1, 1, 1), mean))).numpy()
    assert np.exp(-costs).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_to_second_order(name):
    model, x = likelihood(name, 0.3).to(dtype=np.float64), mg.tensor(X[:2])
    gradcheck(lambda out: model.nll(x, out), [out_of(name)[:2]], order=2)


@pytest.mark.parametrize("name", ["gaussian", "logistic"])
def test_a_learnt_scale_finds_that_of_the_data(name):
    model, rng = likelihood(name, 0.0), mg.Generator(0)
    x = mg.clip(0.5 + 0.1 * rng.normal((1, 1, 100, 100)), 0, 1)
    (scale,) = model.parameters()
    for _ in range(300):
        _, grads = mg.value_and_grad(lambda: model.nll(x, mg.full_like(x, 0.5)).mean(), model)()
        scale.data[...] -= 1e-5 * grads[0].data
    sigma = np.exp(scale.item()) * (np.pi / np.sqrt(3) if name == "logistic" else 1)
    assert sigma == pytest.approx(0.1, rel=0.05)
    assert not likelihood(name, 0.1).parameters()


def test_bits_of_a_density_and_of_a_probability_agree_on_fine_data():
    """A logistic of 256 levels and its density differ by the width of a level."""
    model, out = likelihood("logistic", 0.3), mg.tensor(np.full((1, 1, 1, 1), 0.5))
    x = mg.tensor(np.full((1, 1, 1, 1), 100 / 255))
    scale = 0.3 * np.sqrt(3) / np.pi
    density = -stats.logistic.logpdf(100 / 255, 0.5, scale)
    exact = model.to(dtype=np.float64).nll(x, out).item()
    density, exact = (
        likelihood(name, 0.3).bits_per_dimension(nats, (1, 1, 1))
        for name, nats in (("gaussian", density), ("logistic", exact))
    )
    assert exact == pytest.approx(density, abs=0.01)


def test_bits_are_of_a_value():
    assert likelihood("bernoulli", 0.0).bits_per_dimension(24 * np.log(2), (3, 2, 4)) == 1
