"""Grids, charts and the report."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from minigen.train import RunError, UsageError, fit
from minigen.train.plot import line_chart
from minigen.train.report import write_report
from minigen.train.samples import grid, save_picture
from tests.train.fake_model import MODEL


def test_grid_is_square_with_gaps_and_enlarged():
    images = np.zeros((7, 1, 28, 28), np.float32)
    images[1] = 2.0  # clipped
    picture = grid(images)
    factor = 4
    assert picture.shape == (88 * factor, 88 * factor) and picture.dtype == np.uint8
    small = picture[::factor, ::factor]
    assert (small[:28, :28] == 0).all() and (small[:28, 30:58] == 255).all()
    assert (small[28:30] == 255).all()
    assert (small[60:, 30:] == 255).all()  # cells that no image fills


def test_grid_in_colour_and_of_large_images():
    picture = grid(np.random.default_rng(0).random((4, 3, 600, 300)))
    assert picture.shape == (2 * 602 - 2, 3 * 302 - 2, 3)
    assert (grid(np.full((1, 1, 4, 4), np.nan)) == 0).all()
    with pytest.raises(ValueError, match="expected"):
        grid(np.zeros((3, 2, 4, 4)))


def test_pictures_are_written_whole_or_not_at_all(tmp_path):
    path = save_picture(tmp_path / "new" / "a.png", np.full((5, 6), 7, np.uint8))
    assert np.asarray(Image.open(path)).tolist() == [[7] * 6] * 5
    assert [each.name for each in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(UsageError, match=r"use \.png"):
        save_picture(tmp_path / "a.xyz", np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=r"a\.xbm: .*use \.png"):
        save_picture(tmp_path / "a.xbm", np.zeros((2, 2), np.uint8))  # black and white only
    with pytest.raises(RunError, match="cannot be written"):
        save_picture(path / "under-a-file.png", np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("n", [1, 2, 3, 12345])
def test_charts_are_xml_of_bounded_size(n):
    xs = np.arange(1, n + 1)
    text = line_chart("a < b & c", xs.tolist(), np.sin(xs / 99).tolist())
    ElementTree.fromstring(text)
    assert "a &lt; b &amp; c" in text and len(text) < 60_000
    assert line_chart("none", [], []) == line_chart("none", [1.0], [float("nan")]) == ""


def test_report_escapes_and_shows(work):
    done = fit(MODEL, data="images.npy", out="<b>run&", steps=5)
    done.config.model = "<script>alert(1)</script>"
    text = write_report(done.directory, done.config, 5).read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text and "&lt;b&gt;run&amp;" in text
    assert text.count("<svg") == 2 and "options.lr" in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


def test_report_takes_no_foreign_files_for_its_own(work):
    done = fit(MODEL, data="images.npy", out="run", steps=5)
    (work / "run" / "samples" / "step-mine.png").write_text("no picture")
    write_report(done.directory, done.config, 5)
    done.directory.evaluation.write_text("{}")
    with pytest.raises(RunError, match=r"evaluation\.json: damaged .*; remove it"):
        write_report(done.directory, done.config, 5)
