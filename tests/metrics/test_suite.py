"""Which metrics are computed of what, by which names, and that none depends on the others."""

import logging
import math

import numpy as np
import pytest

import minigen as mg
from minigen.metrics import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    ms_ssim_each,
    precision_recall,
    suite,
)
from minigen.metrics.suite import IN_FEATURES, METRICS, Misfit, evaluate_samples
from minigen.random import Generator

COUNT = 60


class Means:
    """Features: the means of the quarters of an image; classes: its brightness in ten steps."""

    name = "means-of-quarters"

    def features(self, images, progress=None):
        if progress is not None:
            progress(len(images), len(images))
        return images.reshape(len(images), images.shape[1], 2, 8, 2, 8).mean((3, 5)).reshape(
            len(images), -1
        )  # fmt: skip

    def predict(self, images, progress=None):
        return np.minimum(images.mean((2, 3)) * 10, 9).astype(np.int64).reshape(len(images), -1)


def images(seed, n=COUNT, level=0.5, channels=1):
    """Noise around a brightness, with a blob whose place varies."""
    rng = np.random.default_rng(seed)
    x = rng.normal(level, 0.1, (n, channels, 16, 16))
    for each, (i, j) in zip(x, rng.integers(0, 12, (n, 2)), strict=True):
        each[:, i : i + 4, j : j + 4] += 0.3
    return np.clip(x, 0, 1).astype(np.float32)


FAKE, REAL, TRAIN = images(0, level=0.45), images(1), images(2, 3 * COUNT)


def measure(*, fake=FAKE, features=None, **more):
    return evaluate_samples(
        fake, REAL, TRAIN, features=features or Means(), rng=Generator(7), **more
    )


