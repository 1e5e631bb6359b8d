"""The comparison of growing with not growing: a tiny run of each, and how budgets are counted."""

import importlib
import json
from argparse import Namespace
from pathlib import Path

import pytest

import minigen as mg

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def growing(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("growing")


def run(grow, seed, distances, seconds):
    moments = [
        {"step": i + 1, "cpu": at, "distances": {"28": d, "14": 3 * d, "mean": 2 * d}}
        for i, (d, at) in enumerate(zip(distances, seconds, strict=True))
    ]
    return {"grow": grow, "seed": seed, "moments": moments, "seconds": {"cpu": seconds[-1]}}


def test_one_run_of_each_way(growing):
    wanted = {
        "size": 28, "steps": 24, "phase_steps": 6, "channels": 1, "batch_size": 4, "samples": 30,
    }  # fmt: skip
    with mg.kernels.use("reference"):
        runs = [growing.train(grow, 0, wanted) for grow in (True, False)]
    for made, levels in zip(runs, ([7, 7, 14, 14, 14] + [28] * 7, [28] * 12), strict=True):
        assert [m["step"] for m in made["moments"]] == list(range(2, 25, 2))
        assert [m["level"] for m in made["moments"]] == levels
        assert set(made["moments"][0]["distances"]) == {"28", "14", "mean"}
        assert made["real"]["mean"] < made["moments"][0]["distances"]["mean"]
    result = json.loads(json.dumps(growing.document(runs, wanted)))
    assert len(list(growing.lines(result))) == 10


def test_budgets_are_images_and_seconds(growing):
    runs = [
        run(True, 0, [9, 4, 2], [1, 3, 6]), run(False, 0, [8, 5, 3], [4, 8, 12]),
        run(True, 1, [9, 4, 4], [1, 3, 7]), run(False, 1, [8, 7, 5], [4, 7, 12]),
        run(True, 2, [9, 4, 1], [1, 3, 7]),  # whose other has not run yet
    ]  # fmt: skip
    budgets = growing.compared(runs)
    images, seconds = budgets["images"], budgets["seconds"]
    assert images["growing"]["28"] == {"mean": 3, "each": [2, 4]}
    assert images["not growing"]["mean"] == {"mean": 8, "each": [6, 10]}
    assert seconds["not growing"]["steps"] == [2, 2]
    assert (images["ratio"], seconds["ratio"]) == (6 / 8, 6 / 12)
    assert growing.document(runs, {})["better"] is True
    worse = [run(True, 0, [9], [1]), run(False, 0, [8], [2])]
    assert growing.document(worse, {})["better"] is False
    assert growing.document(worse[:1], {})["better"] is False


def test_runs_not_asked_for_are_kept_and_not_judged(growing, monkeypatch, tmp_path):
    args = Namespace(size=28, steps=8, phase_steps=2, channels=1, batch_size=4, samples=30, seeds=1,
                     jobs=1, out=tmp_path / "growing.json")  # fmt: skip
    wanted, done = growing.settings(args), []
    others = [
        {**run(True, 1, [99], [1]), "settings": wanted, "real": {"28": 7.5}},
        {**run(True, 0, [99], [1]), "settings": {**wanted, "steps": 9}, "real": {"28": 8.5}},
    ]
    args.out.write_text(json.dumps({"runs": others[:1]}))

    def fresh(one, way, seed, *words):
        done.append((way, seed))
        if way == "full":  # another process has ended a run
            known = json.loads(args.out.read_text())
            args.out.write_text(json.dumps({**known, "runs": [*known["runs"], others[1]]}))
        made = run(way == "grow", seed, [4 if way == "grow" else 5], [1])
        return {**made, "settings": wanted, "real": {"28": 9.5}}

    monkeypatch.setattr(growing.measure, "fresh", fresh)
    for _ in range(2):
        growing._all_runs(args)
        result = growing.keep(args)
        assert done == [("grow", 0), ("full", 0)]
        assert json.loads(args.out.read_text()) == result and len(result["runs"]) == 4
        assert all(each in result["runs"] for each in others)
        assert result["budgets"]["images"]["ratio"] == 4 / 5
    args.seeds, args.steps = 1, 9
    args.phase_steps = wanted["phase_steps"]
    assert "8.5" in list(growing.lines(growing.keep(args)))[-1]
