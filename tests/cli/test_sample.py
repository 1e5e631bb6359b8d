"""`minigen sample`: which picture each option makes, and which do not go together."""

import json

import numpy as np
import pytest
from PIL import Image

from minigen.train.samples import FRAME_MS, FRAMES, LAST_MS, animation
from tests.cli.fake_conditional import MODEL as CONDITIONAL


def test_interpolations_are_rows(run, sample):
    run()
    cells = sample("--interpolate", "-n", 5, "--rows", 3)
    assert cells.shape[:2] == (3, 5)
    assert not cells[:, 0].any()  # the fake's interpolations begin with black
    ends = cells[:, -1]
    assert ends.any() and not np.array_equal(ends[0], ends[1])
    np.testing.assert_allclose(cells[:, 2], ends / 2, atol=1 / 255)
    assert sample("--interpolate").shape[:2] == (8, 8)


def test_classes_are_rows(run, sample):
    run(CONDITIONAL)
    cells = sample("--classes", "2,0", "-n", 5)
    assert cells.shape[:2] == (2, 5)
    np.testing.assert_allclose(cells[0, :, 1:], 2 / 4, atol=1 / 255)
    np.testing.assert_allclose(cells[1, :, 1:], 0)
    cells = sample("--classes", "all")
    assert cells.shape[:2] == (3, 8)
    np.testing.assert_allclose(cells[:, 0, 3, 3], [0, 1 / 4, 2 / 4], atol=1 / 255)


def test_interpolations_of_classes(run, sample):
    run(CONDITIONAL)
    cells = sample("--interpolate", "--classes", "2,0", "-n", 3)
    assert cells.shape[:2] == (2, 3)
    np.testing.assert_allclose(cells[:, 1, 3, 3], [2 / 4, 0], atol=1 / 255)
    cells = sample("--interpolate", "--rows", 4)  # the classes in turn
    np.testing.assert_allclose(cells[:, 0, 3, 3], [0, 1 / 4, 2 / 4, 0], atol=1 / 255)


def test_truncation_bounds_the_noise(run, sample):
    run(CONDITIONAL)
    free, bounded = sample("-n", 36)[..., 0, 0], sample("-n", 36, "--truncation", 0.5)[..., 0, 0]
    assert free.max() > 0.2 and bounded.max() == pytest.approx(0.125, abs=1 / 255)
    cells = sample("--classes", "1", "--truncation", 0.5)
    assert cells.shape[:2] == (1, 8) and cells[..., 0, 0].max() < 0.13


def test_files_are_named_after_what_they_show(run, call):
    run = run(CONDITIONAL)
    for words, name in (
        ((), "sample-seed0-step00000005.png"),
        (("-n", 3), "sample-n3-seed0-step00000005.png"),
        (("--seed", 3, "--truncation", 0.5), "sample-truncation0.5-seed3-step00000005.png"),
        (("--classes", "all"), "sample-classesall-seed0-step00000005.png"),
        (("--classes", "2, 0", "-n", 2), "sample-n2-classes2_0-seed0-step00000005.png"),
        (("--interpolate",), "interpolation-seed0-step00000005.png"),
        (("--interpolate", "--rows", 2), "interpolation-rows2-seed0-step00000005.png"),
        (("--gif",), "training.gif"),
    ):
        code, out, err = call("sample", "run", *words)
        assert code == 0, err
        assert out.endswith(f"{name}\n") and (run / "samples" / name).is_file()


def test_files_of_many_classes_have_names_that_fit(run, call):
    run = run(CONDITIONAL)
    for last in (0, 2):
        code, _, err = call("sample", "run", "--classes", "0,1," * 80 + str(last), "-n", 1)
        assert code == 0, err
    assert len(list((run / "samples").glob("sample-n1-classes*-seed0-*.png"))) == 2


def test_the_animation_of_training(run, call, work):
    run()
    code, out, err = call("sample", "run", "--gif", "-o", "a.gif", "--json")
    assert code == 0, err
    assert json.loads(out) == {"run": "run", "frames": 4, "file": "a.gif"}
    with Image.open(work / "a.gif") as picture:
        assert picture.n_frames == 4 and picture.info["loop"] == 0
        for frame, step in enumerate((0, 2, 4, 5)):
            picture.seek(frame)
            assert picture.info["duration"] == (LAST_MS if step == 5 else FRAME_MS)
            with Image.open(work / f"run/samples/step-{step:08d}.png") as grid:
                assert np.array_equal(picture.convert("L"), grid.convert("L"))


def test_animations_are_bounded(tmp_path):
    paths = []
    for i in range(FRAMES + 20):  # the first are smaller, as of a network that grows
        paths.append(tmp_path / f"{i}.png")
        picture = np.full((4, 8, 3) if i < 9 else (500, 1000, 3), i, np.uint8)
        Image.fromarray(picture).save(paths[-1])
    content, count = animation(paths)
    (tmp_path / "a.gif").write_bytes(content)
    with Image.open(tmp_path / "a.gif") as gif:
        assert count == gif.n_frames == FRAMES and gif.size == (640, 320)
        assert gif.convert("RGB").getpixel((5, 5)) == (0, 0, 0)
        gif.seek(FRAMES - 1)
        assert gif.convert("RGB").getpixel((5, 5)) == (FRAMES + 19,) * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "0"], "fake_model:Fake is not conditional"),
        (["--truncation", "0.5"], "fake_model:Fake cannot truncate its noise; GANs can"),
        (["--truncation", "0"], "--truncation is 0, expected more than 0"),
        (["--truncation", "nan"], "--truncation is nan, expected more than 0"),
        (["--truncation", "1", "--interpolate"], "--interpolate with --truncation"),
        (["--classes", "1", "--interpolate", "--rows", "2"], "--classes with --rows"),
        (["--rows", "2"], "give it with --interpolate"),
        (["--interpolate", "--rows", "0"], "--rows is 0, expected at least 1"),
        (["--interpolate", "-n", "1"], "-n is 1, expected at least 2"),
        (["--gif", "-n", "3"], "--gif with -n: --gif shows the grids made while training"),
        (["--gif", "--classes", "all"], "--gif with --classes"),
        (["--gif", "-o", "a.png"], "the animation of --gif is a .gif"),
    ],
)
def test_what_makes_no_sense_is_one_line(run, call, words, message):
    run()
    code, out, err = call("sample", "run", *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("3", "--classes: got '3', expected numbers from 0 to 2, or all"),
        ("0,-1", "--classes: got '-1'"),
        ("0,,1", "--classes: got ''"),
        ("al", "--classes: got 'al'"),
    ],
)
def test_wrong_classes_are_one_line(run, call, classes, message):
    run(CONDITIONAL)
    code, _, err = call("sample", "run", "--classes", classes)
    assert code == 2 and message in err and err.count("\n") == 1


def test_truncation_that_leaves_nothing(run, call):
    run(CONDITIONAL)
    code, _, err = call("sample", "run", "--truncation", "1e-9")
    assert code == 2 and err == "minigen: 1e-09 is too small\n"


def test_grids_that_make_no_animation(run, call):
    run = run()
    grids = sorted((run / "samples").glob("step-*.png"))
    grids[1].write_bytes(b"no picture")
    code, _, err = call("sample", "run", "--gif")
    assert code == 1 and "step-00000002.png: cannot be read as a picture" in err
    assert err.count("\n") == 1
    for path in grids[1:]:
        path.unlink()
    code, _, err = call("sample", "run", "--gif")
    assert code == 2 and "1 grids made while training, an animation needs 2" in err
