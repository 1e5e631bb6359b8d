"""Quality and diversity by nearest neighbours: precision, recall, density, coverage.

Every sample carries a ball that reaches its k-th nearest neighbour in its own set; a set's balls
together stand for the region that it fills (Kynkaanniemi et al. 2019; Naeem et al. 2020).
Distances are computed in blocks of rows, so that memory stays bounded.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigen.metrics import checks

_BLOCK = 1 << 20  # distances in a block: 8 MB, what caches may hold
_ROUNDING = 1e-13  # of a squared distance, relative to the squared lengths of its two ends


def precision_recall(
    real: Any, fake: Any, k: int = 3, *, progress: checks.Progress | None = None
) -> tuple[float, float]:
    """(precision, recall) in [0, 1] of features (N, D) and (M, D): the share of generated samples
    in the balls of real ones, and of real samples in the balls of generated ones.

    Kynkaanniemi et al. 2019, eq. 2. Samples on a ball's edge lie outside.
    """
    precision, recall = precision_recall_of(real, fake, *_whole(real, fake), k, progress=progress)
    return float(precision[0]), float(recall[0])


def density_coverage(
    real: Any, fake: Any, k: int = 5, *, progress: checks.Progress | None = None
) -> tuple[float, float]:
    """(density, coverage) of features (N, D) and (M, D): how many real balls hold a generated
    sample on average, over k; and the share of real balls that hold any.

    Naeem et al. 2020, eqs. 3 and 4. Density is at least 0, near 1 for equal distributions, and may
    exceed 1; coverage lies in [0, 1].
    """
    density, coverage = density_coverage_of(real, fake, *_whole(real, fake), k, progress=progress)
    return float(density[0]), float(coverage[0])


def precision_recall_of(
    real: Any, fake: Any, in_real: np.ndarray, in_fake: np.ndarray, k: int = 3, *,
    progress: checks.Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`precision_recall` of S pairs of subsets at once, (S,) each; in_real (S, N) and in_fake
    (S, M) bool say which samples belong to them. Distances are computed only once for all.
    """
    who = "precision_recall"
    a, b, steps = _prepare(who, real, fake, in_real, in_fake, k, progress, sets=2)
    real_radius, fake_radius = _radii(a, k, in_real, steps), _radii(b, k, in_fake, steps)
    good, found = np.zeros_like(in_fake), np.zeros_like(in_real)
    for rows, distance in _blocks(a, b, steps):
        for s in range(len(in_real)):
            good[s] |= (distance < real_radius[s, rows, None]).any(0)
            found[s, rows] = (distance < fake_radius[s]).any(1)
    return (good & in_fake).sum(1) / in_fake.sum(1), (found & in_real).sum(1) / in_real.sum(1)


