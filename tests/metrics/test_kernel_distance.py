"""Kernel distance against double loops, its expectation, and its subsets."""

import numpy as np
import pytest

import minigen as mg
from minigen.metrics import kernel_distance, squared_mmd

RNG = np.random.default_rng(1)


def by_loops(x, y):
    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(s):
        pairs = [kernel(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]
        return sum(pairs) / len(pairs)

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_equals_double_loops():
    x, y = RNG.normal(size=(7, 5)), RNG.normal(0.5, 1, size=(9, 5))
    assert squared_mmd(x, y) == pytest.approx(by_loops(x, y), rel=1e-12)


def test_is_unbiased():
    """Over many draws from one distribution the mean is 0 within its error; from N(m, 1) and
    N(-m, 1) in one dimension it is what the moments of (xy + 1)^3 say."""
    values = [squared_mmd(*RNG.normal(size=(2, 12, 3))) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5
    assert min(values) < 0
    m = 0.4  # E[(xy + 1)^3] = 1 + 3 E[x]E[y] + 3 E[x^2]E[y^2] + E[x^3]E[y^3]
    expected = 12 * m**2 + 4 * (m**3 + 3 * m) ** 2
    shifted = [
        squared_mmd(RNG.normal(m, 1, (40, 1)), RNG.normal(-m, 1, (40, 1))) for _ in range(999)
    ]
    assert abs(np.mean(shifted) - expected) < 4 * np.std(shifted) / len(shifted) ** 0.5


def test_subsets_are_drawn_without_repetition():
    """A subset as large as the set is the set: no deviation, whatever the order."""
    x, y = RNG.normal(size=(20, 4)), RNG.normal(0.3, 1, size=(20, 4))
    mean, deviation = kernel_distance(x, y, rng=mg.Generator(0), subsets=5, subset_size=20)
    assert mean == pytest.approx(squared_mmd(x, y), rel=1e-10)
    assert deviation < 1e-12


def test_mean_and_deviation_are_of_the_subsets():
    x, y = RNG.normal(size=(60, 4)), RNG.normal(0.3, 1, size=(50, 4))
    rng, values = mg.Generator(3), []
    for _ in range(6):
        rows = rng.permutation(60).numpy()[:10], rng.permutation(50).numpy()[:10]
        values.append(squared_mmd(x[rows[0]], y[rows[1]]))
    seen = []
    found = kernel_distance(
        x, y, rng=mg.Generator(3), subsets=6, subset_size=10, progress=lambda *at: seen.append(at)
    )
    assert found == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)
    assert seen == [(i, 6) for i in range(1, 7)]


def test_bad_subsets_are_named():
    x = np.ones((30, 4))
    with pytest.raises(ValueError, match="subset_size is 1000, the sets have 30 and 30"):
        kernel_distance(x, x, rng=mg.Generator(0))
    with pytest.raises(ValueError, match="subsets is 0"):
        kernel_distance(x, x, rng=mg.Generator(0), subsets=0, subset_size=9)
