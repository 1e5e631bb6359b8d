"""Fixtures of the command's tests: an empty folder with data, the command in this process, a short
run, and a picture from it.
"""

import json

import numpy as np
import pytest
from PIL import Image

from minigen.cli import main
from tests.train import support
from tests.train.fake_model import MODEL

work = support.work  # the fixture


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit code, standard output, standard error)."""

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def run(work, call):
    """run(model): the folder of a short run of it, whose grids are of the steps 0, 2, 4 and 5."""

    def run(model=MODEL):
        np.savez(
            work / "labelled.npz", images=np.load(work / "images.npy"), labels=np.arange(40) % 3
        )
        words = ["--data", "labelled.npz", "--steps", 5, "--out", "run", "--sample-every", 2]
        code, _, err = call("train", model, *words)
        assert code == 0, err
        return work / "run"

    return run


@pytest.fixture
def sample(call, work):
    """sample(*words) -> the cells of the picture by row and column, each (6, 6) in [0, 1]."""

    def sample(*words):
        code, out, err = call("sample", "run", "-o", "out.png", "--json", *words)
        assert code == 0, err
        assert json.loads(out)["file"] == "out.png"
        picture = np.asarray(Image.open(work / "out.png")) / 255
        height = picture.shape[0]
        factor = next(f for f in (4, 3, 2, 1) if height % f == 0 and (height // f + 2) % 8 == 0)
        picture = np.pad(picture[::factor, ::factor], ((0, 2), (0, 2)))
        rows, columns = (length // 8 for length in picture.shape)
        return picture.reshape(rows, 8, columns, 8).swapaxes(1, 2)[:, :, :6, :6]

    return sample
