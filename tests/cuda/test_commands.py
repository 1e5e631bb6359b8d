"""--device cuda on every verb that computes, runs that change their device, and bad devices."""

import contextlib
import json
import sys

import numpy as np
import pytest

from minigen import backend, files, io, kernels
from minigen.cli import main
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced


@pytest.fixture(autouse=True)
def kernels_of_the_reference(gpu):
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        yield


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit code, standard output, standard error); the CPU by the reference."""

    def call(*words):
        on_cpu = "cuda" not in map(str, words)
        with kernels.use("reference") if on_cpu else contextlib.nullcontext():
            code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


TRAIN = (
    "train", "vae", "--data", "images.npy", "--batch-size", 4, "--set", "encoder=8", "--set",
    "decoder=8", "--set", "capture=false",
)  # fmt: skip


def weights(run):
    state = io.load_checkpoint(io.latest_checkpoint(f"{run}/checkpoints"))
    return {k: v for k, v in state["model"].items() if isinstance(v, np.ndarray)}


def close(gpu, a, b):
    assert a.keys() == b.keys()
    tolerance = 1e-5 if gpu is fake_cupy else 0.01  # products in TF32
    for key, value in a.items():
        np.testing.assert_allclose(b[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


def test_train_sample_and_evaluate(gpu, work, call):
    code, _, err = call(*TRAIN, "--steps", 4, "--out", "there", "--device", "cuda")
    assert code == 0, err
    assert 'device = "cuda"' in (work / "there/config.toml").read_text()
    code, _, err = call(*TRAIN, "--steps", 4, "--out", "here")
    assert code == 0, err
    close(gpu, weights("here"), weights("there"))
    losses = [
        [record["loss"] for record in files.read_jsonl(work / run / "metrics.jsonl")]
        for run in ("here", "there")
    ]
    assert losses[1][-1] == pytest.approx(losses[0][-1], rel=1e-3)
    found = {}
    for device in ("cuda", "cpu"):
        out = work / f"{device}.png"
        code, _, err = call("sample", "there", "-n", 4, "-o", out, "--device", device)
        assert code == 0 and out.is_file(), err
        code, out, err = call("evaluate", "there", "--json", "--device", device)
        assert code == 0, err
        found[device] = json.loads(out)["negative_elbo"]["value"]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3)
    assert call("sample", "there", "-n", 2, "--interpolate", "--device", "cuda")[0] == 0


@pytest.mark.parametrize("first, then", [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_run_goes_on_on_another_device(gpu, work, call, first, then):
    assert call(*TRAIN, "--steps", 6, "--out", "whole")[0] == 0
    assert call(*TRAIN, "--steps", 3, "--out", "run", "--device", first)[0] == 0
    code, _, err = call("train", "--resume", "run", "--steps", 6, "--device", then)
    assert code == 0, err
    assert f'device = "{then}"' in (work / "run/config.toml").read_text()
    close(gpu, weights("whole"), weights("run"))


def test_a_stop_changes_no_bit_of_a_run_on_a_gpu(work, call):
    assert call(*TRAIN, "--steps", 6, "--out", "whole", "--device", "cuda")[0] == 0
    assert call(*TRAIN, "--steps", 3, "--out", "run", "--device", "cuda")[0] == 0
    assert call("train", "--resume", "run", "--steps", 6, "--device", "cuda")[0] == 0
    whole, run = weights("whole"), weights("run")
    for key, value in whole.items():
        np.testing.assert_array_equal(run[key], value, strict=True)


def test_gradcheck(call):
    code, out, err = call("gradcheck", "--device", "cuda", "--op", "tanh", "--json")
    assert code == 0, err
    assert {row["target"] for row in json.loads(out)} == {"cuda"}


@pytest.mark.parametrize(
    "words",
    [TRAIN, ("sample", "run"), ("evaluate", "run"), ("gradcheck",), ("train", "--resume", "run")],
)
def test_no_device_is_bad_usage(work, call, monkeypatch, words):
    assert call(*TRAIN, "--steps", 1, "--out", "run")[0] == 0
    monkeypatch.setattr(backend, "gpu", None)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = call(*words, "--device", "cuda")
    assert (code, out) == (2, "")
    assert err == "minigen: --device cuda: device 'cuda' needs CuPy: pip install 'minigen[cuda]'\n"


@pytest.mark.parametrize("device, message", [("cuda:9", "there are"), ("cuda:x", "'cuda:N'")])
def test_wrong_numbers_are_bad_usage(work, call, device, message):
    code, _, err = call(*TRAIN, "--device", device)
    assert code == 2 and message in err and err.count("\n") == 1
