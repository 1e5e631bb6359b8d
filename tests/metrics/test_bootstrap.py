"""Intervals: their coverage where the truth is known, and what resampling would do instead."""

import numpy as np
import pytest

import minigen as mg
from minigen.metrics import bootstrap, frechet_distance, precision_recall
from minigen.metrics.bootstrap import share_interval

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def small_draws_by_numpy():
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state  # whatever ran before
    with mg.kernels.use("reference"):
        yield


def coverage(function, draw, truth, trials=120, resamples=50):
    hits = 0
    for trial in range(trials):
        found = bootstrap(function, *draw(), rng=mg.Generator(trial), resamples=resamples)
        hits += found["low"] <= truth <= found["high"]
    return hits / trials


def test_covers_the_mean_of_one_sample():
    share = coverage(lambda x: x.mean(), lambda: (RNG.normal(3, 2, 80),), 3)
    assert 0.88 <= share <= 0.99


def test_covers_the_frechet_distance_of_known_gaussians():
    """N(0, I) and N(1, 4 I) in 2 dimensions: 2 + 2 (2 - 1)^2 = 4, with little bias at this size."""
    share = coverage(
        frechet_distance,
        lambda: (RNG.normal(size=(300, 2)), RNG.normal(1, 2, size=(300, 2))),
        4.0,
    )
    assert 0.88 <= share <= 0.99


def test_covers_the_expectation_where_the_bias_is_large():
    """8 dimensions, 60 samples: the expectation lies far above the distance of the Gaussians, 2."""
    draw = lambda: (RNG.normal(size=(60, 8)), RNG.normal(0.5, 1, size=(60, 8)))
    expectation = np.mean([frechet_distance(*draw()) for _ in range(500)])
    assert expectation > 2.5
    share = coverage(frechet_distance, draw, expectation)
    assert 0.88 <= share <= 1


def test_resampling_with_replacement_would_miss_the_value():
    """The reason for halves: all of the classic bootstrap's values lie above the one it is for."""
    x, y = RNG.normal(size=(60, 16)), RNG.normal(size=(60, 16))
    value = frechet_distance(x, y)
    classic = [
        frechet_distance(x[RNG.integers(0, 60, 60)], y[RNG.integers(0, 60, 60)]) for _ in range(100)
    ]
    assert np.quantile(classic, 0.025) > value
    found = bootstrap(frechet_distance, x, y, rng=mg.Generator(0))
    assert found["low"] < found["value"] == value < found["high"]


def test_works_for_neighbours():
    """The deviation of recall over fresh samples is that of the interval."""
    draw = lambda: (RNG.normal(size=(100, 3)), RNG.normal(0, 0.6, size=(100, 3)))
    recall = lambda x, y: precision_recall(x, y)[1]
    spread = 2 * 1.96 * np.std([recall(*draw()) for _ in range(200)])
    widths = []
    for i in range(8):
        found = bootstrap(recall, *draw(), rng=mg.Generator(i), resamples=50)
        widths.append(found["high"] - found["low"])
    assert np.mean(widths) == pytest.approx(spread, rel=0.4)


def test_is_repeatable_and_tells_progress():
    x, seen = RNG.normal(size=(20, 3)), []
    run = lambda seed, **o: bootstrap(np.mean, x, rng=mg.Generator(seed), **o)
    first = run(0, resamples=45, progress=lambda *at: seen.append(at))
    assert seen == [(i, 45) for i in range(1, 46)]
    assert first == run(0, resamples=45)
    assert first != run(1, resamples=45)
    assert first != run(0, resamples=46)
    assert first["value"] == x.mean()


def test_bad_arguments_are_named():
    x = np.ones((9, 2))
    with pytest.raises(ValueError, match="expected 4 and more"):
        bootstrap(np.mean, x[:3], rng=mg.Generator(0))
    with pytest.raises(ValueError, match="resamples is 5"):
        bootstrap(np.mean, x, rng=mg.Generator(0), resamples=5)
    with pytest.raises(ValueError, match="40 of 40 halves gave no finite number"):
        bootstrap(lambda x: np.nan if len(x) < 5 else 1.0, x, rng=mg.Generator(0), resamples=40)


def test_share_intervals_fit_the_ends():
    none, all_of_them = share_interval(0.0, 50), share_interval(1.0, 50)
    assert none["low"] == 0 and 0.05 < none["high"] < 0.1
    assert all_of_them["high"] == 1 and 0.9 < all_of_them["low"] < 0.95
    # Wilson's interval of 8 of 10, as printed in tables: 0.490 to 0.943
    assert share_interval(0.8, 10)["low"] == pytest.approx(0.4902, abs=1e-3)
    assert share_interval(0.8, 10)["high"] == pytest.approx(0.9433, abs=1e-3)
