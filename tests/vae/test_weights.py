"""The weights that ship: how they are made, and that those that are there load."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import minigen as mg
from minigen import io
from minigen.data import degradations, photo
from minigen.metrics.psnr import psnr
from minigen.vae.weights import FOLDER, SHIPPED, load_file, load_shipped, make

FILES = make.PHOTOGRAPHS | make.HELD_OUT
MOST_BYTES = 1_200_000


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for i, name in enumerate(FILES):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_photographs_are_laid_out_at_every_size_and_some_held_out(source, tmp_path, monkeypatch):
    small = dataclasses.replace(make.RECIPES["denoise"], sides=(48, 24), patch_size=16)
    monkeypatch.setattr(make, "RECIPES", {"denoise": small})
    make.lay_out(source, tmp_path / "out")
    made = {p.name for p in (tmp_path / "out/denoise/train").iterdir()}
    assert len(made) == 2 * len(make.PHOTOGRAPHS) and "rob-bye-48.png" in made
    held = {p.name for p in (tmp_path / "out/denoise/test").iterdir()}
    assert held == {"astronaut-48.png", "astronaut-24.png", "chelsea-48.png", "chelsea-24.png"}
    with Image.open(tmp_path / "out/denoise/train/rob-bye-24.png") as photo:
        assert photo.size == (24, 16)
    (source / "rob-bye.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 photographs are missing: rob-bye\.jpg"):
        make.lay_out(source, tmp_path / "out")


def test_a_network_is_trained_goes_on_and_ships(source, tmp_path, monkeypatch):
    small = dataclasses.replace(
        make.RECIPES["denoise"], sides=(48,), patch_size=16, batch_size=2, steps=2
    )
    monkeypatch.setattr(make, "RECIPES", {"denoise": small})
    folder, run = tmp_path / "photos", tmp_path / "run"
    make.lay_out(source, folder)
    make.train("denoise", folder, run, seed=3, threads=1)
    make.train("denoise", folder, run, seed=3, threads=1)  # nothing is left to do
    about = make.ship("denoise", folder, run, tmp_path)
    assert about["recipe"]["steps"] == 2 and about["seed"] == 3 and "CC0" in about["licence"]
    assert len(about["photographs"]) == len(make.PHOTOGRAPHS)
    model = load_file(tmp_path / "denoise.safetensors")
    assert model.options.degradation == small.degradation and not model.training
    kept = json.loads(io.load_metadata(tmp_path / "denoise.safetensors")["about"])
    assert kept == json.loads(json.dumps(about))
    assert (tmp_path / "denoise.safetensors").stat().st_size < MOST_BYTES
    longer = dataclasses.replace(small, steps=9)
    monkeypatch.setattr(make, "RECIPES", {"denoise": longer})
    with pytest.raises(ValueError, match="is at step 2 of 9; go on with it by python -m minigen"):
        make.ship("denoise", folder, run, tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_loads_and_says_where_it_is_from(name):
    model = load_shipped(name)
    assert model.options.degradation == make.RECIPES[name].degradation
    about = json.loads(io.load_metadata(FOLDER / f"{name}.safetensors")["about"])
    assert [each["file"] for each in about["photographs"]] == list(make.PHOTOGRAPHS)
    assert (FOLDER / f"{name}.safetensors").stat().st_size < MOST_BYTES


@pytest.mark.parametrize(
    "name, spec, gain",
    [("denoise", "noise:25", 8.0), ("enhance", "darken:2,noise:5", 5.0),
     ("super-resolve", "downscale:2", 0.5)],
)  # fmt: skip
def test_what_ships_restores_a_photograph_that_it_has_not_seen(name, spec, gain):
    clean = photo("chelsea")[:, 60:188, 120:248].astype(np.float32) / 255
    damaged = degradations.parse(spec).image(clean, mg.Generator(0))
    restored = load_shipped(name).best(mg.asarray(damaged[None])).numpy()
    before, after = (
        psnr(image, clean[None], data_range=1) for image in (np.clip(damaged, 0, 1)[None], restored)
    )
    assert after > before + gain
