"""The proof of the collapse doctor: a tiny run of each kind, and how they are counted."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

import minigen as mg

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def doctor(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("doctor")


def test_runs_are_watched_and_counted(doctor, monkeypatch):
    monkeypatch.setattr(doctor, "WITHIN", 20)
    args = Namespace(channels=2, batch_size=4, steps=20, data="fashion-mnist")
    runs = []
    with mg.kernels.use("reference"):
        for forced in (True, False):
            wanted = doctor.plan("dcgan", 0, forced, args)
            runs.append({**wanted, **doctor.watched(wanted, "cpu")})
    assert runs[0]["options"]["discriminator_lr"] == pytest.approx(0.02)
    assert "discriminator_lr" not in runs[1]["options"]
    assert all(0 < run["share_looking"] < 1 and run["diversity"] > 0 for run in runs)
    runs[0] |= {"named": 20, "findings": [{"step": 20, "name": "fever", "text": "hot"}]}
    lines = list(doctor.table(json.loads(json.dumps({"runs": runs}))))
    assert "fever at 20" in lines[1]
    assert lines[-1] == "1 of 1 forced collapses named, 0 alarms in 1 runs"


def test_runs_that_others_write_meanwhile_are_kept(doctor, monkeypatch, tmp_path, capsys):
    path, done = tmp_path / "doctor.json", []
    found = {"named": None, "findings": [], "share_looking": 0.0}
    other = {"model": "wgan", "forced": False, "seed": 9, "steps": 1, **found}

    def watched(wanted, device):
        done.append(wanted["forced"])
        if len(done) == 1:
            path.write_text(json.dumps({"runs": [other]}))
        return found

    monkeypatch.setattr(doctor, "watched", watched)
    monkeypatch.setattr(doctor.measure, "start", lambda args: None)
    monkeypatch.setattr(
        sys, "argv", ["doctor.py", "--models", "dcgan", "--seeds", "1", "--out", str(path)]
    )
    for _ in range(2):  # the second time there is nothing to do
        doctor.main()
        assert done == [True, False]
        runs = json.loads(path.read_text())["runs"]
        assert [run["model"] for run in runs] == ["wgan", "dcgan", "dcgan"] and runs[0] == other
        assert "0 alarms in 2 runs" in capsys.readouterr().out


def test_a_write_that_fails_leaves_the_earlier_runs(doctor, monkeypatch, tmp_path):
    path = tmp_path / "doctor.json"
    before = doctor.added({"seed": 0}, {"runs": []}, path)

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr("minigen.files.write_verified", full)
    with pytest.raises(OSError, match="the earlier file is intact"):
        doctor.added({"seed": 1}, before, path)
    assert json.loads(path.read_text()) == before
