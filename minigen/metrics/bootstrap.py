"""Confidence intervals for any metric of samples, by computing it again on random halves of them.

The classic bootstrap draws with replacement. That is wrong here: the duplicates that it makes lower
the rank of covariances and shrink distances to neighbours, so a Frechet distance, a recall or a
density of a resample is biased against that of the sample, and the percentiles may lie all on one
side of the value. Halves drawn without replacement have no duplicates, and their scatter has the
right size by itself: a mean of n/2 out of n values varies around that of all n by
s^2 (2/n - 1/n) = s^2 / n, as the mean of n values does around the truth (Politis & Romano 1994; the
delete-half jackknife of Shao & Wu 1989).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.random import Generator


def bootstrap(
    function: Callable[..., float], x: Any, y: Any = None, *, rng: Generator, resamples: int = 200,
    progress: checks.Progress | None = None,
) -> dict[str, float]:  # fmt: skip
    """{"value", "low", "high"}: function(x, y), or function(x) without y, and its 95% interval.

    x is (N, ...), y (M, ...): independent samples along the first axis, each halved by itself. The
    interval is for the expectation of `value` at these N and M. A metric that is biased for finite
    samples, as the Frechet distance is, keeps its bias: the halves' scatter is laid around `value`,
    since their own mean lies off by the bias of half as many samples.
    """
    sets = [np.asarray(x)] if y is None else [np.asarray(x), np.asarray(y)]
    for array in sets:
        if array.ndim < 1 or len(array) < 4:
            raise ValueError(f"bootstrap: samples have shape {array.shape}, expected 4 and more")
    _check_resamples(resamples)
    value = float(function(*sets))
    halves = np.empty(resamples)
    for i in range(resamples):
        halves[i] = function(*(array[_half(len(array), rng)] for array in sets))
        if progress is not None:
            progress(i + 1, resamples)
    return interval(value, halves)


def whole_and_halves(n: int, *, rng: Generator, resamples: int = 40) -> np.ndarray:
    """Subsets of n samples (1 + resamples, n) bool: all of them, then random halves.

    For a metric that is cheaper of all the halves at once: `interval` takes what it finds.
    """
    _check_resamples(resamples)
    members = np.zeros((1 + resamples, n), bool)
    members[0] = True
    for half in members[1:]:
        half[_half(n, rng)] = True
    return members


def interval(value: float, halves: Any) -> dict[str, float]:
    """{"value", "low", "high"}: the 95% interval of a metric that is `value` of all samples and
    `halves` (resamples,) of random halves of them.
    """
    halves = np.asarray(halves)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"bootstrap: {int((~np.isfinite(halves)).sum())} of {len(halves)} halves gave no finite"
            " number: the metric needs more samples"
        )
    # "weibull": one more half falls below the k-th of n with the chance k / (n + 1)
    below, above = np.quantile(halves - halves.mean(), [0.025, 0.975], method="weibull")
    return {"value": float(value), "low": value - float(above), "high": value - float(below)}


def share_interval(share: float, n: int) -> dict[str, float]:
    """A share of n independent samples and its 95% interval (Wilson 1927), which fits 0 and 1."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    return {"value": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def _check_resamples(resamples: int) -> None:
    if resamples < 40:
        raise ValueError(f"bootstrap: resamples is {resamples}, expected at least 40")


def _half(n: int, rng: Generator) -> np.ndarray:
    return rng.permutation(n).numpy()[: n // 2]