def test_values_are_those_of_the_metrics():
    found = measure(classify=True)
    network = Means()
    x, y = network.features(FAKE), network.features(REAL)
    assert found["frechet-means"]["value"] == pytest.approx(frechet_distance(x, y))
    precision, recall = precision_recall(y, x)
    assert found["precision"]["value"] == precision and found["recall"]["value"] == recall
    mean, _ = kernel_distance(x, y, rng=Generator(0), subset_size=COUNT // 2)
    assert found["kernel-distance-means"]["value"] == pytest.approx(mean, rel=0.2)
    for name in (
        "density", "coverage", "sliced-wasserstein", "sliced-wasserstein-16",
        "sliced-wasserstein-of-real", "ms-ssim", "ms-ssim-of-real", "copies", "copies-p-value",
        "classes-reached", "class-kl",
    ):  # fmt: skip
        assert math.isfinite(found[name]["value"]), name
    assert "class-accuracy" not in found  # nobody asked the model for classes


def test_intervals_hold_their_values_and_real_images_do_better():
    found = measure()
    for name in (
        "frechet-means", "frechet-means-of-real", "kernel-distance-means", "precision", "recall",
        "density", "coverage", "ms-ssim", "ms-ssim-of-real",
    ):  # fmt: skip
        each = found[name]
        assert each["low"] <= each["value"] <= each["high"] and each["low"] < each["high"], name
    assert found["frechet-means-of-real"]["high"] < found["frechet-means"]["low"]
    assert found["sliced-wasserstein"]["value"] > 0


class Pixels:
    """Features: the image."""

    name = "pixels"

    def features(self, images, progress=None):
        return images.reshape(len(images), -1)


def intervals_that_hold(draw, expected, trials=60):
    """The share of sets drawn whose interval of a metric holds what is expected of it."""
    hits = dict.fromkeys(expected, 0)
    for trial in range(trials):
        real, fake = (x.reshape(len(x), 1, 1, -1) for x in draw())
        found = evaluate_samples(
            fake, real, real, features=Pixels(), rng=Generator(trial),
            metrics=["precision-recall", "density-coverage"],
        )  # fmt: skip
        for name in expected:
            hits[name] += found[name]["low"] <= expected[name] <= found[name]["high"]
    return {name: count / trials for name, count in hits.items()}


@pytest.mark.parametrize(
    ("shift", "scale"),
    [(0.7, 1), (0, 0.7)],  # all far from 0 and 1, where it is the balls that vary; nearly all good
)
def test_intervals_of_neighbours_cover_what_is_expected(shift, scale):
    rng = np.random.default_rng(3)
    draw = lambda: (rng.normal(size=(150, 6)), rng.normal(shift, scale, (150, 6)))
    values = np.mean(
        [(*precision_recall(*x), *density_coverage(*x)) for x in (draw() for _ in range(300))], 0
    )
    expected = dict(zip(("precision", "recall", "density", "coverage"), values, strict=True))
    with mg.kernels.use("reference"):
        shares = intervals_that_hold(draw, expected)
    assert all(share >= 0.87 for share in shares.values()), (expected, shares)


def test_a_metric_does_not_depend_on_the_others():
    both = measure()
    for name in ("kernel-distance", "sliced-wasserstein", "density-coverage"):
        alone = measure(metrics=[name])
        assert alone and all(both[key] == value for key, value in alone.items())


def test_only_what_is_chosen_is_computed():
    class Forbidden:
        name = "none"

        def features(self, images, progress=None):
            raise AssertionError("nobody asked for features")

    found = measure(features=Forbidden(), metrics=["ms-ssim", "copies"])
    assert set(found) == {"ms-ssim", "ms-ssim-of-real", "copies", "copies-p-value"}


def test_what_does_not_fit_is_left_out_with_the_reason(caplog):
    caplog.set_level(logging.INFO, logger="minigen")
    small = np.zeros((30, 1, 6, 6), np.float32)
    assert set(evaluate_samples(small, small, small, features=None, rng=Generator(0))) == {
        "copies", "copies-p-value",
    }  # fmt: skip
    lines = [record.getMessage() for record in caplog.records]
    first = ", ".join(name for name in METRICS if name in IN_FEATURES)
    assert f"without {first}: there is no feature network" in lines
    assert "without ms-ssim: images are 6x6, expected at least 11x11" in lines
    caplog.clear()
    few = evaluate_samples(FAKE[:3], REAL[:3], TRAIN[:3], features=Means(), rng=Generator(0))
    assert set(few) == {
        "sliced-wasserstein", "sliced-wasserstein-16", "sliced-wasserstein-of-real",
    }  # fmt: skip
    assert (
        "without frechet, kernel-distance: there are 3 images in a set, expected at least 50"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["fid"]}, "no metric 'fid'; there are frechet,"),
        ({"metrics": ["classes"]}, "classes: means-of-quarters does not know the classes"),
    ],
)
def test_what_is_chosen_and_cannot_be_computed(change, message):
    with pytest.raises(Misfit, match=message):
        measure(**change)


def test_images_that_do_not_fit_together():
    with pytest.raises(ValueError, match=r"have shapes \(3, 16, 16\), \(1, 16, 16\)"):
        measure(fake=images(0, channels=3))
    bad = FAKE.copy()
    bad[2] = np.nan
    with pytest.raises(ValueError, match=f"samples: 1 of {COUNT} images hold NaN"):
        measure(fake=bad)


def test_few_images_are_said_to_bias_the_frechet_distance(caplog):
    caplog.set_level(logging.INFO, logger="minigen")
    measure(metrics=["frechet"])
    assert f"from {COUNT} samples and {COUNT} held-out images, few enough" in caplog.text


def bright(labels):
    """Images of ten steps of brightness."""
    return np.tile(((labels + 0.5) / 10)[:, None, None, None], (1, 1, 16, 16)).astype(np.float32)


