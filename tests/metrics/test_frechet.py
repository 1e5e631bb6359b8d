"""Frechet distance against closed forms, the textbook formula, and the cases where that fails."""

import numpy as np
import pytest
from scipy import linalg

from minigen.metrics import frechet_distance, frechet_of

RNG = np.random.default_rng(0)


def covariance(size, rank=None):
    factor = RNG.normal(size=(size, rank or size + 2))
    return factor @ factor.T


def test_commuting_covariances_have_a_closed_form():
    """Axis-parallel Gaussians: |gap|^2 plus the squared differences of the deviations."""
    a, b = np.array([1.0, 2, 3]), np.array([2.0, 0, 5])
    gap = np.array([1.0, -1, 0.5])
    expected = (gap**2).sum() + ((a - b) ** 2).sum()
    assert frechet_of(gap, np.diag(a**2), 0 * gap, np.diag(b**2)) == pytest.approx(expected, 1e-13)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_equals_the_matrix_square_root(size):
    mx, my = RNG.normal(size=(2, size))
    cx, cy = covariance(size), covariance(size)
    root = linalg.sqrtm(cx @ cy).real
    expected = ((mx - my) ** 2).sum() + np.trace(cx + cy - 2 * root)
    assert frechet_of(mx, cx, my, cy) == pytest.approx(expected, rel=1e-8)


def test_samples_give_their_moments():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(1, 2, size=(50, 4))
    expected = frechet_of(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-12)


def test_singular_covariances_keep_their_digits():
    """Subspaces of rank 3 in 60 dimensions: for one covariance and 4 times it the distance is its
    trace, (2 - 1)^2 tr C."""
    c = covariance(60, rank=3)
    zero = np.zeros(60)
    assert frechet_of(zero, c, zero, 4 * c) == pytest.approx(np.trace(c), rel=1e-12)
    assert frechet_of(zero, c, zero, np.zeros((60, 60))) == pytest.approx(np.trace(c), rel=1e-12)
    x = RNG.normal(size=(5, 60))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-11)
    assert frechet_distance(x, x + 1) == pytest.approx(60, rel=1e-12)


def test_is_never_negative():
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(8, 3))
        assert frechet_distance(x, x) >= 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((3, 2, 2)), np.ones((3, 2)), r"\(3, 2, 2\), expected \(N, D\)"),
        (np.ones((3, 2)), np.ones((3, 4)), "2 and 4 columns"),
        (np.ones((1, 2)), np.ones((3, 2)), "got 1 features, expected at least 2"),
        (np.ones((3, 2)), np.array([[0, np.nan], [1, 1]]), "1 of 2 features hold NaN"),
    ],
)
def test_bad_features_are_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(x, y)


def test_bad_statistics_are_named():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        frechet_of(np.ones(3), np.eye(3), np.ones(2), np.eye(2))
    with pytest.raises(ValueError, match="finite numbers on 2 axes"):
        frechet_of(np.ones(2), np.ones(2), np.ones(2), np.eye(2))
    with pytest.raises(TypeError, match="real numbers"):
        frechet_distance(np.ones((3, 2), complex), np.ones((3, 2)))
