"""Precision, recall, density, coverage and the nearest rows against double loops."""

import numpy as np
import pytest

from minigen.metrics import density_coverage, neighbours, precision_recall
from minigen.metrics.neighbours import nearest

RNG = np.random.default_rng(2)


def by_loops(real, fake, k):
    """(precision, recall, density, coverage) as their definitions read."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(s, i):
        return sorted(distance(s[i], other) for j, other in enumerate(s) if j != i)[k - 1]

    inside = [[distance(r, f) < radius(real, i) for f in fake] for i, r in enumerate(real)]
    found = [[distance(r, f) < radius(fake, j) for j, f in enumerate(fake)] for r in real]
    inside, found = np.array(inside), np.array(found)
    return (
        inside.any(0).mean(),
        found.any(1).mean(),
        inside.sum() / k / len(fake),
        inside.any(1).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_equal_double_loops_whatever_the_block(k, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    real, fake = RNG.normal(size=(23, 3)), RNG.normal(0.7, 0.6, size=(31, 3))
    *expected, density, coverage = by_loops(real, fake, k)
    assert precision_recall(real, fake, k) == pytest.approx(expected, abs=1e-12)
    assert density_coverage(real, fake, k) == pytest.approx((density, coverage), abs=1e-12)


@pytest.mark.parametrize("block", [100, 1 << 20])
@pytest.mark.parametrize("size", [40, 300])  # all neighbours are looked at, or the nearest only
def test_subsets_equal_sets_of_their_own(size, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    rng = np.random.default_rng(5)
    real, fake = rng.normal(size=(size, 3)), rng.normal(0.5, 1, size=(size + 3, 3))
    fake[1] = fake[0]
    in_real, in_fake = rng.random((5, size)) < 0.5, rng.random((5, size + 3)) < 0.5
    in_real[0] = in_fake[0] = True
    for whole, of in (
        (precision_recall, neighbours.precision_recall_of),
        (density_coverage, neighbours.density_coverage_of),
    ):
        expected = [whole(real[i], fake[j]) for i, j in zip(in_real, in_fake, strict=True)]
        np.testing.assert_allclose(np.transpose(of(real, fake, in_real, in_fake)), expected)


def test_identical_sets_are_wholly_inside_each_other():
    x = RNG.normal(size=(200, 8))
    assert precision_recall(x, x.copy()) == (1, 1)
    density, coverage = density_coverage(x, x.copy())
    assert coverage == 1
    assert density == pytest.approx(1, abs=0.01)  # k balls hold a point, itself among them


def test_distant_sets_share_nothing():
    x = RNG.normal(size=(50, 4))
    assert precision_recall(x, x + 100) == (0, 0)
    assert density_coverage(x, x + 100) == (0, 0)


def test_a_collapsed_generator_is_precise_without_recall():
    x = RNG.normal(size=(300, 4))
    fake = RNG.normal(scale=0.05, size=(300, 4))
    precision, recall = precision_recall(x, fake)
    density, coverage = density_coverage(x, fake)
    assert precision == 1
    assert recall < 0.05
    assert density > 1
    assert coverage < 0.3


def test_duplicates_far_from_zero_are_at_distance_zero():
    """Every generated sample is one of two points, 1e4 from the origin: no ball has any size."""
    fake = 1e4 + RNG.normal(size=(2, 30)).repeat(20, 0)
    assert precision_recall(fake, fake) == (0, 0)


def test_progress_ends_at_its_total():
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(30, 3))
    for measure in (precision_recall, density_coverage):
        seen = []
        measure(x, y, progress=lambda *at, seen=seen: seen.append(at))
        assert seen[-1][0] == seen[-1][1] > 0
        assert seen == sorted(seen)


def test_too_few_samples_are_named():
    x = RNG.normal(size=(5, 3))
    with pytest.raises(ValueError, match="density_coverage: got 5 features, expected at least 6"):
        density_coverage(x, x)
    with pytest.raises(ValueError, match="k is 0"):
        precision_recall(x, x, 0)
    some = np.ones((2, 5), bool)
    with pytest.raises(ValueError, match=r"subsets have shapes \(2, 5\) and \(1, 5\), expected"):
        neighbours.precision_recall_of(x, x, some, some[:1])
    some[1, :3] = False
    with pytest.raises(ValueError, match="a subset holds 2 features, expected at least 4"):
        neighbours.precision_recall_of(x, x, some, some)


def test_nearest_is_exact_far_from_zero():
    x = (1000 + RNG.normal(size=(50, 6))).astype(np.float32)
    y = (1000 + RNG.normal(size=(333, 6))).astype(np.float32)
    x[7] = y[100]
    distance, index = nearest(x, y)
    gaps = np.linalg.norm(x[:, None].astype(float) - y, axis=2)
    np.testing.assert_array_equal(index, gaps.argmin(1))
    np.testing.assert_allclose(distance, gaps.min(1), rtol=1e-12)
    assert distance[7] == 0
