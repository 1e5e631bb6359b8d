"""The prior over codes: what each code is predicted from, and draws that agree with it."""

from itertools import product

import numpy as np
import pytest

import minigen as mg
from minigen import optim
from minigen.vae.code_prior import CodePrior, draw


def make(codes=5, channels=6, layers=3, classes=0, seed=0):
    return CodePrior(codes, channels, layers, classes, rng=mg.Generator(seed))


def every_grid():
    """All 16 grids 2x2 of two codes."""
    return np.array(list(product((0, 1), repeat=4))).reshape(-1, 2, 2)


def test_a_code_is_predicted_from_those_before_it_and_no_others():
    prior, (height, width) = make(layers=4), (4, 5)
    codes = np.random.default_rng(0).integers(0, 5, (1, height, width))
    before = prior(mg.asarray(codes)).numpy().reshape(5, -1)
    for place in range(height * width):
        other = codes.copy()
        other.reshape(-1)[place] = (other.reshape(-1)[place] + 1) % 5
        moved = (prior(mg.asarray(other)).numpy().reshape(5, -1) != before).any(0)
        assert not moved[: place + 1].any(), place  # neither those before nor the code itself
        assert moved[place + 1 : place + 2].all(), place  # the next one does
        assert moved[place + width : place + width + 1].all(), place  # and the one below


def test_probabilities_of_all_grids_sum_to_1():
    prior = make(codes=2)
    nll = prior.nll(mg.asarray(every_grid())).numpy()
    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (1, 3), (3, 1)])
def test_sampling_row_by_row_sees_the_logits_of_the_whole(shape):
    """Codes are the draws from the logits of the finished grids, with the same random numbers."""
    prior, n = make(classes=3), 6
    labels = mg.asarray(np.arange(n) % 3)
    codes = prior.sample(n, shape, mg.Generator(1), labels)
    logits, rng = prior(codes, labels), mg.Generator(1)
    for i, j in np.ndindex(shape):
        again = draw(logits[:, :, i, j], rng).numpy()
        np.testing.assert_array_equal(codes.numpy()[:, i, j], again)


def test_draws_follow_the_probabilities():
    p = np.array([0.5, 0.0, 0.3, 0.2])
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(p), (20_000, 1)).astype(np.float32)
    drawn = draw(mg.asarray(logits), mg.Generator(0)).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, p, atol=0.015)
    assert 1 not in drawn


def test_a_trained_prior_and_its_samples_have_the_frequencies_of_the_data():
    """Four of the 16 grids 2x2 of two codes, of known shares."""
    kinds = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]])
    shares = np.array([4, 3, 2, 1]) / 10
    data = mg.asarray(np.repeat(kinds, [4, 3, 2, 1], axis=0).reshape(-1, 2, 2))
    prior = make(codes=2, channels=8, layers=2)
    optimizer = optim.Adam(prior, lr=1e-2)
    step = mg.value_and_grad(lambda: prior.nll(data).mean(), prior)
    for _ in range(300):
        nll, grads = step()
        optimizer.step(grads)
    assert nll.item() == pytest.approx(-(shares * np.log(shares)).sum(), abs=0.02)
    found = np.exp(-prior.nll(mg.asarray(kinds.reshape(-1, 2, 2))).numpy())
    np.testing.assert_allclose(found, shares, atol=0.02)
    drawn = prior.sample(4000, (2, 2), mg.Generator(1)).numpy().reshape(-1, 4)
    counts = [(drawn == kind).all(1).mean() for kind in kinds]
    np.testing.assert_allclose(counts, found, atol=4 * (0.25 / 4000) ** 0.5)


def test_classes_have_distributions_of_their_own():
    """Grids all 0 of one class and all 1 of the other."""
    codes = mg.asarray(np.repeat([0, 1], 4).reshape(-1, 1, 1) * np.ones((2, 2), np.int64))
    labels = mg.asarray(np.repeat([0, 1], 4))
    prior = make(codes=2, channels=4, layers=1, classes=2)
    np.testing.assert_array_equal(  # classes begin alike
        prior(codes, labels).numpy(), prior(codes, 1 - labels).numpy()
    )
    optimizer = optim.Adam(prior, lr=2e-2)
    step = mg.value_and_grad(lambda: prior.nll(codes, labels).mean(), prior)
    for _ in range(200):
        nll, grads = step()
        optimizer.step(grads)
    assert nll.item() < 0.1
    drawn = prior.sample(8, (2, 2), mg.Generator(2), labels).numpy()
    assert (drawn == codes.numpy()).mean() > 0.9
