"""Disentanglement scores: codes whose scores are known, and other ways to compute the numbers."""

import importlib
import importlib.util
import math
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from minigen.data import Dataset
from minigen.metrics import dci, disentanglement, factor_vae_score, mig
from minigen.metrics.disentanglement import mutual_information, shares_held
from minigen.random import Generator

scores_module = importlib.import_module("minigen.metrics.disentanglement")
COUNTS = (3, 4, 5)
RNG = np.random.default_rng(5)
FACTORS = np.indices(COUNTS).reshape(3, -1).T[RNG.permutation(60).repeat(20)]
FACTORS = FACTORS[RNG.permutation(len(FACTORS))]
NOISE = RNG.normal(size=FACTORS.shape)
ROTATION = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
STANDARD = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
MIXED = STANDARD @ ROTATION
needs_trees = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)


def votes(codes, **more):
    return factor_vae_score(codes, FACTORS, rng=Generator(1), votes=500, test_votes=400, **more)


def few_trees(monkeypatch):
    from sklearn.ensemble import GradientBoostingClassifier

    made = lambda: GradientBoostingClassifier(n_estimators=5, random_state=0)
    monkeypatch.setattr(scores_module, "_trees", made)


# MIG -------------------------------------------------------------------------------------------


def information_by_counting(unit, values, bins):
    """I(bin; value) in nats from the pairs that occur."""
    edges = np.histogram(unit, bins)[1]
    cut = [sum(x >= edge for edge in edges[1:-1]) for x in unit]
    n = len(unit)
    both, a, b = Counter(zip(cut, values, strict=True)), Counter(cut), Counter(values)
    return sum(c / n * math.log(c * n / (a[i] * b[v])) for (i, v), c in both.items())


@pytest.mark.parametrize("bins", [4, 20])
def test_mutual_information_and_the_gap_by_counting(bins):
    codes = np.concatenate([MIXED, FACTORS[:, :1] + 0.5 * NOISE[:, :1]], axis=1)
    told = mutual_information(codes, FACTORS, bins=bins)
    expected = [
        [information_by_counting(unit, values.tolist(), bins) for values in FACTORS.T]
        for unit in codes.T
    ]
    np.testing.assert_allclose(told, expected, rtol=1e-9)
    gaps = [
        (max(column) - sorted(column)[-2]) / math.log(count)  # all values are equally frequent
        for column, count in zip(np.array(expected).T.tolist(), COUNTS, strict=True)
    ]
    assert mig(codes, FACTORS, bins=bins) == pytest.approx(np.mean(gaps), rel=1e-9)


def test_gap_of_codes_that_are_known():
    perfect = FACTORS[:, [2, 0, 1]] * np.array([1, -2.5, 100]) + 7
    assert mig(perfect, FACTORS) == pytest.approx(1)
    assert mig(np.hstack([perfect, NOISE]), FACTORS) == pytest.approx(1, abs=0.1)
    assert mig(np.hstack([FACTORS, FACTORS]), FACTORS) == pytest.approx(0)  # two units for each
    twice = np.hstack([FACTORS, FACTORS[:, :1]])
    assert mig(twice, FACTORS) == pytest.approx(2 / 3)
    assert mig(NOISE, FACTORS) < 0.05 and mig(MIXED, FACTORS) < 0.35
    assert mig(np.zeros((len(FACTORS), 2)), FACTORS) == 0
    assert mig(FACTORS[:, :1], FACTORS) == pytest.approx(1 / 3)  # no second unit, two factors lost


# DCI -------------------------------------------------------------------------------------------


def test_shares_of_importances():
    assert shares_held(np.eye(3)[[2, 0, 1]]) == pytest.approx((1, 1))
    assert shares_held(np.ones((3, 3))) == pytest.approx((0, 0), abs=1e-12)
    # Two units for each of two factors: every unit is pure, every factor is spread.
    spread = np.array([[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]])
    assert shares_held(spread) == pytest.approx((1, 0.5))
    assert shares_held(spread.T) == pytest.approx((0.5, 1))
    # By hand: unit 1 is (3/4, 1/4) with weight 2/3, unit 2 pure with weight 1/3.
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    disentangled, complete = shares_held(np.array([[1.5, 0.5], [0, 1]]))
    assert disentangled == pytest.approx(1 - h * 2 / 3)
    h = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3)) / math.log(2)
    assert complete == pytest.approx(1 - h / 2)
    assert shares_held(np.zeros((2, 2))) == (0, 0)


