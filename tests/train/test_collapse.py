"""What becomes of a run that collapses: warned of, stopped, or rolled back, and resumed exactly."""

import contextlib
import json
import random
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

from minigen import files, io
from minigen.cli.command import main
from minigen.train import Collapsed, Diverged, UsageError, fit, load_run, progress, resume
from minigen.train.run_directory import RunDirectory
from tests.train.fake_model import MODEL as WITHOUT_DOCTOR
from tests.train.patient import MODEL
from tests.train.support import start
from tests.train.test_fit import metrics


def run(work, name="run", model=MODEL, **more):
    return fit(model, data=work / "images.npy", out=work / name, **{"steps": 100, **more})


def newest(folder):
    return io.load_checkpoint(io.latest_checkpoint(folder / "checkpoints"))


def plain(state):
    """A state without the clock, its arrays as bytes: to be compared with ==."""
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items() if k != "seconds"}
    if isinstance(state, list):
        return [plain(each) for each in state]
    return state.tobytes() if isinstance(state, np.ndarray) else state


def lines(folder):
    keep = ("step", "error", "norm", "health", "findings")
    return [{k: line[k] for k in keep if k in line} for line in metrics(folder)]


def found(folder):
    return [(e["step"], e["name"]) for line in metrics(folder) for e in line.get("findings", ())]


def test_a_finding_is_warned_of_once_and_the_run_goes_on(work, caplog):
    done = run(work)
    assert done.step == 100
    assert found(work / "run") == [(80, "fever")]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == ["step 80: fever: at 0.8; try --set lr=0.005"]
    looked = [line["step"] for line in metrics(work / "run") if "health" in line]
    assert looked == [20, 40, 60, 80, 100]
    assert set(done.losses) == {"error", "norm"}
    report = (work / "run" / "report.html").read_text()
    assert "<b>step 80, fever</b>" in report and report.count("<svg") == 4  # losses and signs


def test_looking_changes_nothing(work):
    for policy in ("off", "warn", "stop", "rollback"):
        run(work, policy, on_collapse=policy, steps=70)
    states = {p: newest(work / p) for p in ("off", "warn", "stop", "rollback")}
    for state in states.values():
        del state["health"]
    assert plain(states["off"]) == plain(states["warn"]) == plain(states["stop"])
    assert plain(states["off"]) == plain(states["rollback"])
    assert not any("health" in line for line in metrics(work / "off"))


def test_one_who_resumes_hears_the_same_at_the_same_steps(work):
    run(work, "whole")
    run(work, "half", steps=70)
    resume(work / "half", steps=100)
    assert lines(work / "half") == lines(work / "whole")
    assert plain(newest(work / "half")) == plain(newest(work / "whole"))


def test_stop_keeps_the_last_good_state(work):
    with pytest.raises(Collapsed) as caught:
        run(work, on_collapse="stop", checkpoint_every=7)
    message = str(caught.value)
    assert "step 80: fever: at 0.8; try --set lr=0.005" in message and "step-00000040" in message
    assert "\n" not in message
    assert newest(work / "run")["step"] == load_run(work / "run").step == 40
    assert found(work / "run") == [(80, "fever")]
    assert "<b>collapsed</b> at step 80" in (work / "run" / "report.html").read_text()


def test_one_who_warns_may_go_on_where_another_stopped(work):
    run(work, "warned")
    with pytest.raises(Collapsed):
        run(work, on_collapse="stop")
    with pytest.raises(Collapsed, match="step 80"):
        resume(work / "run")
    assert resume(work / "run", on_collapse="warn").step == 100
    assert lines(work / "run") == lines(work / "warned")


