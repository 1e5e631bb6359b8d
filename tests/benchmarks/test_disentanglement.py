"""benchmarks/disentanglement.py: a run of two steps, its table, and what is not done again."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from minigen import data, kernels

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("disentanglement")


@pytest.fixture
def arguments(script, monkeypatch, tmp_path):
    """arguments(*words): what the command line gives, for tiny runs."""

    def parsed(*words):
        words = ["--steps=2", "--channels=1", "--latent=3", "--batch-size=4", *words]
        monkeypatch.setattr(sys, "argv", ["disentanglement.py", f"--results={tmp_path}", *words])
        return script._arguments()

    return parsed


def test_a_run_is_scored_and_drawn_and_repeats(script, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(
        data, "load", lambda *spec, load=data.load: load(*spec).select(range(0, 3000, 50))
    )
    metrics = importlib.import_module("minigen.metrics.disentanglement")
    dci = {part: {"value": 0.5} for part in ("disentanglement", "completeness", "informativeness")}
    monkeypatch.setattr(metrics, "has_trees", lambda: True)
    monkeypatch.setattr(metrics, "dci", lambda codes, factors, **more: dci)
    args = arguments("--models=untrained,beta-4", "--seeds=2")
    runs = []
    with kernels.use("reference"):
        for model, seed in (("untrained", 0), ("beta-4", 0), ("beta-4", 1)):
            wanted = script.settings(args, model)
            runs.append(json.loads(json.dumps(script.run(model, seed, wanted, tmp_path))))
        again = script.run("beta-4", 0, script.settings(args, "beta-4"), tmp_path)
    assert again["found"] == runs[1]["found"] != runs[2]["found"]
    assert script.settings(arguments("--steps=8"), "capacity")["capacity_steps"] == 6
    assert runs[0]["settings"]["steps"] == 0 and runs[0]["found"] != runs[1]["found"]
    assert set(runs[0]["found"]) == set(script.SCORES.values())
    assert all(0 <= share <= 1 for share in runs[0]["shares"].values())
    assert runs[0]["cpu_seconds"] == 0 < runs[1]["cpu_seconds"]
    text = script.keep(args, *runs)
    assert (tmp_path / "disentanglement.md").read_text() == text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| beta-4")]
    assert rows[0][2].strip() == "2" and " to " in rows[0][3]
    assert "(disentanglement/untrained.png)" in text and "2 steps of 4 images" in text
    assert {path.name for path in (tmp_path / "disentanglement").iterdir()} == {
        "untrained.png", "beta-4.png",
    }  # fmt: skip


def made(model, seed, wanted, score):
    numbers = ("mig", "dci-disentanglement", "dci-completeness", "dci-informativeness",
               "factor-vae", "reconstruction", "kl", "active_units")  # fmt: skip
    found = dict.fromkeys(numbers, score)
    return {"model": model, "seed": seed, "settings": wanted, "cpu_seconds": 6.0, "found": found,
            "shares": {"x": score}}  # fmt: skip


def test_runs_that_are_there_are_not_done_again(script, arguments, monkeypatch, tmp_path):
    done = []

    def fresh(one, model, seed, *words):
        done.append((model, seed))
        assert "--steps=2" in words and f"--results={tmp_path}" in words
        return made(model, seed, script.settings(args, model), float(seed))

    monkeypatch.setattr(script.measure, "fresh", fresh)
    args = arguments("--models=beta-1", "--seeds=2")
    script._all_runs(args)
    args = arguments("--models=beta-1,beta-2", "--seeds=3")
    script._all_runs(args)
    assert done[:2] == [("beta-1", 0), ("beta-1", 1)]
    assert done[2:] == [("beta-2", 0), ("beta-2", 1), ("beta-1", 2), ("beta-2", 2)]
    other = made("beta-1", 0, {**script.settings(args, "beta-1"), "steps": 9}, 100.0)
    script.keep(args, other)
    document = json.loads((tmp_path / "disentanglement.json").read_text())
    assert len(document["runs"]) == 7 and other in document["runs"]
    found = document["models"]["beta-1"]["found"]["mig"]  # of 0, 1, 2; not of another setting
    half = 4.30 * np.std([0, 1, 2], ddof=1) / 3**0.5
    assert found == pytest.approx({"value": 1, "low": 1 - half, "high": 1 + half})


def test_intervals_of_few_seeds(script):
    assert script.over_seeds([2.0]) == {"value": 2, "low": None, "high": None}
    assert script._shown(script.over_seeds([2.0])) == "2"
    many = script.over_seeds([0.0, 1.0] * 10)
    assert many["high"] - 0.5 == pytest.approx(
        2.09 * np.std([0, 1] * 10, ddof=1) / 20**0.5, rel=0.01
    )


def test_unknown_models_and_no_runs(script, arguments, capsys):
    with pytest.raises(SystemExit, match="no beta-3; expected some of untrained, beta-1"):
        arguments("--models=beta-1,beta-3")
    assert "No run of these settings has ended yet" in script.keep(arguments())