@needs_trees
def test_trees_find_what_the_units_tell(monkeypatch):
    few_trees(monkeypatch)
    perfect = {name: each["value"] for name, each in dci(FACTORS, FACTORS).items()}
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0), abs=0.01)
    mixed = {name: each["value"] for name, each in dci(MIXED, FACTORS).items()}
    assert mixed["disentanglement"] < 0.5 and mixed["completeness"] < 0.5
    assert mixed["informativeness"] > 0.6
    noise = dci(NOISE, FACTORS)
    assert noise["disentanglement"]["value"] < 0.1
    assert noise["informativeness"]["value"] == pytest.approx(
        np.mean([1 / 3, 1 / 4, 1 / 5]), abs=0.07
    )
    assert noise["informativeness"]["low"] < noise["informativeness"]["value"]


@needs_trees
def test_an_accuracy_and_its_interval_are_no_more_than_1(monkeypatch):
    few_trees(monkeypatch)
    codes = FACTORS.copy()
    codes[-1] = (codes[-1] + 1) % COUNTS  # the trees are wrong about one image of 400
    found = dci(codes, FACTORS)["informativeness"]
    assert 0.99 < found["low"] < found["value"] < 1 and found["high"] == 1
    alone = dci(codes[:9], FACTORS[:9] % 2, test=1, train=8)["informativeness"]
    assert math.isnan(alone["low"]) and math.isnan(alone["high"])


@needs_trees
def test_trees_are_those_of_scikit_learn():
    from sklearn.ensemble import GradientBoostingClassifier

    codes, steps = MIXED[:150], []
    found = dci(
        codes, FACTORS[:150], train=100, test=40, progress=lambda *now: steps.append(now)
    )  # fmt: skip
    importance, right = np.empty((3, 3)), []
    for k in range(3):
        trees = GradientBoostingClassifier(random_state=0).fit(codes[:100], FACTORS[:100, k])
        importance[:, k] = trees.feature_importances_
        right.append(trees.score(codes[110:], FACTORS[110:150, k]))
    assert found["informativeness"]["value"] == pytest.approx(np.mean(right))
    entropy = lambda p: -np.sum(p * np.log(p)) / np.log(3)
    rows = [row.sum() / 3 * (1 - entropy(row / row.sum())) for row in importance]
    assert found["disentanglement"]["value"] == pytest.approx(sum(rows))
    columns = [1 - entropy(column) for column in importance.T]
    assert found["completeness"]["value"] == pytest.approx(np.mean(columns))
    assert steps == [(1, 3), (2, 3), (3, 3)]


# FactorVAE score -------------------------------------------------------------------------------


def test_votes_of_codes_that_are_known():
    perfect = votes(FACTORS[:, [1, 2, 0]] * 1.0)
    assert perfect["value"] == perfect["high"] == 1 and 0.98 < perfect["low"] < 0.995  # of 400
    assert votes(NOISE)["value"] == pytest.approx(1 / 3, abs=0.1)
    turned = STANDARD @ np.array([[1, 1, 0], [1, -1, 0], [0, 0, 1]])  # by 45 degrees in a plane
    assert votes(turned)["value"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3, abs=0.07)
    # A unit that hardly moves has the least variance in no group: it is left out, if it is dead.
    still = np.hstack([FACTORS, 1e-3 * NOISE[:, :1]])
    assert votes(still)["value"] == 1
    assert votes(1e-3 * NOISE)["value"] == 0 and votes(0.1 * STANDARD)["value"] == 1
    assert votes(1e-3 * FACTORS, dead=0)["value"] == 1 and votes(1e-3 * FACTORS)["value"] == 0


