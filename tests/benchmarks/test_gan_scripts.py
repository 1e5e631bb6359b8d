"""benchmarks/gan_parity.py and gan_table.py, without PyTorch, on tiny networks and few images."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from minigen import kernels
from minigen.train.config import make_config
from minigen.train.registry import MODELS
from tests.benchmarks.conftest import FOLDER

TINY = {"steps": 2, "batch_size": 8, "channels": 2}


@pytest.fixture
def plain():
    with kernels.use("reference"):
        yield


@pytest.mark.parametrize("script", ["gan_parity", "gan_table"])
def test_script_explains_itself_and_refuses_unknown_models(script):
    command = [sys.executable, "-W", "error", FOLDER / f"{script}.py"]
    out = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert out.returncode == 0 and "usage" in out.stdout, out.stderr
    out = subprocess.run([*command, "--models", "dcgan,gna"], capture_output=True, text=True)
    assert out.returncode == 1 and out.stderr.startswith(f"{script}: no gna; expected some of")


# --------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("model", ["dcgan", "wgan-gp"])
def test_numbers_drawn_for_torch_are_those_that_a_step_of_minigen_takes(load, plain, model):
    pair = load("gan_pair")
    made = pair.make(model, {"batch_size": 4, "channels": 2}, seed=0)
    ours, theirs = pair.Numbers(3), pair.Numbers(3)
    images = np.zeros((made.images_per_step, *pair.IMAGE), np.float32)
    losses = pair.Ours(made).step(images, ours)
    pair.drawn(made.options, theirs)
    assert np.isfinite(list(losses.values())).all()
    np.testing.assert_array_equal(ours.noise(3), theirs.noise(3))
    np.testing.assert_array_equal(ours.mixing(3), theirs.mixing(3))


def test_a_run_measures_both_generators_and_repeats(load, monkeypatch):
    parity = load("gan_parity")
    monkeypatch.setattr(parity, "source", lambda split: ("fashion-mnist", split))
    one, again = (parity.train("wgan-gp", "minigen", 0, TINY, samples=20) for _ in range(2))
    assert [point["step"] for point in one["distances"]] == [1, 2]
    assert one["distances"] == again["distances"] and one["losses"] == again["losses"]
    last = one["distances"][-1]
    assert last["averaged"] != last["raw"] and min(last["averaged"], last["raw"]) > 0
    assert set(one["losses"]) == {"discriminator", "penalty", "generator"}
    assert one["ms_a_step"]["cpu"] > 0 and one["images"]["held_out"] == 20
    other = parity.train("wgan-gp", "minigen", 1, TINY, samples=20)
    assert other["distances"] != one["distances"]


def test_curves_are_thinned_to_means(load):
    parity = load("gan_parity")
    steps = [{"d": float(i)} for i in range(3 * parity.CURVE)]
    curve = parity.thinned(steps)["d"]
    assert len(curve) == parity.CURVE and curve[:2] == [1.0, 4.0]


def _run(library, seed, distance, model="dcgan", settings=None):
    point = {"step": 2, "averaged": distance, "raw": 2 * distance}
    return {"model": model, "library": library, "seed": seed, "settings": settings or TINY,
            "samples": 20, "ms_a_step": {"cpu": 1.0}, "distances": [point]}  # fmt: skip


@pytest.mark.parametrize(("ours", "agree"), [(10.4, True), (9.6, True), (10.6, False)])
def test_means_over_seeds_decide(load, ours, agree):
    parity = load("gan_parity")
    runs = [_run("minigen", 0, ours - 3), _run("minigen", 1, ours + 3)]
    runs += [_run("torch", 0, 9.0), _run("torch", 1, 11.0), _run("minigen", 2, 99.0)]
    result = parity.document(runs, {"dcgan": 0.0}, 20)
    (row,) = result["models"]
    assert row["libraries"]["minigen"]["averaged"]["each"] == [ours - 3, ours + 3]
    assert row["apart"] == pytest.approx(abs(ours - 10) / 10) and result["agree"] == agree
    assert ("NOT within" in "\n".join(parity.lines(result))) != agree


def test_first_steps_and_the_control_are_judged(load):
    parity = load("gan_parity")
    runs = [_run("minigen", 0, 10.0), _run("torch", 0, 10.0), _run(parity.CONTROL, 0, 12.0)]
    assert parity.document(runs, {"dcgan": 1e-9}, 20)["agree"]
    result = parity.document(runs, {"dcgan": 1e-3}, 20)
    assert not result["agree"] and result["models"][0]["control_apart"] == pytest.approx(0.2)
    assert "the control 20.00%" in "\n".join(parity.lines(result))


def test_runs_of_the_same_settings_are_not_done_again(load, monkeypatch, tmp_path):
    parity, done = load("gan_parity"), []

    def fresh(one, model, library, seed, *words):
        done.append((library, seed))
        made = _run(library, seed, 10.0 + seed, model, parity.SETTINGS[model] | {"steps": 4})
        return {**made, "samples": args.samples}

    monkeypatch.setattr(parity.measure, "fresh", fresh)
    args = SimpleNamespace(models=["dcgan"], seeds=2, control=False, samples=20, steps=4, jobs=1,
                           out=tmp_path / "parity.json")  # fmt: skip
    parity._all_runs(args)
    assert done == [("minigen", 0), ("torch", 0), ("minigen", 1), ("torch", 1)]
    args.seeds = 3
    parity._all_runs(args)
    assert done[4:] == [("minigen", 2), ("torch", 2)]
    args.samples = 21
    parity._all_runs(args)
    assert len(done) == 12  # nothing of the file is of these settings
    assert len(json.loads(args.out.read_text())["runs"]) == 12


def test_runs_not_asked_for_are_kept_and_not_judged(load, tmp_path):
    parity = load("gan_parity")
    args = SimpleNamespace(models=["dcgan"], seeds=1, control=False, samples=20, steps=4,
                           out=tmp_path / "parity.json")  # fmt: skip
    ours, theirs, far = (
        _run(library, seed, distance, settings=parity._settings(args, "dcgan"))
        for library, seed, distance in (("minigen", 0, 10), ("torch", 0, 10), ("minigen", 1, 99))
    )
    others = [far, *({**far, "seed": 0, **it} for it in ({"samples": 21}, {"settings": TINY}))]
    args.out.write_text(json.dumps({"runs": [ours, *others]}))
    result = parity.keep(args, {"dcgan": 0.0}, theirs, ours)
    assert json.loads(args.out.read_text()) == result and result["agree"]
    assert result["runs"] == [ours, *others, theirs]
    (row,) = result["models"]
    assert row["libraries"]["minigen"]["averaged"]["each"] == [10]


def test_those_who_write_a_file_at_once_lose_nothing(load, tmp_path):
    measure, path = load("measure"), tmp_path / "folder" / "x.json"

    def add(i):
        def change(known):
            time.sleep(0.002)  # long enough for the others to read
            return {"found": [*known.get("found", []), i]}

        return measure.update_json(path, change)

    with ThreadPoolExecutor(8) as pool:
        assert all(i in found["found"] for i, found in enumerate(pool.map(add, range(24))))
    assert sorted(measure.read_json(path)["found"]) == list(range(24))
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


# ---------------------------------------------------------------------------------------- table


def test_every_gan_has_a_row_that_its_options_accept(load):
    table = load("gan_table")
    assert set(table.ROWS) == {name for name, each in MODELS.items() if each.family == "gan"}
    for model, row in table.ROWS.items():
        made = make_config(model, flags={"steps": row.steps}, settings=row.settings.split())
        assert made.steps == row.steps


@pytest.fixture
def tiny_table(load, monkeypatch, tiny_run):
    """gan_table with one small model, and what it is called with."""
    table = load("gan_table")
    monkeypatch.setattr(table, "TRUNCATED", "cgan")
    monkeypatch.setattr(table, "TRUNCATIONS", (0.5, None))
    monkeypatch.setitem(table.ROWS, "cgan", table.Row(3, "batch_size=4 channels=2"))
    return table, tiny_run


def test_a_model_is_trained_measured_and_drawn(tiny_table, load):
    table, args = tiny_table
    row = table.measured("cgan", args)
    assert row["command"] == (
        "minigen train cgan --data fashion-mnist --steps 3 --set batch_size=4 --set channels=2"
    )
    interval = row["metrics"]["frechet-lenet"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert {"precision", "recall", "density", "coverage", "class-accuracy"} <= set(row["metrics"])
    assert row["images_seen"] == 12 and row["minutes"] > 0 and row["alarms"] == []
    assert [point["truncation"] for point in row["truncation"]] == [0.5, None]
    assert row["truncation"][0]["frechet"] != row["truncation"][1]["frechet"]
    for name in ("cgan", load("models_table").REAL):
        with Image.open(args.results / "gan_table" / f"{name}.png") as picture:
            assert picture.size == (298, 178)
    used = json.loads(next(args.runs.glob("cgan-*.json")).read_text())
    assert row["load"] == used["load"]
    assert table.measured("cgan", args)["metrics"] == row["metrics"]  # the run is gone on with


def test_a_fiftieth_of_a_training_is_timed(tiny_table, monkeypatch):
    table, args = tiny_table
    monkeypatch.setitem(table.ROWS, "cgan", table.Row(300, "batch_size=4 channels=2"))
    args.results.mkdir()
    path = args.results / "gan_table.json"
    path.write_text(json.dumps({"models": {"cgan": {"command": "minigen train"}}}))
    seconds = table.TABLE.step_seconds

    def step_seconds(*words):
        path.write_text(json.dumps({"models": {"gan": {}, "cgan": {"command": "new"}}}))
        return seconds(*words)

    monkeypatch.setattr(table.TABLE, "step_seconds", step_seconds)
    table.TABLE.time_all(args)
    models = json.loads(path.read_text())["models"]
    idle = models["cgan"].pop("idle")
    assert idle["minutes"] == pytest.approx(idle["ms_a_step"] * 300 / 60_000) and idle["minutes"]
    assert models == {"gan": {}, "cgan": {"command": "new"}}  # written by others meanwhile


def test_what_the_doctor_said_is_found(load):
    table = load("models_table")
    finding = {"step": 2, "name": "collapse", "text": "all alike"}
    records = [{"step": 1}, {"step": 2, "findings": [finding]}]
    assert table.alarms(SimpleNamespace(read_metrics=lambda: records)) == [finding]


def _metrics(distance, **more):
    values = {"frechet-lenet": distance, "frechet-lenet-of-real": 0.5,
              "kernel-distance-lenet": 0.0123, "precision": 0.75, "recall": 0.5, "density": 1.25,
              "coverage": 0.875, "ms-ssim": 0.25, "ms-ssim-of-real": 0.375, **more}  # fmt: skip
    return {name: {"value": v, "low": v - 0.25, "high": v + 0.25} for name, v in values.items()}


def _document():
    row = {"command": "minigen train dcgan --steps 3", "minutes": 9.0, "cpu_minutes": 3.0,
           "idle": {"ms_a_step": 1.0, "minutes": 2.04, "threads": 2}, "load": 1.5, "threads": 2,
           "samples": 10_000, "held_out": 10_000,
           "metrics": _metrics(12.0), "alarms": []}  # fmt: skip
    points = [
        {"truncation": limit, "frechet": 3.0, "precision": 0.5, "recall": 0.25, "density": 0.5,
         "coverage": 0.5} for limit in (0.5, None)
    ]  # fmt: skip
    finding = {"step": 40, "name": "collapse", "text": "all alike"}
    conditional = {**row, "metrics": _metrics(7.0, **{"class-accuracy": 0.9}),
                   "alarms": [finding], "truncation": points}  # fmt: skip
    return {"date": "D", "machine": "M", "command": "C", "features": "lenet-fashion",
            "models": {"dcgan": row, "biggan": conditional}}  # fmt: skip


def test_page_is_made_from_the_json_alone(load, tmp_path):
    page = load("gan_page")
    load("models_page").draw(np.zeros((20, 1, 28, 28)), 10, tmp_path / "gan_table" / "dcgan.png")
    text = page.write(_document(), tmp_path)
    assert (tmp_path / "gan_table.md").read_text() == text
    lines = text.splitlines()
    assert (
        "| `dcgan` | 3 | 2.0 | 3.0 | 12.00 (11.75 to 12.25) | 0.012 | 0.750 | 0.500 | 1.250 "
        "| 0.875 | 0.250 | - | - |"
    ) in lines
    assert any(line.startswith("| `biggan` |") and "| 0.900 | 1 |" in line for line in lines)
    assert any(line.startswith("| real images |") and "| 0.50 (" in line for line in lines)
    assert "training images, but held-out ones for the right class" in text
    assert "Alarms of `biggan`: collapse (step 40)." in lines
    assert "| none | 3.00 | 0.500 | 0.250 | 0.500 | 0.500 |" in lines
    assert "minigen train dcgan --steps 3" in lines
    for name in ("gan_table.png", "gan_table/truncation.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300


def test_models_of_the_same_command_are_left_as_they_are(load, monkeypatch, tmp_path):
    table, done = load("gan_table"), []
    args = SimpleNamespace(models=["dcgan", "cgan"], samples=10, steps=5, threads=1, jobs=1,
                           runs=tmp_path, results=tmp_path)  # fmt: skip

    def fresh(one, model, *words):
        done.append(model)
        (tmp_path / "gan_table").mkdir(exist_ok=True)
        (tmp_path / "gan_table" / f"{model}.png").touch()
        return {"command": table.TABLE.command(model, args), "samples": 10, "minutes": 1.0,
                "metrics": _metrics(5.0)}  # fmt: skip

    monkeypatch.setattr(load("measure"), "fresh", fresh)
    table.TABLE.train_all(args)
    table.TABLE.train_all(args)
    assert done == ["dcgan", "cgan"]
    args.steps = 6
    table.TABLE.train_all(args)
    assert done == ["dcgan", "cgan"] * 2
    kept = json.loads((tmp_path / "gan_table.json").read_text())
    assert list(kept["models"]) == ["dcgan", "cgan"]
    assert "--steps 6" in kept["models"]["cgan"]["command"]


def test_rows_that_others_write_meanwhile_are_kept(load, monkeypatch, tmp_path):
    table, path = load("gan_table"), tmp_path / "gan_table.json"
    args = SimpleNamespace(models=["cgan"], samples=10, steps=5, threads=1, jobs=1,
                           runs=tmp_path, results=tmp_path)  # fmt: skip

    def fresh(*words):
        path.write_text(json.dumps({"models": {"dcgan": {"by": "another"}}}))
        return {"minutes": 1.0, "metrics": _metrics(5.0)}

    monkeypatch.setattr(load("measure"), "fresh", fresh)
    table.TABLE.train_all(args)
    models = json.loads(path.read_text())["models"]
    assert list(models) == ["dcgan", "cgan"] and models["dcgan"] == {"by": "another"}
