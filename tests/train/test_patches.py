"""Runs on patches of photographs: which patches, what is held out, and going on bit for bit."""

import json

import numpy as np
import pytest
from PIL import Image

from minigen.cli import main
from minigen.data import DataError, load
from minigen.train import UsageError, fit, load_run, resume
from minigen.train.build import open_data
from minigen.train.config import make_config
from tests.train.fake_model import MODEL, Fake
from tests.train.test_fit import metrics, same_state


class Cutting(Fake):
    """A model that wants patches of 8 pixels."""

    patch_size = 8


CUTTING = "tests.train.test_patches:Cutting"


@pytest.fixture
def photographs(work):
    for i in range(11):
        pixels = np.random.default_rng(i).integers(0, 256, (16 + i, 20, 3), dtype=np.uint8)
        (work / "photographs").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(work / "photographs" / f"{i:02}.png")
    return f"folder:{work / 'photographs'}"


def test_a_run_on_patches_goes_on_bit_for_bit(work, photographs):
    settings = ["data.patch_size=8", "data.augment=flip,turn"]
    fit(MODEL, data=photographs, settings=settings, steps=12, out=work / "whole")
    fit(MODEL, data=photographs, settings=settings, steps=5, out=work / "half")
    resume(work / "half", steps=12)
    assert same_state(work / "whole", work / "half")
    assert metrics(work / "whole")[-1]["error"] == metrics(work / "half")[-1]["error"]
    config = load_run(work / "half").config
    assert config.data.patch_size == 8 and config.image_shape == (3, 8, 8)
    assert "patch_size = 8" in (work / "half" / "config.toml").read_text()


def test_patches_of_files_held_out_are_never_trained_on(photographs):
    config = make_config(MODEL, data={"source": photographs}, settings=["data.patch_size=8"])
    train, test = (open_data(config, split) for split in ("train", "test"))
    tenth = load(photographs, "all", patch_size=8).images
    assert len(train) + len(test) == len(tenth)
    seen = {patch.tobytes() for patch in train.images[:]}
    assert not seen & {patch.tobytes() for patch in test.images[:]}
    assert test.name.endswith("photographs (test)")
    assert len(test) == len(load(photographs, "test", patch_size=8)) == 6 * 4  # of 25 x 20 pixels


def opened(model, source, *settings):
    config = make_config(model, data={"source": source}, settings=settings)
    return open_data(config, "train").image_shape


def test_a_model_may_have_a_patch_size_of_its_own(work, photographs):
    assert opened(CUTTING, photographs) == opened(CUTTING, "photos") == (3, 8, 8)
    assert opened(CUTTING, photographs, "data.patch_size=12", "data.channels=1") == (1, 12, 12)
    # Where there are no photographs, or another size is asked for, images stay whole.
    assert opened(CUTTING, str(work / "images.npy")) == (1, 6, 6)
    assert opened(CUTTING, photographs, "data.image_size=10") == (3, 10, 10)
    assert opened(CUTTING, "photos", "data.patch_size=0") == (3, 64, 64)
    assert opened(MODEL, "photos") == (3, 64, 64)


@pytest.mark.parametrize("setting", ["data.patch_size=8", "data.image_size=8"])
def test_a_test_folder_is_of_the_colours_of_the_train_folder(work, setting):
    for split, mode in (("train", "L"), ("test", "RGB")):
        (work / "photographs" / split).mkdir(parents=True)
        Image.new(mode, (9, 9)).save(work / "photographs" / split / "a.png")
    source = {"source": f"folder:{work / 'photographs'}"}
    config = make_config(MODEL, data=source, settings=[setting])
    config.image_shape = open_data(config, "train").image_shape
    assert config.image_shape == open_data(config, "test").image_shape == (1, 8, 8)


def test_what_cannot_be_cut_is_refused(work, photographs):
    with pytest.raises(DataError, match=r"of the kind npy has no photographs to cut"):
        opened(MODEL, str(work / "images.npy"), "data.patch_size=4")
    with pytest.raises(UsageError, match=r"data\.patch_size=half: got 'half', expected a whole"):
        opened(MODEL, photographs, "data.patch_size=half")
    with pytest.raises(UsageError, match=r"did you mean 'data\.patch_size'"):
        opened(MODEL, photographs, "data.patchsize=8")


def test_the_command_trains_any_model_on_patches_and_evaluates_on_files_held_out(
    work, photographs, capsys
):
    arguments = ["train", MODEL, "--data", photographs, "--set", "data.patch_size=8"]
    assert main([*arguments, "--steps", "3", "--out", "run", "--json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--metrics", "losses", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "24 images of" in err and "photographs (test), not trained on" in err
    pixels = load(photographs, "test", patch_size=8).batch(range(24))[0] * 2 - 1
    assert json.loads(out)["mean"]["value"] == pytest.approx(pixels.mean(), abs=1e-5)
    arguments = ["train", "dcgan", "--data", "photos", "--set", "data.patch_size=28"]
    small = ["--set", "channels=2", "--batch-size", "4", "--steps", "2"]
    assert main([*arguments, *small, "--out", "gan"]) == 0
    assert load_run("gan").model.image_shape == (3, 28, 28)