def test_classes_of_a_conditional_model():
    labels = np.arange(COUNT) % 10
    wrong = labels.copy()
    wrong[:15] = (wrong[:15] + 1) % 10
    found = evaluate_samples(
        bright(labels), bright(wrong), bright(labels), features=Means(), rng=Generator(0),
        metrics=["classes"], classify=True, fake_labels=wrong, real_labels=wrong,
    )  # fmt: skip
    assert found["class-accuracy"]["value"] == 0.75
    assert 0.6 < found["class-accuracy"]["low"] < 0.75 < found["class-accuracy"]["high"] < 0.9
    assert found["class-accuracy-of-real"]["value"] == 1
    assert found["classes-reached"]["value"] == 10 and found["class-kl"]["value"] < 1e-9


def test_a_collapse_shows_in_the_classes():
    labels = np.arange(COUNT) % 2 + 3
    found = evaluate_samples(
        bright(labels), REAL, TRAIN, features=Means(), rng=Generator(0), metrics=["classes"],
        classify=True,
    )  # fmt: skip
    assert found["classes-reached"]["value"] == 2
    assert found["class-kl"]["value"] == pytest.approx(math.log(5))


def test_digits_in_three_channels_make_a_thousand_classes():
    digits = np.array([[1, 2, 3], [9, 9, 9], [0, 0, 7]])
    stacked = np.concatenate([bright(column) for column in digits.T], axis=1)
    found = evaluate_samples(
        stacked, stacked, stacked, features=Means(), rng=Generator(0), metrics=["classes"],
        classify=True, fake_labels=[123, 999, 7],
    )  # fmt: skip
    assert found["class-accuracy"]["value"] == 1
    assert found["class-kl"]["value"] == pytest.approx(math.log(1000 / 3))


def test_copies_are_found_and_told(caplog):
    assert measure(metrics=["copies"])["copies"]["value"] < 0.1
    one_image = np.repeat(TRAIN.mean(0, keepdims=True), COUNT, axis=0)  # collapse is no copying
    found = measure(fake=one_image, metrics=["copies"])
    assert found["copies"]["value"] == 0 and found["copies-p-value"]["value"] > 0.05
    assert not caplog.records
    found = measure(fake=TRAIN[:COUNT], metrics=["copies"])
    assert found["copies"]["value"] > 0.5 and found["copies-p-value"]["value"] < 1e-3
    assert "near copies of training images" in caplog.text


@pytest.mark.parametrize("order", ["class after class", "classes in turn"])
def test_copies_are_no_matter_of_the_order_of_held_out_images(order, monkeypatch):
    """Where held-out images of some classes are left out, good samples of them look like copies."""
    monkeypatch.setattr(suite, "COPY_HELD", 2000)
    index = np.arange(4000)
    labels = index % 4 if order == "classes in turn" else index // 1000
    shuffled = np.random.default_rng(0).permutation(labels)

    def drawn(seed, labels):  # of each class a brightness of its own
        return np.random.default_rng(seed).normal(labels[:, None, None, None], 0.1, (4000, 1, 2, 2))

    found = evaluate_samples(
        drawn(1, shuffled), drawn(2, labels), drawn(3, shuffled), features=None, rng=Generator(0),
        metrics=["copies"],
    )  # fmt: skip
    assert found["copies-p-value"]["value"] > 0.001


def test_what_is_of_real_is_of_training_images():
    dark = np.full_like(REAL, 0.5) + images(4) / 100  # much alike, as training images are not
    found = evaluate_samples(
        FAKE, dark, TRAIN, features=None, rng=Generator(0), metrics=["ms-ssim"]
    )
    alike = ms_ssim_each(TRAIN[:COUNT], TRAIN[COUNT : 2 * COUNT], scales=1).mean()
    assert found["ms-ssim-of-real"]["value"] == pytest.approx(alike, abs=0.1)
    assert ms_ssim_each(dark[:30], dark[30:], scales=1).mean() > alike + 0.3


def test_progress_names_the_parts_of_the_work():
    seen = {}
    measure(progress=lambda what, done, total: seen.setdefault(what, []).append((done, total)))
    assert {"features of samples", "features of held-out images", "sliced-wasserstein",
            "interval of frechet-means", "copies"} <= set(seen)  # fmt: skip
    for what, calls in seen.items():
        done, total = calls[-1]
        assert done == total, what
