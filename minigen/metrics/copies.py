"""Does a generator copy its training set? Nearest neighbours tell, with held-out images as control.

Two comparisons. Held-out images show how near to the training set images come that were not in it
(Meehan, Chaudhuri, Dasgupta 2020: a one-sided Mann-Whitney test of the distances). That alone
accuses a generator of smooth images, which lie near everything. So the near images are asked
whether their nearest real image is one of training or a held-out one: where nothing is copied, a
real image is as likely to be the nearest whichever set it is in.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.metrics.neighbours import nearest


@dataclass(frozen=True)
class CopyReport:
    """Distances are Euclidean, in the units of what was given (pixels or features)."""

    copying: bool  # copied is at least 1% and copied_p below 0.001
    copied: float  # estimated share of generated images that are near copies, in [0, 1]
    copied_p: float  # chance of so many by accident
    near: float  # share of generated images within `radius` of the training set
    expected_near: float  # the same of held-out images
    radius: float
    ratio: float  # median distance to the training set: generated over held-out
    nearer_p: float  # Mann-Whitney: that generated images are no nearer than held-out ones
    closest: tuple[tuple[int, int, float], ...]  # (generated, training image, distance), sorted


def copies(
    fake: Any, train: Any, held_out: Any, *, quantile: float = 0.05, pairs: int = 16,
    progress: checks.Progress | None = None,
) -> CopyReport:  # fmt: skip
    """Test generated samples (N, ...) against training (M, ...) and held-out (L, ...) ones.

    Images or features; those of `held_out` must come from the same source as those of `train`, and
    neither set may have been chosen by looking. `radius` is the `quantile` of the distances from
    held-out to training samples; `pairs` pairs are named. A generator that makes few images of its
    own is judged by those few, which may not be enough to tell.
    """
    names = ("generated", "training", "held-out")
    sets = [
        checks.flat(f"copies: {name}", x, least=2)
        for name, x in zip(names, (fake, train, held_out), strict=True)
    ]
    widths = [x.shape[1] for x in sets]
    if len(set(widths)) > 1:
        raise ValueError(f"copies: samples have {widths} numbers each, expected as many in all")
    if not 0 < quantile < 1 or pairs < 0:
        raise ValueError(
            f"copies: quantile is {quantile} and pairs {pairs}, expected (0, 1) and at least 0"
        )
    x, seen, unseen = sets
    total = 2 * len(seen) + len(unseen)

    def tell(before: int) -> checks.Progress | None:
        return None if progress is None else lambda done, _: progress(before + done, total)

    distance, which = to_seen = nearest(x, seen, progress=tell(0))
    control, _ = nearest(unseen, seen, progress=tell(len(seen)))
    to_unseen = nearest(x, unseen, progress=tell(2 * len(seen)))

    radius = float(np.quantile(control, quantile))
    copied, copied_p = _copied(to_seen, to_unseen, radius, len(seen) / len(unseen))
    order = np.argsort(distance, kind="stable")[:pairs]
    middle = float(np.median(control))
    return CopyReport(
        copying=copied >= 0.01 and copied_p < 1e-3,
        copied=copied,
        copied_p=copied_p,
        near=float((distance <= radius).mean()),
        expected_near=float((control <= radius).mean()),
        radius=radius,
        ratio=float(np.median(distance)) / middle if middle else math.inf,
        nearer_p=mann_whitney(distance, control),
        closest=tuple((int(i), int(which[i]), float(distance[i])) for i in order),
    )


def mann_whitney(x: np.ndarray, y: np.ndarray) -> float:
    """One-sided p-value that values of x (N,) are not smaller than those of y (M,).

    The normal approximation of Mann & Whitney 1947, corrected for ties and continuity.
    """
    n, m = len(x), len(y)
    _, place, times = np.unique(np.concatenate([x, y]), return_inverse=True, return_counts=True)
    ranks = np.cumsum(times) - (times - 1) / 2  # the mean rank of equal values
    wins = ranks[place[:n]].sum() - n * (n + 1) / 2  # pairs where x is greater, ties half
    ties = float((times.astype(np.float64) ** 3 - times).sum()) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    return 1.0 if variance <= 0 else _below((wins - n * m / 2 + 0.5) / math.sqrt(variance))


def _copied(
    to_seen: tuple[np.ndarray, np.ndarray], to_unseen: tuple[np.ndarray, np.ndarray],
    radius: float, ratio: float,
) -> tuple[float, float]:  # fmt: skip
    """(estimated share of copies, p-value) from (distance, index) of the nearest of either set.

    Where nothing is copied, `ratio` samples (training over held-out images) lie nearest to training
    for each one that lies nearest to a held-out image; more than that are copies. They are looked
    for twice. Good copies stand out, be they few or one image again and again: within `radius` of a
    real image, and less than half as far from it as from the other set. Blurred ones tell by their
    number alone, so there each real image counts once: a generator that always makes one image of
    its own has by chance a nearest one in either set.
    """
    seen, unseen = to_seen[0] < to_unseen[0], to_unseen[0] < to_seen[0]
    low, high = np.minimum(to_seen[0], to_unseen[0]), np.maximum(to_seen[0], to_unseen[0])
    clear = (low <= radius) & (2 * low < high)
    good, control = int((seen & clear).sum()), int((unseen & clear).sum())
    different_seen = len(np.unique(to_seen[1][seen]))
    different_unseen = len(np.unique(to_unseen[1][unseen]))
    found = [  # (chance, how many too many)
        (_chance(good, control, ratio), good - ratio * control),
        (_chance(different_seen, different_unseen, ratio), seen.sum() - ratio * unseen.sum()),
    ]
    p, excess = min(found)
    return max(0.0, float(excess)) / len(seen), min(
        1.0, 2 * p
    )  # the better of two: twice the chance


def _chance(seen: int, unseen: int, ratio: float) -> float:
    """That a binomial of the chance ratio / (1 + ratio) is `seen` of seen + unseen, or more; by its
    normal approximation.
    """
    n = seen + unseen
    return _below((ratio * unseen - seen) / math.sqrt(ratio * n)) if n else 1.0


def _below(z: float) -> float:
    """The chance that a standard normal number lies below z."""
    return math.erfc(-z / math.sqrt(2)) / 2