def test_votes_one_after_the_other():
    """The same score, within its interval, from a loop that follows the paper's text."""
    codes = STANDARD @ (np.eye(3) + 0.9 * ROTATION) + 0.5 * NOISE
    rng, seen, held = np.random.default_rng(0), defaultdict(Counter), []
    for i in range(2500):
        k = rng.integers(3)
        rows = np.flatnonzero(FACTORS[:, k] == FACTORS[rng.integers(len(codes)), k])
        group = codes[rng.choice(rows, 8)]
        unit = np.argmin(np.var(group, axis=0) / np.var(codes, axis=0))
        if i < 1500:
            seen[unit][k] += 1
        else:
            held.append((unit, k))
    expected = np.mean([seen[unit].most_common(1)[0][0] == k for unit, k in held])
    found = factor_vae_score(
        codes, FACTORS, rng=Generator(3), votes=1500, test_votes=1000, group=8
    )  # fmt: skip
    assert 0.5 < expected < 0.95
    assert found["value"] == pytest.approx(expected, abs=0.05)
    assert found["low"] < found["value"] < found["high"] < found["low"] + 0.1


# of a dataset ----------------------------------------------------------------------------------


def dataset(**more):
    """Images whose first three pixels are the factors, in tens."""
    images = np.zeros((len(FACTORS), 1, 2, 2), np.uint8)
    images.reshape(len(FACTORS), 4)[:, :3] = 10 * FACTORS
    return Dataset(images, name="dots", **more)


def test_all_scores_of_a_dataset(monkeypatch):
    names = ["mig", "factor-vae"]
    if scores_module.has_trees():
        few_trees(monkeypatch)
        names[1:1] = ["dci-disentanglement", "dci-completeness", "dci-informativeness"]
    data = dataset(factors=FACTORS, factor_names=("a", "b", "c"))
    told = []
    encode = lambda images: images.reshape(len(images), -1)[:, :3] * 25.5
    found = disentanglement(
        encode, data, rng=Generator(2), progress=lambda *now: told.append(now)
    )  # fmt: skip
    assert list(found) == names
    for name, each in found.items():
        assert each["value"] == pytest.approx(1, abs=0.01), name
        assert not each["low"] > each["value"] and not each["high"] < each["value"]
    assert 0.99 < found["mig"]["low"] < found["mig"]["high"] <= 1
    assert ("codes", len(data), len(data)) in told
    again = disentanglement(encode, data, rng=Generator(2), scores=["factor-vae"])
    assert again == {"factor-vae": found["factor-vae"]}  # whatever else is asked for


def test_without_scikit_learn(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "sklearn" else find(name)
    )
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    data = dataset(factors=FACTORS, factor_names=("a", "b", "c"))
    encode = lambda images: images.reshape(len(images), -1)
    assert list(disentanglement(encode, data, rng=Generator(2))) == ["mig", "factor-vae"]
    with pytest.raises(ImportError, match=r"dci: .* pip install 'minigen\[metrics\]'"):
        disentanglement(encode, data, rng=Generator(2), scores=["dci"])


def test_faults():
    with pytest.raises(ValueError, match="dots has no factors; `shapes` has"):
        disentanglement(lambda x: x, dataset(), rng=Generator(0))
    data = dataset(factors=FACTORS, factor_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="no score 'mgi'; there are mig, dci, factor-vae"):
        disentanglement(lambda x: x, data, rng=Generator(0), scores=["mgi"])
    with pytest.raises(ValueError, match=r"mig: factors are int64 of shape \(3, 3\), expected"):
        mig(NOISE, FACTORS[:3])
    with pytest.raises(ValueError, match="factor 1 has the same value in all rows"):
        mig(NOISE, FACTORS * np.array([1, 0, 1]))
    with pytest.raises(ValueError, match="mig: bins is 1, expected at least 2"):
        mig(NOISE, FACTORS, bins=1)
    with pytest.raises(ValueError, match="group are 500, 400 and 1"):
        votes(NOISE, group=1)
    with pytest.raises(ValueError, match="features hold NaN"):
        mig(NOISE * np.nan, FACTORS)
