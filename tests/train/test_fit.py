"""Runs from Python: what they leave behind, and that stopping and going on changes nothing."""

import errno
import json
import os
import re
import shutil

import numpy as np
import pytest

import minigen.train
from minigen import io
from minigen.data import DataError, Dataset
from minigen.train import Diverged, RunError, UsageError, fit, load_run, resume, trainer
from tests.train.fake_model import MODEL


def run(work, name="run", **more):
    return fit(MODEL, data=work / "images.npy", out=work / name, **{"steps": 10, **more})


def same_state(a, b):
    """Whether two runs ended in the same weights, optimiser, generator and data position."""
    states = [io.load_checkpoint(io.latest_checkpoint(each / "checkpoints")) for each in (a, b)]
    for state in states:
        del state["seconds"]
        state["arrays"] = {
            k: v.tobytes() for k, v in state["model"].items() if isinstance(v, np.ndarray)
        }
        state["model"] = {k: v for k, v in state["model"].items() if k not in state["arrays"]}
    return states[0] == states[1]


def metrics(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything(work):
    done = run(work)
    assert done.step == 10 and set(done.losses) == {"error", "norm"}
    assert done.signal is None
    names = {each.name for each in (work / "run").iterdir()}
    assert names == {"config.toml", "metrics.jsonl", "samples", "checkpoints", "report.html"}
    lines = metrics(work / "run")
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert set(lines[0]) == {"step", "error", "norm", "images_per_second", "seconds"}
    report = (work / "run" / "report.html").read_text()
    assert "<svg" in report and "data:image/png;base64," in report
    assert not re.search(r'(src|href)="(?!data:|#)', report)  # self-contained


def test_stopping_and_going_on_is_training_through(work):
    run(work, "whole", steps=14, options={"batch_size": 5})
    run(work, "half", steps=7, options={"batch_size": 5})
    done = resume(work / "half", steps=14)
    assert done.step == 14
    assert same_state(work / "whole", work / "half")
    keep = ("step", "error", "norm")
    whole, half = ([{k: line[k] for k in keep} for line in metrics(work / n)]
                   for n in ("whole", "half"))  # fmt: skip
    assert whole == half


def test_how_often_one_samples_and_saves_changes_nothing(work):
    run(work, "often", sample_every=1, checkpoint_every=1)
    run(work, "seldom", sample_every=100, checkpoint_every=100)
    assert same_state(work / "often", work / "seldom")
    assert len(list((work / "often" / "checkpoints").iterdir())) == 2  # the newest and one before


def test_another_seed_is_another_run(work):
    run(work, "a")
    run(work, "b", seed=1)
    assert not same_state(work / "a", work / "b")


def test_the_config_repeats_the_run(work):
    run(work, "a", seed=3, batch_size=6, settings=["lr=0.02", "sizes=4,5,6"])
    fit(config=work / "a" / "config.toml", out=work / "b")
    assert same_state(work / "a", work / "b")
    assert load_run(work / "b").config.options.sizes == (4, 5, 6)


def test_lines_of_steps_to_be_done_again_are_dropped(work):
    run(work, steps=6)
    path = work / "run" / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 7, "error": 1.0, "seconds": 1}\n{"step": 8, "err')
    resume(work / "run", steps=9)
    assert [line["step"] for line in metrics(work / "run")] == list(range(1, 10))


def test_a_run_killed_before_its_first_checkpoint_starts_again(work):
    run(work, "whole")
    run(work, "killed")
    shutil.rmtree(work / "killed" / "checkpoints")
    assert resume(work / "killed").step == 10
    assert same_state(work / "whole", work / "killed")
    assert len(metrics(work / "killed")) == 10


def test_a_run_without_a_whole_checkpoint_is_left_as_it_is(work):
    run(work)
    for file in (work / "run" / "checkpoints").glob("*/manifest.json"):
        file.write_text("{")
    lines = metrics(work / "run")
    for call in (resume, load_run):
        with pytest.raises(RunError, match=r"no checkpoint there can be read.*--config"):
            call(work / "run")
    assert metrics(work / "run") == lines


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(work, caplog):
    run(work, "whole", checkpoint_every=4)
    run(work, "hurt", checkpoint_every=4)
    weights = io.latest_checkpoint(work / "hurt" / "checkpoints") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert resume(work / "hurt").step == 10
    assert "damaged" in caplog.text
    assert same_state(work / "whole", work / "hurt")


def test_nothing_is_overwritten(work):
    run(work)
    with pytest.raises(UsageError, match=r"not empty.*--resume"):
        run(work)
    (work / "mine").mkdir()
    (work / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match=r"choose a new folder$"):
        run(work, "mine")


def test_default_folders_are_numbered(work):
    first, second = (fit(MODEL, data="images.npy", steps=1).directory for _ in range(2))
    assert [str(first), str(second)] == [f"runs/fake-images-{i}" for i in (1, 2)]


def test_a_wrong_request_leaves_no_folder(work):
    for more, message in (
        ({"batch_size": 41}, "batch_size 41 for 36 images"),
        ({"settings": ["width=101"]}, "width is 101"),
        ({"settings": ["data.augment=flop"]}, "flop"),
        ({"settings": ["data.augment=crop:6"]}, "images of 6x6 pixels need a smaller padding"),
        ({"device": "cuda"}, "CuPy|GPU"),
        ({"steps": 0}, "--steps is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            run(work, **more)
    assert not (work / "run").exists()


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (None, {}, r"un\.npz \(train\): has no labels.*classes=10.*--set conditional=none$"),
        (49, {}, r"labels are 0 to 49.*classes=10, 0 to 9; --set classes=50$"),
        (50, {"classes": 50}, "labels are 0 to 50.*--set classes=51$"),
        (-1, {}, "labels are -1 to 0, and the model knows classes=10, 0 to 9$"),
    ],
)
def test_labels_that_a_model_does_not_know_leave_no_folder(work, labels, options, message):
    images = np.zeros((200, 28, 28), np.uint8)
    extreme = {} if labels is None else {"labels": np.r_[labels, np.zeros(199, int)]}
    np.savez(work / "un.npz", images=images, **extreme)
    with pytest.raises(UsageError, match=message) as error:
        fit("cgan", data="un.npz", out="run", steps=3, options={"channels": 2, **options})
    assert "\n" not in str(error.value)
    assert not (work / "run").exists()


def test_a_step_of_several_batches_says_how_many_images_it_takes(work):
    np.save(work / "few.npy", np.zeros((60, 28, 28), np.uint8))
    with pytest.raises(UsageError, match=r"batch_size 64 x critic_steps 5 are 320 .*at most 54"):
        fit("wgan", data="few.npy", out="run", steps=3, options={"channels": 2})
    assert not (work / "run").exists()


def test_a_model_may_warn_of_the_steps_planned(work, caplog):
    run(work)
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    np.save(work / "images.npy", np.zeros((40, 28, 28), np.uint8))
    options = {"channels": 2, "batch_size": 2, "phase_steps": 4}
    fit("pggan", data="images.npy", out=work / "grown", steps=3, options=options)
    (text,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert text.startswith("pggan: 3 steps of phase_steps=4 end at 7x7 pixels; for 28x28")


def test_data_that_cannot_be_read_leaves_no_folder(work):
    np.save(work / "floats.npy", np.full((40, 6, 6), 7.0))
    with pytest.raises(DataError, match="pixels from 7 to 7"):
        fit(MODEL, data="floats.npy", out="run", steps=3)
    assert not (work / "run").exists()


def test_an_image_that_breaks_later_costs_no_step(work, monkeypatch):
    run(work, "whole")
    batch, made = Dataset.batch, []

    def broken(self, indices):
        made.append(indices)
        if len(made) > 5:
            raise DataError("an image is broken")
        return batch(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "batch", broken)
        with pytest.raises(DataError, match=r"an image is broken; the last good.*--resume"):
            run(work, "run")
    assert load_run(work / "run").step == len(metrics(work / "run")) == 5
    resume(work / "run")
    assert same_state(work / "whole", work / "run")


def test_a_checkpoint_of_another_config_is_refused(work):
    run(work)
    config = work / "run" / "config.toml"
    config.write_text(config.read_text().replace("width = 3", "width = 4"))
    for call in (resume, load_run):
        with pytest.raises(UsageError, match=r"not made with .*config\.toml.*width"):
            call(work / "run")


def test_resume_says_what_is_missing(work):
    with pytest.raises(UsageError, match="no such run"):
        resume(work / "nowhere")
    (work / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no config\.toml"):
        resume(work / "empty")
    run(work)
    with pytest.raises(UsageError, match="at step 10 already"):
        resume(work / "run", steps=5)
    assert resume(work / "run").step == 10


def test_other_data_is_refused_on_resume(work):
    run(work)
    np.save(work / "images.npy", np.zeros((40, 5, 6), np.uint8))
    with pytest.raises(UsageError, match=r"\(1, 5, 6\).*\(1, 6, 6\)"):
        resume(work / "run", steps=20)


def test_nan_stops_and_keeps_the_last_good_state(work):
    with pytest.raises(Diverged) as caught:
        run(work, options={"nan_at": 7, "sleep": 0.002})
    message = str(caught.value)
    assert "step 7" in message and "'error' is nan" in message and "--set lr=0.001" in message
    state = io.load_checkpoint(io.latest_checkpoint(work / "run" / "checkpoints"))
    assert 0 < state["step"] < 7
    assert np.isfinite(state["model"]["weights"]).all()
    assert len(metrics(work / "run")) == 6
    assert "diverged" in (work / "run" / "report.html").read_text()


def test_a_full_disk_keeps_the_last_good_checkpoint(work, monkeypatch):
    written = io.save_checkpoint

    def full(folder, state):
        if state["step"] > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(folder, state)

    monkeypatch.setattr(io, "save_checkpoint", full)
    with pytest.raises(RunError) as caught:
        run(work, checkpoint_every=3)
    message = str(caught.value)
    assert "No space left" in message and "step-00000006" in message and "--resume" in message
    assert "\n" not in message
    monkeypatch.undo()
    os.chdir(work)
    run(work, "whole")
    resume(work / "run")
    assert same_state(work / "whole", work / "run")


def test_two_processes_do_not_write_one_run(work):
    run(work)
    opened = minigen.train.run_directory.RunDirectory.open(work / "run")
    opened.lock()
    with pytest.raises(UsageError, match=f"process {os.getpid()} is writing"):
        resume(work / "run", steps=11)
    opened.unlock()
    (work / "run" / ".lock").write_text("1")  # of a process that no longer holds it
    assert resume(work / "run", steps=11).step == 11
    assert not (work / "run" / ".lock").exists()


def test_checkpoints_come_by_the_clock(work, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    steps = []
    save = minigen.train.run_directory.RunDirectory.save_checkpoint
    monkeypatch.setattr(
        minigen.train.run_directory.RunDirectory,
        "save_checkpoint",
        lambda self, step, state: (steps.append(step), save(self, step, state)),
    )
    run(work, steps=30, options={"sleep": 0.01})
    assert steps[-1] == 30 and len(steps) > 1
