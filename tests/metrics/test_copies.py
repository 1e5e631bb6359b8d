"""The copy test: it accuses copiers of every kind and acquits generators that do not copy."""

import numpy as np
import pytest
from scipy import ndimage, stats

from minigen import data
from minigen.metrics import copies
from minigen.metrics.copies import mann_whitney

RNG = np.random.default_rng(6)
PIXELS = data.load("fashion-mnist").batch(np.arange(3600))[0]
TRAIN, HELD_OUT, OTHERS = PIXELS[:1500], PIXELS[1500:3000], PIXELS[3000:]


def noisy(images, deviation):
    return images + RNG.normal(0, deviation, images.shape)


def test_new_images_are_no_copies():
    report = copies(OTHERS, TRAIN, HELD_OUT)
    assert not report.copying
    assert report.ratio == pytest.approx(1, abs=0.1)
    assert report.near == pytest.approx(report.expected_near, abs=0.04)
    assert report.nearer_p > 0.01


@pytest.mark.parametrize("kind", ["exact", "noisy", "darker"])
def test_copies_are_found(kind):
    fake = {
        "exact": lambda: TRAIN[:600],
        "noisy": lambda: noisy(TRAIN[:600], 0.1),
        "darker": lambda: TRAIN[:600] * 0.8,
    }[kind]()
    report = copies(fake, TRAIN, HELD_OUT)
    assert report.copying
    assert report.copied > 0.9
    assert report.ratio < 0.9
    assert report.nearer_p < 1e-6


def test_a_share_of_copies_is_estimated():
    fake = np.concatenate([TRAIN[:60], OTHERS[:540]])
    report = copies(fake, TRAIN, HELD_OUT)
    assert report.copying
    assert report.copied == pytest.approx(0.1, abs=0.03)


def test_smooth_images_lie_near_everything_and_are_no_copies():
    """What the distances to the training set alone would accuse."""
    report = copies(ndimage.uniform_filter(OTHERS, (1, 1, 3, 3)), TRAIN, HELD_OUT)
    assert report.ratio < 1
    assert report.nearer_p < 0.05
    assert not report.copying


def test_a_collapsed_generator_is_no_copier():
    """Its one image lies nearest to some training image, again and again."""
    drawn = np.random.default_rng(0)
    one = ndimage.uniform_filter(OTHERS[3], (0, 5, 5))
    fake = one + drawn.normal(0, 0.01, (300, *one.shape))
    report = copies(fake, TRAIN, HELD_OUT, quantile=0.9)
    assert report.near > 0.9
    assert not report.copying
    assert report.copied_p > 0.01


def test_collapse_is_no_copying_but_repeated_copies_are():
    """One blurred image 300 times has some nearest real image; five training images are copies."""
    alarms = 0
    for start in range(0, 300, 30):
        mean = OTHERS[start : start + 30].mean(0, keepdims=True)
        alarms += copies(noisy(np.repeat(mean, 300, 0), 0.01), TRAIN, HELD_OUT).copying
    assert not alarms
    report = copies(np.repeat(TRAIN[:5], 60, 0), TRAIN, HELD_OUT)
    assert report.copying
    assert report.copied == 1


def test_sets_of_other_sizes():
    """A larger training set is nearer by its number alone; features do as well as images."""
    flat = PIXELS.reshape(len(PIXELS), -1)
    assert not copies(flat[3300:], flat[:3000], flat[3000:3300]).copying
    assert copies(flat[:300], flat[:3000], flat[3000:3300]).copying


def test_false_alarms_are_rare():
    alarms = [copies(*RNG.normal(size=(3, 60, 5))).copying for _ in range(200)]
    assert sum(alarms) <= 2


def test_closest_pairs_are_named():
    fake = OTHERS[:50].copy()
    fake[[7, 30]] = TRAIN[[123, 9]] + np.float32(0.001)
    pairs = copies(fake, TRAIN, HELD_OUT, pairs=3).closest
    assert {(i, j) for i, j, _ in pairs[:2]} == {(7, 123), (30, 9)}
    assert pairs[0][2] == pytest.approx(0.028, rel=1e-3)
    i, j, distance = pairs[2]
    assert distance == pytest.approx(np.linalg.norm(fake[i] - TRAIN[j].astype(float)), rel=1e-9)
    assert len(pairs) == 3


def test_radius_follows_the_quantile_and_progress_is_told():
    seen = []
    report = copies(OTHERS, TRAIN, HELD_OUT, quantile=0.5, progress=lambda *at: seen.append(at))
    assert report.expected_near == pytest.approx(0.5, abs=0.01)
    assert report.radius > copies(OTHERS, TRAIN, HELD_OUT).radius
    assert seen == sorted(seen)
    assert seen[-1] == (4500, 4500)


@pytest.mark.parametrize("digits", [0, 8])
def test_mann_whitney_equals_scipy(digits):
    x, y = RNG.normal(size=40).round(digits), RNG.normal(0.3, 1, 55).round(digits)
    for a, b in ((x, y), (y, x)):
        expected = stats.mannwhitneyu(a, b, alternative="less", method="asymptotic").pvalue
        assert mann_whitney(a, b) == pytest.approx(expected, rel=1e-9)
    assert mann_whitney(np.ones(5), np.ones(6)) == 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"\[784, 784, 100\] numbers each"):
        copies(OTHERS, TRAIN, np.ones((9, 100)))
    with pytest.raises(ValueError, match="copies: held-out: got 1 samples"):
        copies(OTHERS, TRAIN, HELD_OUT[:1])
    with pytest.raises(ValueError, match="quantile is 1"):
        copies(OTHERS, TRAIN, HELD_OUT, quantile=1)