def test_stop_is_exit_code_1_and_one_line(work, capsys):
    arguments = ["train", MODEL, "--data", "images.npy", "--out", "run", "--steps", "100"]
    assert main([*arguments, "--on-collapse", "stop", "-q"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "step 80: fever" in err and "--set lr=0.005" in err


def test_the_config_remembers_and_json_tells(work, capsys):
    assert main(["train", MODEL, "--data", "images.npy", "--out", "run", "--steps", "100",
                 "--on-collapse", "rollback", "--json"]) == 0  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in document["findings"]] == ["rolled back"]
    assert 'on_collapse = "rollback"' in (work / "run" / "config.toml").read_text()


def test_another_policy_is_refused(work):
    with pytest.raises(UsageError, match=r"--on-collapse: no 'rollbak'; did you mean 'rollback'"):
        run(work, on_collapse="rollbak")


def test_rollback_goes_on_from_the_last_good_state_with_what_helps(work, caplog):
    run(work, "warned")
    done = run(work, on_collapse="rollback")
    assert done.step == 100
    assert [line["step"] for line in metrics(work / "run")] == list(range(1, 101))
    assert found(work / "run") == [(80, "rolled back")]
    (text,) = [e["text"] for line in metrics(work / "run") for e in line.get("findings", ())]
    assert "fever" in text and "back to step 40, other random numbers" in text
    assert "pace's learning rate 0.005" in text
    assert "attempt 1 of 3" in caplog.text
    assert newest(work / "run")["model"]["pace"] == 0.005
    a, b = ({line["step"]: line["error"] for line in metrics(work / n)} for n in ("run", "warned"))
    assert a[40] == b[40] and a[41] != b[41]


def test_after_three_returns_it_stops(work):
    with pytest.raises(Collapsed, match=r"step 500: fever.*3 returns to a good state"):
        run(work, on_collapse="rollback", steps=600)
    state = newest(work / "run")
    assert (state["step"], state["health"]["attempt"]) == (400, 3)
    assert state["model"]["pace"] == 0.00125


def test_each_return_to_the_same_good_state_is_told(work):
    ill = {"on_collapse": "rollback", "options": {"ill_above": 0.06}}
    run(work, "half", steps=30, **ill)
    resume(work / "half", steps=50)
    run(work, "whole", steps=50, **ill)
    assert found(work / "whole") == [(40, "rolled back")] * 2
    assert lines(work / "half") == lines(work / "whole")
    assert (work / "whole" / "report.html").read_text().count("step 40, rolled back") == 2


@pytest.mark.parametrize(
    ("policy", "left"), [("rollback", [0, 30, 60, 90, 100]), ("stop", [0, 30])]
)
def test_samples_of_abandoned_steps_are_no_part_of_the_run(work, monkeypatch, policy, left):
    """After a return to step 40 that of step 60 is made anew; where the run stops it is gone."""
    kept, return_to = [], RunDirectory.return_to

    def returning(self, *state):
        return_to(self, *state)
        kept.append(grids())

    def grids():
        return [int(grid.stem[5:]) for grid in RunDirectory(work / "run").grids()]

    monkeypatch.setattr(RunDirectory, "return_to", returning)
    with contextlib.suppress(Collapsed):
        run(work, on_collapse=policy, sample_every=30)
    assert kept == [[0, 30]]
    assert grids() == left


@pytest.mark.parametrize("at", [75, 85, 300])
def test_a_rolled_back_run_resumes_bit_for_bit(work, at):
    """Stopped while ill, right after its return, and after the second one."""
    run(work, "whole", on_collapse="rollback", steps=400)
    run(work, "half", on_collapse="rollback", steps=at)
    resume(work / "half", steps=400)
    assert lines(work / "half") == lines(work / "whole")
    assert plain(newest(work / "half")) == plain(newest(work / "whole"))


def test_progress_follows_a_run_back_beyond_where_it_was_resumed(work, monkeypatch):
    run(work, on_collapse="rollback", steps=70)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    said = []
    console = SimpleNamespace(print=lambda text, **style: said.append(text))
    resume(work / "run", steps=100, progress=progress.Lines(console))
    shown = [int(re.match(r"step (\d+)/100", text)[1]) for text in said]
    assert shown == [*range(71, 81), *range(41, 101)]
    assert not any(re.search(r"(?<!e)-\d", text) for text in said)  # no time that runs backwards


def test_killed_between_the_return_and_the_removal_of_what_came_after(work, monkeypatch):
    options = {"on_collapse": "rollback", "checkpoint_every": 7}
    run(work, "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(files, "temporary", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(work, "killed", **options)
    assert newest(work / "killed")["step"] == 77  # of the attempt before
    resume(work / "killed")
    assert lines(work / "killed") == lines(work / "whole")
    assert plain(newest(work / "killed")) == plain(newest(work / "whole"))


def _killed(path):
    if path.name == "step-00000077":
        raise KeyboardInterrupt
    return path.with_name(f".{path.name}.tmp")


def test_kill_at_any_moment_leaves_a_run_to_roll_back(work):
    choose = random.Random(0)
    more = ["--on-collapse", "rollback", "--set", "sleep=0.004"]
    arguments = ["train", MODEL, "--data", "images.npy", "--out", "run", "--steps", 160,
                 "--checkpoint-every", 3, *more]  # fmt: skip
    for _ in range(4):
        process = start(*arguments)
        time.sleep(0.4 + 0.8 * choose.random())
        process.kill()
        process.communicate()
        if (work / "run" / "config.toml").exists():
            arguments = ["train", "--resume", "run"]
    process = start(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    run(work, "whole", on_collapse="rollback", steps=160, settings=["sleep=0.004"])
    assert newest(work / "run")["health"]["attempt"] >= 1
    assert plain(newest(work / "run")) == plain(newest(work / "whole"))
    assert lines(work / "run") == lines(work / "whole")


def test_rollback_takes_back_numbers_that_are_not_finite(work):
    done = run(work, on_collapse="rollback", options={"nan_at": 50, "ill_above": 9.0})
    assert done.step == 100
    assert found(work / "run") == [(50, "rolled back")]
    assert np.isfinite(newest(work / "run")["model"]["weights"]).all()


@pytest.mark.parametrize(("policy", "message"), [
    ("stop", "step 70: the loss 'error' is nan; the last good"),
    ("rollback", "3 returns to a good state have not helped; the last good"),
])  # fmt: skip
def test_a_model_without_a_doctor_keeps_states_too(work, policy, message):
    with pytest.raises(Diverged, match=message):
        run(work, model=WITHOUT_DOCTOR, on_collapse=policy, options={"nan_at": 70})
    assert newest(work / "run")["step"] == 50
    assert [line["step"] for line in metrics(work / "run")] == list(range(1, 70))
