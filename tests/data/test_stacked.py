"""Stacked MNIST: three digits an image, drawn once and for all, put together when indexed."""

import numpy as np
import pytest

from minigen import data
from minigen.data import DataError, stacked
from tests.data.test_readers import write_mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stacked, "COUNTS", {"train": 50, "test": 20})
    write_mnist(tmp_path, "", 12)
    return tmp_path


def test_channels_and_labels_belong_together(folder):
    digits = data.load(f"mnist:{folder}")
    train = data.load(f"stacked-mnist:{folder}")
    assert len(train) == 50 and train.image_shape == (3, *digits.image_shape[1:])
    assert train.name == f"stacked-mnist:{folder}" and train.classes[42] == "042"
    images, labels = train.batch([3, 0, 49])
    for image, label in zip(images, labels, strict=True):
        for channel, digit in zip(image, f"{label:03d}", strict=True):
            same = digits.images[digits.labels == int(digit), 0] / np.float32(255)
            assert any(np.allclose(channel, each) for each in same)
    assert len(set(train.images.indices.reshape(-1).tolist())) == 12


def test_always_the_same_and_drawn_alone_for_each_split(folder):
    spec = f"stacked-mnist:{folder}"
    first, again, test = data.load(spec), data.load(spec), data.load(spec, "test")
    np.testing.assert_array_equal(first.images.indices, again.images.indices)
    assert len(test) == 20 and test.labels.max() <= 333  # the 4 test digits are 0, 1, 2, 3
    same = first.images.indices[:20] % 4 == test.images.indices % 4
    assert same.mean() < 0.5


def test_sizes_and_memory(folder, monkeypatch):
    monkeypatch.undo()
    train = data.load(f"stacked-mnist:{folder}")
    assert len(train) == 128_000 and stacked.COUNTS["test"] == 26_000
    assert train.images.source.base is not None and train.images.indices.nbytes < 4e6
    assert len(np.unique(train.labels)) == 1000
    resized = data.load(f"stacked-mnist:{folder}", image_size=32)
    assert resized.batch([7])[0].shape == (1, 3, 32, 32)


def test_faults(folder):
    for kind in ("train", "t10k"):
        (folder / f"{kind}-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="the digits have no labels"):
        data.load(f"stacked-mnist:{folder}")
    with pytest.raises(DataError, match="needs a path, as in stacked-mnist:FOLDER"):
        data.load("stacked-mnist")
    with pytest.raises(DataError, match="has the splits train and test"):
        data.load(f"stacked-mnist:{folder}", "all")
    (folder / "a.txt").touch()
    with pytest.raises(DataError, match="is a file, stacked-mnist needs a folder"):
        data.load(f"stacked-mnist:{folder}/a.txt")
