"""How many modes of a known mixture a generator reaches, and how evenly.

The rules are those of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018): a sample is
good within 3 standard deviations of its nearest centre, and a mode is reached when it has at least
one good sample. The KL divergence is KL(q || uniform) in nats, where q is the share of *all*
samples that lie nearest to each mode; it is 0 when all modes get equally many.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigen.metrics import checks


@dataclass(frozen=True)
class ModeReport:
    """What the samples reach of a mixture whose modes are equally likely."""

    modes: int  # reached
    total: int  # modes that there are
    good_share: float  # of the samples, in [0, 1]
    kl: float  # nats; log(total) at most
    counts: tuple[int, ...]  # samples nearest to each mode


def points_covered(points: Any, centres: Any, std: float, *, within: float = 3.0) -> ModeReport:
    """Modes of a mixture of Gaussians with `centres` (K, D) and one `std`, by points (N, D).

    A point within `within * std` of its nearest centre is good.
    """
    who = "points_covered"
    x, middle = checks.feature_pair(who, points, centres, least=1)
    if not (std > 0 and within > 0):
        raise ValueError(f"{who}: std is {std} and within {within}, expected positive numbers")
    nearest, distance = np.empty(len(x), np.int64), np.empty(len(x))
    step = max(1, (1 << 22) // middle.size)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        gaps = np.linalg.norm(x[rows, None] - middle, axis=2)
        nearest[rows], distance[rows] = gaps.argmin(1), gaps.min(1)
    good = distance <= within * std
    reached = len(np.unique(nearest[good]))
    return _report(np.bincount(nearest, minlength=len(middle)), reached, float(good.mean()))


def labels_covered(labels: Any, count: int) -> ModeReport:
    """Modes that are classes 0 to count - 1, by the labels (N,) that a classifier gave the samples.

    A classifier names some class for every sample: all count as good. On stacked MNIST there are
    1,000 modes, and the papers take 26,000 samples.
    """
    x = np.asarray(labels)
    if x.ndim != 1 or x.dtype.kind not in "iu" or not len(x):
        raise ValueError(
            f"labels_covered: labels are {x.dtype} of shape {x.shape}, expected integers (N,)"
        )
    if x.min() < 0 or x.max() >= count:
        raise ValueError(
            f"labels_covered: labels lie in {x.min()} to {x.max()}, expected 0 to {count - 1}"
        )
    counts = np.bincount(x, minlength=count)
    return _report(counts, int((counts > 0).sum()), 1.0)


def _report(counts: np.ndarray, reached: int, good_share: float) -> ModeReport:
    shares = counts[counts > 0] / counts.sum()
    kl = max(0.0, float((shares * np.log(shares * len(counts))).sum()))
    return ModeReport(reached, len(counts), good_share, kl, tuple(counts.tolist()))
