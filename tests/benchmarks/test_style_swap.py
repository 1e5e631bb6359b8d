"""The benchmark of style swaps: tones of indices, the comparison with the truth, and a tiny run."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigen as mg
from minigen.data.shapes import shapes


@pytest.fixture
def swaps(load):
    return load("style_swap")


def test_a_tone_is_of_the_index_and_keeps_to_the_range(swaps):
    dark, bright = swaps.tone(np.arange(5000), 3)
    assert dark.shape == bright.shape == (5000, 3, 1, 1)
    assert 0 <= dark.min() < 0.01 and 0.49 < dark.max() < 0.5 and bright.max() <= 1
    assert (bright - dark >= 0.2).all()
    np.testing.assert_array_equal(swaps.tone([7, 3], 3)[0], dark[[7, 3]])
    assert abs(np.corrcoef(np.hstack([dark[..., 0, 0], bright[..., 0, 0]]).T)[0, 1:3]).max() < 0.05


def test_the_truth_is_nearest_to_itself(swaps):
    images = swaps.Toned(shapes("test"), 3)
    chosen = np.array([5, 900, 1800, 2700])
    seen = images(chosen)
    assert seen.shape == (4, 3, 28, 28) and len(images) > 3000
    truth = np.stack([images(np.full(4, i), tones=chosen) for i in chosen])
    np.testing.assert_array_equal(truth[[0, 1, 2, 3], [0, 1, 2, 3]], seen)
    noise = np.random.default_rng(0).normal(0, 0.01, truth.shape)
    found = swaps.compared(seen, truth, truth + noise)
    assert found["psnr"]["swap"] == pytest.approx(40, abs=0.2)
    assert found["psnr"]["reconstruct"] == pytest.approx(40, abs=0.2)
    assert found["psnr"]["content"] < 30 and found["psnr"]["style"] < 30
    assert found["nearer_than_both"] == 1
    same = swaps.compared(seen, truth, np.broadcast_to(seen[:, None], truth.shape))
    assert same["psnr"]["swap"] == same["psnr"]["content"] and same["nearer_than_both"] == 0


def test_a_tiny_run_has_a_row_and_a_picture(swaps, tmp_path, monkeypatch):
    monkeypatch.setattr(swaps, "PAIRED", 14)
    args = SimpleNamespace(size=28, colours=1, steps=1, seed=0, out=tmp_path)
    with mg.kernels.use("reference"):
        runs = [swaps.trained(variant, args) for variant in swaps.VARIANTS]
    assert runs[0]["psnr"]["swap"] != runs[1]["psnr"]["swap"]
    assert (tmp_path / "style_swap-28x1.png").exists()
    kept = swaps.added({"runs": runs}, runs[0])
    assert [run["variant"] for run in kept["runs"]] == ["style-vae", "seeing"]
    assert len(list(swaps.table(kept))) == 4
