"""Kernel distance (KID of Binkowski et al. 2018): a distance of feature sets without bias.

The squared maximum mean discrepancy (Gretton et al. 2012, lemma 6) under the kernel
k(a, b) = (a . b / D + 1)^3, averaged over subsets, because all pairs of all samples are many. The
estimate is 0 in expectation for two samples of one distribution, and may be negative.
"""

from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.random import Generator


def kernel_distance(
    x: Any, y: Any, *, rng: Generator, subsets: int = 100, subset_size: int = 1000,
    progress: checks.Progress | None = None,
) -> tuple[float, float]:  # fmt: skip
    """(mean, standard deviation) over random subsets of features (N, D) and (M, D).

    Each subset has `subset_size` rows of either set, without repetition. The deviation is that of
    single subsets; it is not the error of the mean, since subsets share samples.
    """
    a, b = checks.feature_pair("kernel_distance", x, y)
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(
            f"kernel_distance: subset_size is {subset_size}, the sets have {len(a)} and {len(b)} "
            f"samples, expected 2 to {min(len(a), len(b))}"
        )
    if subsets < 1:
        raise ValueError(f"kernel_distance: subsets is {subsets}, expected at least 1")
    values = np.empty(subsets)
    for i in range(subsets):
        rows = [rng.permutation(len(s)).numpy()[:subset_size] for s in (a, b)]
        values[i] = squared_mmd(a[rows[0]], b[rows[1]])
        if progress is not None:
            progress(i + 1, subsets)
    return float(values.mean()), float(values.std())


def squared_mmd(x: Any, y: Any) -> float:
    """The unbiased squared maximum mean discrepancy of features (N, D) and (M, D)."""
    a, b = checks.feature_pair("squared_mmd", x, y)
    within = _sum_of_cubes(a, a) / (len(a) * (len(a) - 1))
    within += _sum_of_cubes(b, b) / (len(b) * (len(b) - 1))
    return within - 2 * _sum_of_cubes(a, b) / (len(a) * len(b))


def _sum_of_cubes(a: np.ndarray, b: np.ndarray) -> float:
    """The kernel's sum over pairs; where both sets are one, over pairs of different rows."""
    base = (a / a.shape[1]) @ b.T
    base += 1
    if b is a:
        np.fill_diagonal(base, 0)
    return float(np.vdot(base * base, base))
