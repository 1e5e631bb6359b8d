"""All that is measured of generated images, in one call: the metrics, the same of real images as
their yardsticks, and which of them fit. Each metric itself has a file of its own beside this one.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigen.metrics.bootstrap import bootstrap, interval, share_interval, whole_and_halves
from minigen.metrics.comparison import Comparison, Stages
from minigen.metrics.copies import copies
from minigen.metrics.frechet import frechet_distance
from minigen.metrics.kernel_distance import kernel_distance
from minigen.metrics.modes import labels_covered
from minigen.metrics.neighbours import density_coverage_of, precision_recall_of
from minigen.metrics.sliced_wasserstein import PATCH, sliced_wasserstein
from minigen.metrics.ssim import most_scales, ms_ssim_each
from minigen.nn import mean_interval, no_interval
from minigen.random import Generator

Interval = dict[str, float]  # {"value", "low", "high"}: 95%, NaN where there is none

FEW = 5000  # images below which the bias of a Frechet distance is told
NEIGHBOURS = 10_000  # images of a set, at most, whose neighbours are looked for
COPY_SAMPLES, COPY_HELD = 2000, 5000  # generated and held-out ones looked for in the training set
PAIRS = 1000  # of images whose similarity is measured, at most
PATCH_NUMBERS = 1 << 24  # float32 in the patches of one set: 64 MB
PATCHES = 128  # of an image

log = logging.getLogger(__name__)


def evaluate_samples(
    fake: Any,
    real: Any,
    train: Any,
    *,
    features: Any,
    rng: Generator,
    metrics: Sequence[str] | None = None,
    classify: bool = False,
    fake_labels: Any = None,
    real_labels: Any = None,
    progress: Stages | None = None,
) -> dict[str, Interval]:
    """The metrics of generated images `fake` against held-out images `real`, by name, each
    {"value", "low", "high"} with a 95% interval (NaN where there is none).

    `fake`, `real` and `train`, which the generator was trained on, are (N, C, H, W) float32 in
    [0, 1]. `features` is a network of `metrics.features`, or None, which leaves out what needs one.
    `metrics` chooses from METRICS (None: all that fit; why others do not is logged). `classify`
    says that the network's classes are those of the data; then `fake_labels` (N,) are the classes
    asked of a conditional model, and `real_labels` those of `real`. `progress` is called with (what
    is being done, done, total).

    What ends in "-of-real" is the same metric of training images in place of generated ones: what a
    perfect generator would get. Only class-accuracy-of-real is of held-out images, since a
    classifier may know the training images by heart. The same images and rng give the same values,
    however many metrics are chosen. Raises ValueError for images that do not fit together, and
    Misfit for a chosen metric that is unknown or cannot be computed of them.
    """
    given = Comparison(
        fake, real, train, features, rng, classify, fake_labels, real_labels, progress
    )
    found: dict[str, Interval] = {}
    left: dict[str, list[str]] = {}
    for name in METRICS if metrics is None else metrics:
        if name not in METRICS:
            raise Misfit(f"no metric {name!r}; there are {', '.join(METRICS)}")
        measure, misfit = METRICS[name]
        reason = misfit(given)
        if reason and metrics is not None:
            raise Misfit(f"{name}: {reason}")
        if reason:
            left.setdefault(reason, []).append(name)
        else:
            found.update(measure(given))
    for reason, names in left.items():
        log.info("without %s: %s", ", ".join(names), reason)
    return found


class Misfit(ValueError):
    """A metric was asked for that cannot be computed; one line says why."""


# the metrics: each gives its values by name ------------------------------------------------------


def _frechet(c: Comparison) -> dict[str, Interval]:
    name = f"frechet-{c.network_name}"
    if c.least < FEW:
        log.info(
            "%s: from %d samples and %d held-out images, few enough to bias it upwards: compare it"
            " with distances from as many, as %s-of-real is", name, len(c.fake), len(c.real), name,
        )  # fmt: skip
    found = {}
    for key, x in ((name, c.fake_features), (f"{name}-of-real", c.stand_in_features)):
        halves = bootstrap(
            frechet_distance, x, c.real_features, rng=c.rng.spawn(key), resamples=50,
            progress=c.tell(f"interval of {key}"),
        )  # fmt: skip
        found[key] = _not_below_0(halves)
    return found


def _kernel_distance(c: Comparison) -> dict[str, Interval]:
    name = f"kernel-distance-{c.network_name}"
    size = min(1000, c.least // 2)
    mean, deviation = kernel_distance(
        c.fake_features, c.real_features, rng=c.rng.spawn("kernel-distance"), subset_size=size,
        progress=c.tell(name),
    )  # fmt: skip
    # Subsets of b out of n vary by (n - b) / b times as much as n vary around the truth.
    half = 1.96 * deviation * math.sqrt(size / (c.least - size))
    return {name: {"value": mean, "low": mean - half, "high": mean + half}}


def _precision_recall(c: Comparison) -> dict[str, Interval]:
    precision, recall = _with_halves(c, "precision and recall", precision_recall_of)
    return {
        "precision": _share(precision, min(len(c.fake), NEIGHBOURS)),
        "recall": _share(recall, min(len(c.real), NEIGHBOURS)),
    }


def _density_coverage(c: Comparison) -> dict[str, Interval]:
    density, coverage = _with_halves(c, "density and coverage", density_coverage_of)
    return {
        "density": _not_below_0(density),
        "coverage": _share(coverage, min(len(c.real), NEIGHBOURS)),
    }


def _with_halves(
    c: Comparison, name: str, measure: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> list[Interval]:
    """Both values of `measure`, and their intervals by halves that share one pass."""
    real, fake = c.some(c.real_features, NEIGHBOURS), c.some(c.fake_features, NEIGHBOURS)
    rng = c.rng.spawn(name)
    in_real, in_fake = whole_and_halves(len(real), rng=rng), whole_and_halves(len(fake), rng=rng)
    found = measure(real, fake, in_real, in_fake, progress=c.tell(name))
    return [interval(value, halves) for value, *halves in found]


def _classes(c: Comparison) -> dict[str, Interval]:
    """Which classes a classifier sees in the samples; of a conditional model, whether the right."""
    labels, count = _predicted(c, c.fake, "classes of samples")
    seen = labels_covered(labels, count)
    found = {"classes-reached": no_interval(seen.modes), "class-kl": no_interval(seen.kl)}
    if c.fake_labels is not None:
        right = float((labels == np.asarray(c.fake_labels)).mean())
        found["class-accuracy"] = share_interval(right, len(labels))
    if c.fake_labels is not None and c.real_labels is not None:
        labels, _ = _predicted(c, c.real, "classes of held-out images")
        right = float((labels == np.asarray(c.real_labels)).mean())
        found["class-accuracy-of-real"] = share_interval(right, len(labels))
    return found


def _predicted(c: Comparison, images: np.ndarray, what: str) -> tuple[np.ndarray, int]:
    """(label of each image, number of classes): the digits of all channels make one number."""
    labels = c.network.predict(images, c.tell(what)).reshape(len(images), -1)
    channels = labels.shape[1]
    return labels @ 10 ** np.arange(channels)[::-1], 10**channels


def _sliced_wasserstein(c: Comparison) -> dict[str, Interval]:
    name = "sliced-wasserstein"
    most = max(1, PATCH_NUMBERS // (PATCHES * PATCH * PATCH * c.real.shape[1]))
    n = min(most, c.least, len(c.stand_in))
    found = {}
    for key, images in ((name, c.fake), (f"{name}-of-real", c.stand_in)):
        levels = sliced_wasserstein(
            c.some(c.real, n), c.some(images, n), rng=c.rng.spawn(key), patches_per_image=PATCHES,
            smallest=min(14, *c.real.shape[2:]), progress=c.tell(key),
        )  # fmt: skip
        found[key] = no_interval(sum(levels.values()) / len(levels))
        if key == name:
            found.update({f"{name}-{size}": no_interval(value) for size, value in levels.items()})
    return found


def _ms_ssim(c: Comparison) -> dict[str, Interval]:
    """The similarity of pairs, none of which share an image, so that the interval is right."""
    found = {}
    for name, images in (("ms-ssim", c.fake), ("ms-ssim-of-real", c.stand_in)):
        order = c.rng.spawn(name).permutation(len(images)).numpy()
        pairs = min(PAIRS, len(images) // 2)
        a, b = images[order[:pairs]], images[order[pairs : 2 * pairs]]
        found[name] = mean_interval(ms_ssim_each(a, b, scales=most_scales(*images.shape[2:])))
    return found


def _copies(c: Comparison) -> dict[str, Interval]:
    fake, held = c.some(c.fake, COPY_SAMPLES), c.some(c.real, COPY_HELD)
    report = copies(fake, c.train, held, progress=c.tell("copies"))
    if report.copying:
        log.warning("%.1f%% of the samples are near copies of training images", 100 * report.copied)
    # Of few different samples the share says little: it counts once chance does not explain it.
    share = report.copied if report.copied_p < 0.05 else 0.0
    return {"copies": no_interval(share), "copies-p-value": no_interval(report.copied_p)}


# when they fit: each says why not, or "" -------------------------------------------------------


def _needs_images(least: int, side: int = 1) -> Callable[[Comparison], str]:
    def misfit(c: Comparison) -> str:
        height, width = c.real.shape[2:]
        if min(height, width) < side:
            return f"images are {height}x{width}, expected at least {side}x{side}"
        few = min(c.least, len(c.train))
        return f"there are {few} images in a set, expected at least {least}" if few < least else ""

    return misfit


def _needs_features(least: int) -> Callable[[Comparison], str]:
    enough = _needs_images(least)
    return lambda c: "there is no feature network" if c.network is None else enough(c)


def _needs_classes(c: Comparison) -> str:
    unknown = c.network is not None and not c.classify
    return f"{c.network.name} does not know the classes" if unknown else _needs_features(1)(c)


METRICS: dict[
    str, tuple[Callable[[Comparison], dict[str, Interval]], Callable[[Comparison], str]]
] = {
    "frechet": (_frechet, _needs_features(50)),
    "kernel-distance": (_kernel_distance, _needs_features(50)),
    "precision-recall": (_precision_recall, _needs_features(20)),
    "density-coverage": (_density_coverage, _needs_features(20)),
    "classes": (_classes, _needs_classes),
    "sliced-wasserstein": (_sliced_wasserstein, _needs_images(1, side=PATCH)),
    "ms-ssim": (_ms_ssim, _needs_images(4, side=11)),
    "copies": (_copies, _needs_images(20)),
}
IN_FEATURES = {"frechet", "kernel-distance", "precision-recall", "density-coverage", "classes"}


def _share(found: Interval, n: int) -> Interval:
    """The interval of a share of n samples that are found within balls, from that of the halves.

    Were the balls fixed, the share would vary as `share_interval` says. They are not, so it varies
    more; but halves that are all 0 or all 1 do not show it.
    """
    fixed = share_interval(found["value"], n)
    low, high = min(found["low"], fixed["low"]), max(found["high"], fixed["high"])
    return {"value": found["value"], "low": max(0.0, low), "high": min(1.0, high)}


def _not_below_0(found: Interval) -> Interval:
    return {**found, "low": max(0.0, found["low"])}
