"""The command in this process: exit codes, single lines, pure JSON."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.train.fake_model import MODEL
from tests.train.support import ROOT, start


@pytest.fixture
def trained(work, call):
    code, out, err = call("train", MODEL, "--data", "images.npy", "--steps", 5, "--out", "run")
    assert code == 0, err
    return out


def test_train_says_where_everything_is_and_what_to_do_next(work, trained):
    assert "done at step 5/5  error" in trained and "run/report.html" in trained
    assert "minigen sample run" in trained and "--resume run --steps 10" in trained
    assert "step 1/5" in trained  # plain lines, for this is no terminal


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no verb given"),
        (["trian"], "no verb 'trian'; did you mean 'train'?"),
        (["--jsn"], "no option '--jsn'"),
        (["train"], "which model?"),
        (["train", "dcgn"], "no model 'dcgn'; did you mean 'dcgan'?"),
        (["train", MODEL, "--step", "3"], "no option '--step'; did you mean '--steps'?"),
        (["train", MODEL, "--steps", "many"], "invalid int value: 'many'"),
        (["train", MODEL, "--steps"], "--steps: expected one argument"),
        (["train", MODEL, "again"], "'again' is one argument too many"),
        (["train", MODEL, "--data", "images.npx"], "images.npx"),
        (["train", MODEL, "--data", "fashion-mnst"], "fashion-mnst"),
        (["train", MODEL, "--set", "lr"], "expected key=value"),
        (["train", MODEL, "--set", "rl=3"], "did you mean 'lr'?"),
        (["train", MODEL, "--data", "images.npy", "--threads", "0"], "--threads is 0"),
        (["train", MODEL, "--data", "images.npy", "--device", "tpu"], "expected cpu or cuda"),
        (["train", MODEL, "--config", "none.toml"], "none.toml: No such file"),
        (["train", MODEL, "--data", "images.npy", "--out", "images.npy"], "is a file"),
        (["train", "--resume", "nowhere"], "nowhere: no such run"),
        (["sample", "nowhere"], "nowhere: no such run"),
        (["sample"], "sample: missing: RUN"),
        (["sample", "nowhere", "-n", "0"], "-n is 0"),
        (["sample", "nowhere", "--seed", "-1"], "--seed is -1, expected 0 to 2**64 - 1"),
        (["evaluate", "nowhere", "--seed", str(1 << 64)], "expected 0 to 2**64 - 1"),
        (["train", MODEL, "--data", ""], "an empty text names no dataset"),
        (["gradcheck", "--op", "expp"], "--op expp: no such op; did you mean 'exp'?"),
        (["sample", "nowhere", "-o", "x.doc"], "use .png"),
        (["evaluate", "."], "not a run: there is no config.toml"),
        (["list", "--op", "x"], "no option '--op'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(work, call, words, message):
    code, out, err = call(*words)
    assert code == 2 and out == ""
    assert message in err and err.startswith("minigen: ") and err.count("\n") == 1
    assert [each.name for each in work.iterdir()] == ["images.npy"]


def test_damaged_data_is_bad_usage(work, call):
    (work / "bad.npy").write_bytes(b"not an array")
    code, _, err = call("train", MODEL, "--data", "bad.npy")
    assert code == 2 and "bad.npy" in err and err.count("\n") == 1


def test_flags_that_a_resumed_run_cannot_take(work, call, trained):
    for words, message in (
        (["--seed", 4], "--seed is 0 in run, not 4"),
        (["--batch-size", 5], "batch_size is 4 in run, not 5"),
        (["--set", "lr=0.5"], "lr is 0.01 in run, not 0.5"),
        (["--set", "data.augment=flip"], "data.augment is '' in run, not 'flip'"),
        (["--data", "photos"], "--data is"),
        (["--out", "other"], "stays in its folder"),
        (["--config", "x.toml"], "run/config.toml"),
        (["--steps", 4], "at step 5 already"),
        (["vae"], "is of the model 'tests.train.fake_model:Fake', not 'vae'"),
    ):
        code, _, err = call("train", "--resume", "run", *words)
        assert code == 2 and message in err and err.count("\n") == 1
    same = ["--seed", 0, "--set", "lr=0.01", "--data", "images.npy", "--out", "run"]
    assert call("train", MODEL, "--resume", "run", *same, "--steps", 8)[0] == 0


def test_a_finished_run_is_not_overwritten(work, call, trained):
    code, _, err = call("train", MODEL, "--data", "images.npy", "--out", "run")
    assert code == 2 and "minigen train --resume run" in err


def test_json_is_one_document_and_nothing_else(work, call, trained):
    code, out, err = call("train", "--resume", "run", "--steps", 7, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["run"] == "run" and document["step"] == 7
    assert set(document["losses"]) == {"error", "norm"} and document["stopped_by"] is None
    assert "step 7/7" in err  # progress is for people
    document = json.loads(call("evaluate", "run", "--json")[1])
    assert document["mean"].keys() == {"value", "low", "high"}
    assert document["mean"]["high"] is None  # NaN is no JSON
    document = json.loads(call("sample", "run", "--json", "-n", 5)[1])
    assert document["n"] == 5 and (work / document["file"]).exists()
    document = json.loads(call("list", "--json")[1])
    assert {"dcgan", "gan", "vae"} <= {each["name"] for each in document["models"]}
    assert {each["name"] for each in document["datasets"]} >= {"fashion-mnist", "photos"}
    for kind in document.values():
        assert all(each["name"] and each["help"] for each in kind)
    document = json.loads(call("info", "--json")[1])
    assert document["devices"][0]["name"] == "cpu" and "conv2d" in document["kernels"]
    document = json.loads(call("train", MODEL, "--options", "--json")[1])
    assert document["options"][1]["name"] == "lr"


def test_quiet_and_tables(work, call, trained):
    code, out, err = call("train", "--resume", "run", "--steps", 7, "-q")
    assert (code, out, err) == (0, "", "")
    assert call("-q", "train", "--resume", "run") == (0, "", "")
    assert "fashion-mnist" in call("list")[1]
    assert "reference" in call("info")[1]
    assert "plain, fancy" in call("train", MODEL, "--options")[1]
    out = call("evaluate", "run")[1]
    assert "mean" in out and "95%" in out
    assert "On images not trained on" in (work / "run" / "report.html").read_text()


def test_samples_depend_on_the_seed_alone(work, call, trained):
    for name, words in (("a", []), ("b", []), ("c", ["--seed", 1]), ("d", ["--interpolate"])):
        assert call("sample", "run", "-n", 9, "-o", f"{name}.png", *words)[0] == 0
    a, b, c, d = (np.asarray(Image.open(work / f"{name}.png")) for name in "abcd")
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, d)
    assert call("sample", "run")[0] == 0
    assert list((work / "run" / "samples").glob("sample-seed0-*.png"))
    assert call("sample", "run", "--interpolate", "-n", 1)[0] == 2


def test_a_run_without_a_checkpoint(work, call, trained):
    shutil.rmtree(work / "run" / "checkpoints")
    code, _, err = call("sample", "run")
    assert code == 2 and "no checkpoint yet" in err


def test_divergence_is_exit_code_1_and_one_line(work, call):
    words = ["train", MODEL, "--data", "images.npy", "--out", "run", "--set", "nan_at=3"]
    code, _, err = call(*words)
    assert code == 1 and "the loss 'error' is nan" in err and err.count("\n") == 1


def test_an_unwritable_folder_is_exit_code_1(work, call):
    target = "/proc/run" if os.path.isdir("/proc") else work / "images.npy" / "run"
    code, _, err = call("train", MODEL, "--data", "images.npy", "--out", target)
    assert code == 1 and "cannot be written" in err and err.count("\n") == 1


def test_other_errors_are_one_line_unless_details_are_wanted(work, call, monkeypatch):
    def broken(*args, **named):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("tests.train.fake_model.Fake.step", broken)
    words = ["train", MODEL, "--data", "images.npy"]
    code, _, err = call(*words)
    assert code == 1 and "ZeroDivisionError: by zero (-v shows where)" in err
    assert err.count("\n") == 1
    code, _, err = call(*words, "-v")
    assert code == 1 and "Traceback" in err


def test_help_and_version_are_quick_and_import_nothing_heavy():
    code = (
        "import sys\nfrom minigen.cli import main\n"
        "for words in (['--help'], ['train', '--help'], ['--version'], ['list']): main(words)\n"
        "heavy = {'numba', 'scipy', 'matplotlib', 'torch', 'cupy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: minigen" in done.stdout and "--resume RUN" in done.stdout


def test_an_evaluation_is_shown_even_where_nothing_can_be_written(work, call, trained):
    (work / "run" / "evaluation.json").mkdir()
    code, out, err = call("evaluate", "run")
    assert code == 1 and "mean" in out
    assert "evaluation.json: cannot be written" in err and err.count("\n") == 1


def test_what_is_trained_on_what_is_said_first(work, trained):
    first = trained.splitlines()[0]
    assert "108 weights on 36 images 6x6, grey" in first and first.endswith("the run is in run")


def test_gradcheck_prints_a_certificate(work, call):
    code, out, err = call("gradcheck", "--op", "exp")
    assert code == 0 and err == "" and "exp" in out and "checks passed" in out
    assert call("gradcheck", "--op", "exp", "-q") == (0, "", "")
    document = json.loads(call("gradcheck", "--op", "exp", "--json")[1])
    assert {row["op"] for row in document} == {"exp"}


def test_a_reader_that_has_seen_enough():
    process = start("list")
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 0