def density_coverage_of(
    real: Any, fake: Any, in_real: np.ndarray, in_fake: np.ndarray, k: int = 5, *,
    progress: checks.Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`density_coverage` of S pairs of subsets at once, (S,) each, as in `precision_recall_of`."""
    who = "density_coverage"
    a, b, steps = _prepare(who, real, fake, in_real, in_fake, k, progress, sets=1)
    radius = _radii(a, k, in_real, steps)
    inside, covered = np.zeros(len(in_real)), np.zeros(len(in_real))
    for rows, distance in _blocks(a, b, steps):
        for s in range(len(in_real)):
            hits = (distance < radius[s, rows, None]) & in_fake[s]
            inside[s] += np.count_nonzero(hits)
            covered[s] += np.count_nonzero(hits.any(1))
    return inside / (k * in_fake.sum(1)), covered / in_real.sum(1)


def nearest(
    x: np.ndarray, y: np.ndarray, *, progress: checks.Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For rows (N, D) float32: the Euclidean distance (N,) to the nearest row of (M, D), and which.

    The search multiplies float32 matrices; the distance of the pair found is exact.
    """
    centre = y.mean(0)  # as near to 0 as can be: a . b loses digits far from it
    left = np.column_stack([-2 * (x - centre), np.ones(len(x), x.dtype)])
    best, index = np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.int64)
    step = max(1, min(len(y), (1 << 24) // len(x)))
    for start in range(0, len(y), step):
        block = y[start : start + step] - centre
        squares = np.einsum("ij,ij->i", block, block)
        # |a - b|^2 less |a|^2, which is the same for all b: (-2 a, 1) . (b, |b|^2)
        score = left @ np.column_stack([block, squares]).T
        at = score.argmin(1)
        value = np.take_along_axis(score, at[:, None], 1)[:, 0]
        better = value < best
        best[better], index[better] = value[better], at[better] + start
        if progress is not None:
            progress(min(start + step, len(y)), len(y))
    gaps = [
        x[i : i + 1024].astype(np.float64) - y[index[i : i + 1024]] for i in range(0, len(x), 1024)
    ]
    return np.concatenate([np.linalg.norm(gap, axis=1) for gap in gaps]), index


class _Steps:
    """Counts rows of distances for a progress callback."""

    def __init__(self, progress: checks.Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def add(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None:
            self.progress(self.done, self.total)


def _whole(real: Any, fake: Any) -> tuple[np.ndarray, np.ndarray]:
    """One pair of subsets, to which all samples belong."""
    return np.ones((1, len(real)), bool), np.ones((1, len(fake)), bool)


def _prepare(
    who: str, real: Any, fake: Any, in_real: np.ndarray, in_fake: np.ndarray, k: int,
    progress: checks.Progress | None, *, sets: int,
) -> tuple[np.ndarray, np.ndarray, _Steps]:  # fmt: skip
    if k < 1:
        raise ValueError(f"{who}: k is {k}, expected at least 1")
    a, b = checks.feature_pair(who, real, fake, least=k + 1)
    if in_real.shape != (len(in_fake), len(a)) or in_fake.shape != (len(in_real), len(b)):
        raise ValueError(
            f"{who}: subsets have shapes {in_real.shape} and {in_fake.shape},"
            f" expected (S, {len(a)}) and (S, {len(b)})"
        )
    least = min(int(members.sum(1).min()) for members in (in_real, in_fake))
    if least <= k:
        raise ValueError(f"{who}: a subset holds {least} features, expected at least {k + 1}")
    centre = a.mean(0)
    rows = 2 * len(a) if sets == 1 else 2 * len(a) + len(b)
    return a - centre, b - centre, _Steps(progress, rows)


def _radii(x: np.ndarray, k: int, members: np.ndarray, steps: _Steps) -> np.ndarray:
    """Squared distance (S, N) of each row to its k-th nearest other row in each subset, of which
    members (S, N) tells; 0 for a row outside the subset, whose ball then holds nothing.
    """
    # Of so many neighbours, k are in a half but for a chance below 1e-9.
    reach = k if members.all() else min(len(x) - 1, 4 * k + 60)
    radii = np.zeros(members.shape)
    for rows, distance in _blocks(x, x, steps):
        near = np.argpartition(distance, reach - 1, axis=1)[:, :reach]
        length = np.take_along_axis(distance, near, 1)
        order = length.argsort(1)
        near, length = np.take_along_axis(near, order, 1), np.take_along_axis(length, order, 1)
        for subset, radius in zip(members, radii, strict=True):
            before = (subset[near].cumsum(1) < k).sum(1)  # neighbours nearer than the k-th of it
            at = np.minimum(before, reach - 1)[:, None]
            radius[rows] = np.take_along_axis(length, at, 1)[:, 0] * subset[rows]
    return radii


def _blocks(a: np.ndarray, b: np.ndarray, steps: _Steps) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows of a, their squared distances (rows, M) to b), block by block; infinite to oneself.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a . b is one product of the rows (-2 a, |a|^2, 1) and
    (b, 1, |b|^2). What rounding alone may have left counts as 0, so that duplicates are at
    distance 0 wherever they stand.
    """
    squares_a, squares_b = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    left = np.column_stack([-2 * a, squares_a, np.ones(len(a))])
    right = np.column_stack([b, np.ones(len(b)), squares_b]).T
    negligible = _ROUNDING * (squares_a + squares_b.max())
    step = max(1, _BLOCK // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        distance = left[rows] @ right
        if b is a:
            distance[np.arange(rows.stop - start), np.arange(start, rows.stop)] = np.inf
        for row in np.flatnonzero(distance.min(1) < negligible[rows]):
            distance[row, distance[row] < negligible[start + row]] = 0
        yield rows, distance
        steps.add(rows.stop - rows.start)
