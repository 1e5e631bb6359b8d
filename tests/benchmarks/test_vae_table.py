"""benchmarks/vae_table.py on a tiny model and few images, and its page."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from minigen.train.config import make_config
from minigen.train.registry import MODELS
from tests.benchmarks.conftest import FOLDER

WITHOUT_SAMPLES = {"enhance-vae"}  # makes no images out of nothing


def test_script_explains_itself_and_refuses_unknown_models():
    command = [sys.executable, "-W", "error", FOLDER / "vae_table.py"]
    out = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert out.returncode == 0 and "usage" in out.stdout, out.stderr
    out = subprocess.run([*command, "--models", "vae,vea"], capture_output=True, text=True)
    assert out.returncode == 1 and out.stderr.startswith("vae_table: no vea; expected some of vae")


def test_every_vae_has_a_row_that_its_options_accept(load):
    table = load("vae_table")
    family = {name for name, each in MODELS.items() if each.family == "vae"}
    assert set(table.ROWS) == family - WITHOUT_SAMPLES
    for model, row in table.ROWS.items():
        made = make_config(model, flags={"steps": row.steps}, settings=row.settings.split())
        assert made.steps == row.steps


def test_vae_gan_and_conv_vae_have_the_same_networks(load):
    rows = load("vae_table").ROWS
    made = [make_config(m, settings=rows[m].settings.split()) for m in ("conv-vae", "vae-gan")]
    for name in ("network", "channels", "latent", "activation"):
        assert getattr(made[0].options, name) == getattr(made[1].options, name)


def test_the_likelihood_is_asked_of_models_that_have_one(load):
    table = load("vae_table")
    assert "log-likelihood" in ",".join(map(str, table.metrics("conv-vae")))
    assert "log-likelihood" not in ",".join(map(str, table.metrics("dcgan")))


@pytest.mark.parametrize("model", ["cvae", "conv-vae"])
def test_a_model_is_trained_measured_and_drawn(load, monkeypatch, tiny_run, model):
    table, args = load("vae_table"), tiny_run
    monkeypatch.setattr(table, "CODES", 3)
    monkeypatch.setattr(table, "IMAGES", 10)
    monkeypatch.setitem(table.ROWS, model, table.Row(2, "batch_size=4 channels=2 latent=3"))
    row = table.measured(model, args)
    assert row["command"].startswith(f"minigen train {model} --data fashion-mnist --steps 2 --set")
    found = {name: each["value"] for name, each in row["metrics"].items()}
    assert found["negative_elbo"] == pytest.approx(found["reconstruction"] + found["kl"])
    assert found["log-likelihood-k3"] < 0 < found["reconstruction-psnr"]
    assert {"frechet-lenet", "precision", "reconstruction-ssim", "active_units"} <= set(found)
    assert ("class-accuracy" in found) == row["conditional"] == (model == "cvae")
    assert (row["likelihood"], row["latent"], row["binarize"]) == ("bernoulli", 3, "none")
    for name in (model, f"{model}-reconstructions", "held-out"):
        with Image.open(args.results / "vae_table" / f"{name}.png") as picture:
            assert picture.size == (298, 178)
    page = load("vae_page")
    document = {**_document(), "codes": 3, "likelihoods": 10, "models": {model: row}}
    assert f"| `{model}` | 2 | - |" in page.write(document, args.results)


def test_reconstructions_lie_under_their_images(load, tmp_path):
    class Halving:
        classes = 0

        def reconstruct(self, images, labels):
            assert labels is None
            return images / 2

    class Bright:
        def batch(self, indices):
            return np.ones((len(indices), 1, 28, 28), np.float32), np.zeros(len(indices))

    load("vae_table").reconstructions(Halving(), Bright(), tmp_path / "x.png")
    rows = np.asarray(Image.open(tmp_path / "x.png"))[14::30, 14]
    assert rows.tolist() == [255, 128] * 3


def _metrics(**values):
    return {name: {"value": v, "low": v - 0.25, "high": v + 0.25}
            for name, v in values.items()}  # fmt: skip


def _document():
    common = {
        "negative_elbo": 240.04, "bits_per_dimension": 0.4416, "reconstruction": 225.0,
        "reconstruction-psnr": 21.234, "reconstruction-ssim": 0.8125,
        "frechet-lenet": 60.0, "frechet-lenet-of-real": 0.3, "precision": 0.75, "recall": 0.5,
    }  # fmt: skip
    row = {
        "command": "minigen train conv-vae --steps 3", "minutes": 9.0, "cpu_minutes": 2.0,
        "idle": {"ms_a_step": 1.0, "minutes": 1.04, "threads": 2}, "samples": 10_000,
        "held_out": 10_000, "alarms": [], "likelihood": "bernoulli", "sigma": 0.1,
        "binarize": "none", "latent": 32, "conditional": False,
        "metrics": _metrics(
            **common, kl=15.0, active_units=14.0, **{"log-likelihood-k500": -236.5}
        ),
    }  # fmt: skip
    asked = _metrics(**{"class-accuracy": 0.9, "class-accuracy-of-real": 0.95})
    alarm = {"step": 40, "name": "posterior collapse", "text": "nothing"}
    conditional = {**row, "command": "minigen train cvae --steps 4", "alarms": [alarm],
                   "metrics": row["metrics"] | asked}  # fmt: skip
    codes = {**row, "command": "minigen train vq-vae --steps 5", "latent": None,
             "likelihood": "gaussian", "sigma": 0.0, "idle": None,
             "metrics": _metrics(**common, prior=100.0, perplexity=61.6)}  # fmt: skip
    return {"date": "D", "machine": "M", "command": "C", "features": "lenet-fashion", "codes": 500,
            "likelihoods": 1000,
            "models": {"conv-vae": row, "cvae": conditional, "vq-vae": codes}}  # fmt: skip


def test_page_is_made_from_the_json_alone(load, tmp_path):
    page = load("vae_page")
    load("models_page").draw(np.zeros((20, 1, 28, 28)), 10, tmp_path / "vae_table" / "cvae.png")
    text = page.write(_document(), tmp_path)
    assert (tmp_path / "vae_table.md").read_text() == text
    lines = text.splitlines()
    assert (
        "| `conv-vae` | 3 | 1.0 | 2.0 | bernoulli | 240.0 | 0.442 | 225.0 | 15.0 | 14 of 32 "
        "| -236.5 | 21.23 | 0.812 |"
    ) in lines
    assert (
        "| `vq-vae` | 5 | - | 2.0 | gaussian, sigma learnt | 240.0 | 0.442 | 225.0 | 100.0 | 62 "
        "| - | 21.23 | 0.812 |"
    ) in lines
    assert "| `conv-vae` | 60.00 (59.75 to 60.25) | 0.750 | 0.500 | - | - |" in lines
    assert "| `cvae` | 60.00 (59.75 to 60.25) | 0.750 | 0.500 | 0.900 | 1 |" in lines
    assert "| real images | 0.30 (0.05 to 0.55) | - | - | 0.950 | - |" in lines
    assert "numbers of different likelihoods do not compare" in text
    assert "Alarms of `cvae`: posterior collapse (step 40)." in lines
    assert "minigen train vq-vae --steps 5" in lines
    with Image.open(tmp_path / "vae_table.png") as picture:
        assert picture.width > 300


def test_the_json_says_how_the_likelihood_is_estimated(load):
    table = load("vae_table").TABLE
    document = table.with_row("iwae", {"x": 1}, {"models": {"cvae": {}, "vae": {}}})
    assert (document["codes"], document["likelihoods"]) == (500, 1000)
    assert list(document["models"]) == ["vae", "cvae", "iwae"]
    json.dumps(document)
