"""Runs in other processes that are interrupted, terminated and killed."""

import random
import re
import signal
import time

import pytest

from minigen import io
from minigen.train import resume
from tests.train.fake_model import MODEL
from tests.train.support import start
from tests.train.test_fit import metrics, run, same_state

TRAIN = ("train", MODEL, "--data", "images.npy", "--out", "run", "--set", "sleep=0.01")


def wait_for_step(work, step):
    """Until the run has logged that step; fails after half a minute."""
    path = work / "run" / "metrics.jsonl"
    for _ in range(3000):
        if path.exists() and path.read_bytes().count(b"\n") >= step:
            return
        time.sleep(0.01)
    pytest.fail(f"no step {step}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint(work, number, code):
    process = start(*TRAIN, "--steps", 2000)
    wait_for_step(work, 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert "minigen train --resume run" in out
    assert (work / "run" / "report.html").exists()
    assert not (work / "run" / ".lock").exists()
    state = io.load_checkpoint(io.latest_checkpoint(work / "run" / "checkpoints"))
    step = state["step"]
    assert re.search(rf"stopped at step {step}/2000", out)
    assert len(metrics(work / "run")) == step
    resume(work / "run", steps=step + 5)
    run(work, "whole", steps=step + 5, settings=["sleep=0.01"])
    assert same_state(work / "whole", work / "run")


def test_the_second_signal_stops_at_once(work):
    process = start(*TRAIN[:-1], "sleep=600", "--steps", 5)
    for _ in range(1000):
        if (work / "run" / "samples").exists():  # made before the first step
            break
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    while "once more to stop at once" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and err.count("\n") == 1


def test_kill_at_any_moment_leaves_a_run_to_go_on_with(work):
    """Killed again and again, at random moments; in the end it is as if nothing had happened."""
    choose = random.Random(0)
    arguments = [*TRAIN, "--steps", 60, "--checkpoint-every", 2]
    for _ in range(5):
        process = start(*arguments)
        time.sleep(0.25 + 0.5 * choose.random())
        process.kill()
        process.communicate()
        if (work / "run" / "config.toml").exists():
            arguments = ["train", "--resume", "run"]
    process = start(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    run(work, "whole", steps=60, settings=["sleep=0.01"])
    assert same_state(work / "whole", work / "run")
    assert [line["step"] for line in metrics(work / "run")] == list(range(1, 61))
    assert not list((work / "run" / "checkpoints").glob(".*"))


def test_a_second_process_is_refused(work):
    process = start(*TRAIN, "--steps", 2000)
    wait_for_step(work, 1)
    other = start("train", "--resume", "run")
    _, err = other.communicate(timeout=30)
    assert other.returncode == 2
    assert f"process {process.pid} is writing" in err and err.count("\n") == 1
    process.kill()
    process.communicate()
    again = start("train", "--resume", "run", "--steps", 12)
    _, err = again.communicate(timeout=30)
    assert again.returncode in (0, 2), err  # 2: it was past step 12 when it was killed
    assert "is writing" not in err
