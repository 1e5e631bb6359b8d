"""Mode counts and their KL on mixtures where both are known."""

import numpy as np
import pytest

from minigen.metrics import labels_covered, points_covered

RNG = np.random.default_rng(5)
ANGLES = np.arange(8) * np.pi / 4
RING = 2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def test_a_perfect_sampler_reaches_all_modes():
    points = RING[RNG.integers(0, 8, 5000)] + RNG.normal(0, 0.02, (5000, 2))
    report = points_covered(points, RING, 0.02)
    assert (report.modes, report.total) == (8, 8)
    assert report.good_share == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # 3 deviations in 2-D
    assert report.kl < 0.005
    assert sum(report.counts) == 5000


def test_collapse_to_two_of_eight():
    report = points_covered(RING[[0, 0, 5, 5]], RING, 0.02)
    assert report.modes == 2
    assert report.good_share == 1
    assert report.kl == pytest.approx(np.log(4))
    assert report.counts == (2, 0, 0, 0, 0, 2, 0, 0)


def test_bad_points_reach_no_mode_but_count_for_the_nearest():
    """The points beside the first mode are 3.5 deviations away from it."""
    points = np.concatenate([RING, np.tile(RING[0] + [0.07, 0], (8, 1))])
    report = points_covered(points, RING, 0.02)
    assert (report.modes, report.good_share) == (8, 0.5)
    q = np.array([9, *[1] * 7]) / 16
    assert report.kl == pytest.approx((q * np.log(q * 8)).sum())
    assert points_covered(points, RING, 0.02, within=4).good_share == 1
    assert points_covered(points[8:], RING, 0.02).modes == 0


def test_many_points_equal_a_loop():
    centres, points = RNG.normal(size=(1000, 3)), RNG.normal(size=(9000, 3))
    report = points_covered(points, centres, 0.05)
    near = [np.linalg.norm(centres - p, axis=1) for p in points[:2000]]
    part = points_covered(points[:2000], centres, 0.05)
    good = [n.argmin() for n in near if n.min() <= 0.15]
    assert part.modes == len(set(good))
    assert part.good_share == pytest.approx(len(good) / 2000)
    assert sum(report.counts) == 9000


def test_labels():
    even = labels_covered(np.arange(1000).repeat(3), 1000)
    assert (even.modes, even.total, even.good_share, even.kl) == (1000, 1000, 1, 0)
    half = labels_covered(np.arange(500), 1000)
    assert half.modes == 500
    assert half.kl == pytest.approx(np.log(2))
    assert labels_covered(np.array([3, 3]), 1000).kl == pytest.approx(np.log(1000))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="3 and 2 columns"):
        points_covered(np.ones((4, 3)), RING, 0.02)
    with pytest.raises(ValueError, match="1 of 1 features hold NaN"):
        points_covered(np.array([[np.nan, 0]]), RING, 0.02)
    with pytest.raises(ValueError, match="std is 0"):
        points_covered(RING, RING, 0)
    with pytest.raises(ValueError, match="labels lie in 1 to 10, expected 0 to 9"):
        labels_covered(np.array([1, 10]), 10)
    with pytest.raises(ValueError, match="float64"):
        labels_covered(np.ones(3), 10)
