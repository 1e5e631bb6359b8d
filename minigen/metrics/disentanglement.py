"""Whether single units of a code stand for single factors of the data: MIG, DCI, FactorVAE score.

All three need data whose factors are known (`Dataset.factors`, as of `shapes`) and deterministic
codes, such as posterior means. 1 is the best. Protocols and numbers of samples are those of
Locatello et al. 2019 (arXiv 1811.12359), section 3 and appendix, but where it says otherwise.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.metrics.bootstrap import interval, share_interval, whole_and_halves
from minigen.metrics.comparison import Stages
from minigen.nn import mean_interval, no_interval
from minigen.random import Generator

BINS = 20
SCORES = ("mig", "dci", "factor-vae")
IMAGES = 10_000  # encoded, at most
BATCH = 256  # images encoded at a time
VOTES, TEST_VOTES, GROUP = 10_000, 5000, 64  # a vote is of a group of images
DEAD = 0.05  # standard deviation below which a unit of a code for p(z) = N(0, 1) tells nothing
TRAIN, TEST = 2000, 1000  # images of the trees: a fifth of the source's, for the time's sake


def disentanglement(
    encode: Callable[[np.ndarray], Any], dataset: Any, *, rng: Generator,
    scores: Sequence[str] | None = None, progress: Stages | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The scores of a code on a dataset with factors, each {"value", "low", "high"} (95%).

    `encode` takes images (n, C, H, W) in [0, 1] and gives codes (n, D). `scores` chooses from
    SCORES; None takes all that can be computed, without dci where scikit-learn is not installed.
    Names: mig, dci-disentanglement, dci-completeness, dci-informativeness, factor-vae. The
    intervals are of the images and votes drawn, not of other trainings; those two parts of dci that
    come of the trees have none (NaN).
    """
    if dataset.factors is None:
        raise ValueError(f"disentanglement: {dataset.name} has no factors; `shapes` has")
    if scores is None:
        scores = SCORES if has_trees() else [each for each in SCORES if each != "dci"]
    for name in scores:
        if name not in SCORES:
            raise ValueError(f"disentanglement: no score {name!r}; there are {', '.join(SCORES)}")
    order = rng.spawn("images").permutation(len(dataset)).numpy()[:IMAGES]
    codes, factors = _encoded(encode, dataset, order, progress), dataset.factors[order]
    found: dict[str, dict[str, float]] = {}
    if "mig" in scores:
        members = whole_and_halves(len(codes), rng=rng.spawn("halves"))
        value, *halves = (mig(codes[part], factors[part]) for part in members)
        found["mig"] = _within_0_and_1(interval(value, halves))
    if "dci" in scores:
        told = None if progress is None else lambda d, n: progress("trees of dci", d, n)
        found.update(
            {f"dci-{part}": each for part, each in dci(codes, factors, progress=told).items()}
        )
    if "factor-vae" in scores:
        found["factor-vae"] = factor_vae_score(codes, factors, rng=rng.spawn("votes"))
    return found


def has_trees() -> bool:
    """Whether scikit-learn, which dci needs, is installed."""
    return importlib.util.find_spec("sklearn") is not None


# MIG ---------------------------------------------------------------------------------------------


def mig(codes: Any, factors: Any, *, bins: int = BINS) -> float:
    """Mutual information gap (Chen et al. 2018, eq. 6) of codes (N, D) and factors (N, F):

        1/F sum_k (I(z_j(k); v_k) - max_{j != j(k)} I(z_j; v_k)) / H(v_k),

    where j(k) is the unit that tells most of factor k. A code that has one unit misses nothing of
    the second best. Units are cut into `bins` of equal width between their least and largest value.
    """
    codes, factors = _pair("mig", codes, factors)
    if bins < 2:
        raise ValueError(f"mig: bins is {bins}, expected at least 2")
    told = mutual_information(codes, factors, bins=bins)
    first, second = np.sort(np.vstack([told, np.zeros_like(told[:1])]), axis=0)[[-1, -2]]
    entropies = [_entropy(np.bincount(v) / len(v)) for v in factors.T]
    return float(np.mean((first - second) / entropies))


def mutual_information(codes: np.ndarray, factors: np.ndarray, *, bins: int = BINS) -> np.ndarray:
    """I(z_j; v_k) in nats (D, F) of every unit, cut into bins, and every factor."""
    low, span = codes.min(0), np.ptp(codes, axis=0)
    cut = np.minimum((codes - low) / np.where(span > 0, span, 1) * bins, bins - 1).astype(np.int64)
    told = np.empty((codes.shape[1], factors.shape[1]))
    for k, values in enumerate(factors.T):
        count = values.max() + 1
        for j, unit in enumerate(cut.T):
            pairs = np.bincount(unit * count + values, minlength=bins * count)
            joint = pairs.reshape(bins, count) / len(values)
            parts = _entropy(joint.sum(1)) + _entropy(joint.sum(0))
            told[j, k] = parts - _entropy(joint.ravel())
    return told


# DCI ---------------------------------------------------------------------------------------------


def dci(
    codes: Any, factors: Any, *, train: int = TRAIN, test: int = TEST,
    progress: checks.Progress | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """{"disentanglement", "completeness", "informativeness"} (Eastwood & Williams 2018, section 2)
    by gradient-boosted trees, each {"value", "low", "high"}.

    R_jk is how important unit j is to the trees that tell factor k from the code. Disentanglement
    is the mean of 1 - H(R_j. / sum) / log F over units, weighted by their importance; completeness
    that of 1 - H(R_.k / sum) / log D over factors; informativeness the accuracy on codes that the
    trees have not seen. The first `train` rows teach and the last `test` judge, in these shares
    where there are fewer; rows have to be in random order. Raises ImportError, one line, without
    scikit-learn.
    """
    codes, factors = _pair("dci", codes, factors)
    train = min(train, len(codes) * train // (train + test))
    test = min(test, len(codes) - train)
    if train < 2 or test < 1:
        raise ValueError(f"dci: {len(codes)} codes are too few, expected at least 4")
    importance = np.empty((codes.shape[1], factors.shape[1]))
    right = np.empty((test, factors.shape[1]))
    for k, values in enumerate(factors.T):
        trees = _trees()
        trees.fit(codes[:train], values[:train])
        importance[:, k] = trees.feature_importances_
        right[:, k] = trees.predict(codes[-test:]) == values[-test:]
        if progress is not None:
            progress(k + 1, factors.shape[1])
    disentangled, complete = shares_held(importance)
    return {
        "disentanglement": no_interval(disentangled),
        "completeness": no_interval(complete),
        "informativeness": _within_0_and_1(mean_interval(right.mean(1))),
    }


def shares_held(importance: np.ndarray) -> tuple[float, float]:
    """(disentanglement, completeness) of how important units are to factors (D, F)."""
    total = importance.sum()
    if total == 0:  # nothing tells anything
        return 0.0, 0.0
    return float(_purity(importance) / total), float(_purity(importance.T) / total)


def _purity(importance: np.ndarray) -> float:
    """sum_i w_i (1 - H(rows' shares) / log of the row's length), w_i the sum of row i."""
    rows, length = importance[importance.sum(1) > 0], importance.shape[1]
    if length == 1:
        return float(rows.sum())
    each = [row.sum() * (1 - _entropy(row / row.sum()) / np.log(length)) for row in rows]
    return float(sum(each))


def _trees() -> Any:
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise ImportError(
            "dci: scikit-learn is not installed; pip install 'minigen[metrics]'"
        ) from error
    return GradientBoostingClassifier(random_state=0)


# FactorVAE score ---------------------------------------------------------------------------------


def factor_vae_score(
    codes: Any, factors: Any, *, rng: Generator, votes: int = VOTES, test_votes: int = TEST_VOTES,
    group: int = GROUP, dead: float = DEAD,
) -> dict[str, float]:  # fmt: skip
    """The score of Kim & Mnih 2018, section 4, {"value", "low", "high"}.

    A vote fixes a factor k, drawn at random, at a value, takes `group` codes of images that share
    it, and finds the unit d* = argmin_d Var(z_d of the group) / Var(z_d of all). Of `votes` such
    pairs a classifier learns which k most often goes with each d*; the score is its accuracy on
    `test_votes` others. A unit whose standard deviation is below `dead` does not take part. A code
    that says nothing gets about 1/F, not 0; one without a live unit gets 0.
    """
    codes, factors = _pair("factor_vae_score", codes, factors)
    if min(votes, test_votes) < 1 or group < 2:
        raise ValueError(
            f"factor_vae_score: votes, test_votes and group are {votes}, {test_votes} and {group},"
            " expected at least 1, 1 and 2"
        )
    codes = codes[:, codes.std(0) >= dead]
    if not codes.shape[1]:
        return no_interval(0.0)
    count, total = factors.shape[1], votes + test_votes
    chosen = rng.integers(count, shape=total).numpy()
    # A row drawn at random has each value of its factor as often as the data has.
    values = factors[rng.integers(len(codes), shape=total).numpy(), chosen]
    spread = (codes / codes.std(0)).astype(np.float32)
    units = np.empty(total, np.int64)
    for k in range(count):
        of_value = [np.flatnonzero(factors[:, k] == v) for v in range(factors[:, k].max() + 1)]
        for v, rows in enumerate(of_value):
            mine = np.flatnonzero((chosen == k) & (values == v))
            if len(mine):
                drawn = rows[rng.integers(len(rows), shape=(len(mine), group)).numpy()]
                units[mine] = spread[drawn].var(1).argmin(1)
    seen = np.zeros((codes.shape[1], count), np.int64)
    np.add.at(seen, (units[:votes], chosen[:votes]), 1)
    right = seen.argmax(1)[units[votes:]] == chosen[votes:]
    return share_interval(float(right.mean()), test_votes)


# helpers -----------------------------------------------------------------------------------------


def _encoded(encode: Any, dataset: Any, order: np.ndarray, progress: Any) -> np.ndarray:
    parts = []
    for start in range(0, len(order), BATCH):
        parts.append(np.asarray(encode(dataset.batch(order[start : start + BATCH])[0])))
        if progress is not None:
            progress("codes", min(start + BATCH, len(order)), len(order))
    return np.concatenate(parts)


def _within_0_and_1(found: dict[str, float]) -> dict[str, float]:
    """The interval of a score that cannot lie outside; NaN, which is none, stays."""
    return {key: float(np.clip(value, 0, 1)) for key, value in found.items()}


def _entropy(p: np.ndarray) -> float:
    """-sum p log p in nats."""
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _pair(who: str, codes: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Codes float64 (N, D), and factors int64 (N, F) as numbers of the values that they have."""
    codes, factors = checks.features(who, codes), np.asarray(factors)
    if factors.dtype.kind not in "iu" or factors.shape[:1] != codes.shape[:1] or factors.ndim != 2:
        raise ValueError(
            f"{who}: factors are {factors.dtype} of shape {factors.shape}, expected integers of"
            f" shape ({len(codes)}, F)"
        )
    numbered = np.stack([np.unique(v, return_inverse=True)[1] for v in factors.T], axis=1)
    same = np.flatnonzero(numbered.max(0) == 0)
    if len(same):
        raise ValueError(f"{who}: factor {same[0]} has the same value in all rows; leave it out")
    return codes, numbered
