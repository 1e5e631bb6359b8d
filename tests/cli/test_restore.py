"""`minigen restore`: files in, files out, by which model; and one line for whatever is wrong."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from minigen import backend
from minigen.data.exif import tables
from minigen.data.photo_file import Photo, read_photo, write_photo
from minigen.train.restorations import TASKS
from minigen.vae import weights
from tests.vae.fake_restorer import Linear

MODEL = "minigen.vae.enhance_vae:EnhanceVAE"
TINY = {"channels": 4, "blocks": 1, "latent": 2, "style": 3, "data.patch_size": 8}
RNG = np.random.default_rng(0)


@pytest.fixture
def shipped(monkeypatch):
    """Instead of the weights that ship: what was asked for, and models known in closed form."""
    asked = []

    def load_shipped(name):
        asked.append(name)
        parts = {"super-resolve": "downscale:2", "enhance": "darken:0-3,noise:0-15"}
        return Linear(degradation=parts.get(name, "noise:0-50"))

    monkeypatch.setattr(weights, "load_shipped", load_shipped)
    return asked


@pytest.fixture
def run(work, call):
    """run(degradation, channels): the folder of a run of enhance-vae, hardly trained."""

    def run(degradation="noise:0-50", channels=3):
        (work / "folder").mkdir()
        for i in range(2):
            Image.fromarray(RNG.integers(0, 256, (16, 16, 3), np.uint8)).save(f"folder/{i}.png")
        settings = {**TINY, "degradation": degradation, "data.channels": channels}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        code, _, err = call("train", MODEL, "--data", "folder:folder", "--batch-size", 2,
                            "--steps", 1, "--out", "run", *words)  # fmt: skip
        assert code == 0, err
        return "run"

    return run


def save(path, *, channels=3, size=(10, 14), alpha=False, depth=8, **more):
    """A photo file of noise in the middle of the range; its pixels."""
    pixels = RNG.random((channels, *size), np.float32) * 0.5 + 0.25
    mask = RNG.random(size, np.float32) if alpha else None
    write_photo(path, pixels, like=Photo(pixels, mask, depth, **more))
    return read_photo(path)


def restored(call, *words):
    code, out, err = call("restore", *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_a_picture(work, call, shipped, task):
    one = save("a.jpg")
    style = ["--style", "a.jpg"] if task == "restyle" else []
    got = restored(call, "a.jpg", "--task", task, *style)
    assert shipped == [TASKS[task].methods["vae"]]
    (image,) = got.pop("images")
    assert got == {"task": task, "method": "vae", "run": None, "seed": 0, "samples": 8,
                   "device": "cpu"}  # fmt: skip
    assert image["input"] == "a.jpg" and image["file"] == f"a-{task}.png"
    two = read_photo(f"a-{task}.png")
    scale = 2 if task == "super-resolve" else 1
    assert (image["height"], image["width"]) == two.pixels.shape[1:] == (10 * scale, 14 * scale)
    assert image["seconds"] >= 0 and 25 < image["mean_deviation_255"] < 30
    if scale == 1:  # the fake's tone is 0.01 brighter, or that of the style: the same
        shift = 0 if style else 0.01
        np.testing.assert_allclose(two.pixels, one.pixels + shift, atol=0.6 / 255)


def test_people_are_told(work, call, shipped):
    save("a.png")
    code, out, _ = call("restore", "a.png", "--task", "denoise", "--uncertainty")
    first, second = out.splitlines()
    assert code == 0 and first.startswith("a-denoise.png: 14x10, ") and "mean deviation 2" in first
    assert second.startswith("a-denoise-uncertainty.png: black is a deviation of 0, white of 2")
    code, out, _ = call("restore", "a.png", "--task", "denoise", "-q", "--overwrite")
    assert code == 0 and out == ""
    code, out, _ = call("list", "--json")
    tasks = {each["name"]: each["help"] for each in json.loads(out)["tasks"]}
    assert set(TASKS) < set(tasks) and "(vae)" in tasks["denoise"]
    assert "network of enhance" in tasks["brighten"]


def test_what_a_photo_carries_is_kept(work, call, shipped):
    tags = Image.Exif()
    tags[271], tags[274] = "Maker", 1
    carried = {"exif": tags.tobytes(), "icc": b"profile", "dpi": (300.0, 300.0)}
    one = save("a.tif", depth=16, alpha=True, **carried)
    restored(call, "a.tif", "--task", "denoise")
    two = read_photo("a-denoise.png")
    assert two.depth == 16 and two.icc == b"profile" and tables(two.exif)[271] == "Maker"
    assert np.array_equal(one.alpha, two.alpha)
    np.testing.assert_allclose(two.pixels, one.pixels + 0.01, atol=2 / 65535)
    save("grey.png", channels=1)
    restored(call, "grey.png", "--task", "super-resolve", "-o", "new/big.webp")
    assert read_photo("new/big.webp").pixels.shape == (3, 20, 28)  # WebP has no grey
    restored(call, "grey.png", "--task", "super-resolve", "-o", "new/big.jpg")
    assert read_photo("new/big.jpg").pixels.shape == (1, 20, 28)


def test_transparent_pixels_have_no_say_and_stay(work, call, shipped):
    """In the tone of a photo, and in that of a style; black, and white, where nobody sees it."""
    half = np.zeros((4, 8), np.float32)
    half[:, 4:] = 1
    for name, seen, unseen in (("a.png", 0.4, 0.0), ("s.png", 0.6, 1.0)):
        pixels = np.where(half == 1, seen, unseen).astype(np.float32)[None].repeat(3, 0)
        write_photo(name, pixels, like=Photo(pixels, half))
    restored(call, "a.png", "--task", "restyle", "--style", "s.png", "--save-samples")
    for name in ("a-restyle.png", "a-restyle-sample2.png"):
        got = read_photo(name)
        assert (got.pixels[:, :, :4] == 0).all() and np.array_equal(got.alpha, half)
        assert got.pixels[:, :, 4:].mean() == pytest.approx(0.6, abs=0.02)
    restored(call, "a.png", "--task", "super-resolve")
    assert read_photo("a-super-resolve.png").pixels.shape == (3, 8, 16)
    write_photo("none.png", pixels, like=Photo(pixels, 0 * half))
    restored(call, "none.png", "--task", "denoise")
    assert np.array_equal(read_photo("none-denoise.png").pixels, read_photo("none.png").pixels)


def test_a_photo_named_twice_is_restored_once(work, call, shipped):
    save("a.png")
    got = restored(call, "a.png", "./a.png", "--task", "denoise", "-o", "b.png")
    assert [each["file"] for each in got["images"]] == ["b.png"]


def test_photos_on_their_side_are_upright(work, call, shipped):
    tags = Image.Exif()
    tags[274] = 6
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 4).save("a.png", exif=tags)
    got = restored(call, "a.png", "--task", "denoise", "--uncertainty")["images"][0]
    assert (got["width"], got["height"]) == (6, 8)
    upright = np.rot90(np.arange(48).reshape(6, 8) * 4, -1) / 255
    np.testing.assert_allclose(read_photo("a-denoise.png").pixels[0], upright + 0.01, atol=3e-3)
    assert read_photo("a-denoise-uncertainty.png").pixels.shape == (1, 8, 6)


def test_samples_and_uncertainty(work, call, shipped):
    save("a.png")
    words = ["a.png", "--task", "denoise", "--samples", 4, "--save-samples", "--uncertainty"]
    (image,) = restored(call, *words)["images"]
    assert image["sample_files"] == [f"a-denoise-sample{k}.png" for k in (1, 2, 3, 4)]
    samples = np.stack([read_photo(path).pixels for path in image["sample_files"]])
    mean = read_photo("a-denoise.png").pixels
    np.testing.assert_allclose(samples.mean(0), mean, atol=1 / 255)
    assert samples.std(0).mean() > 0.01
    deviation = read_photo(image["uncertainty"])
    white = image["uncertainty_white_255"]
    assert deviation.pixels.shape == (1, 10, 14) and white > 25.5
    expected = np.sqrt((0.01 + samples.var(0)).mean(0))
    np.testing.assert_allclose(deviation.pixels[0] * white / 255, expected, atol=2e-3)
    assert tables(deviation.exif)[270].endswith(f"white is {white:.2f}/255 or more")


def test_seed_and_tile(work, call, shipped):
    save("a.png", size=(50, 70), depth=16)

    def made(*words):
        restored(call, "a.png", "--task", "denoise", "-o", "b.png", "--samples", 1, *words)
        return read_photo("b.png").pixels

    one = made()
    assert np.array_equal(one, made("--tile", 32)) and np.array_equal(one, made("--seed", 0))
    assert not np.array_equal(one, made("--seed", 1))


def test_a_folder_of_photos(work, call, shipped):
    (work / "in").mkdir()
    (work / "in/notes.txt").write_text("no photo")
    for name in ("b.png", "a.jpg", "c.TIF"):
        save(f"in/{name}")
    got = restored(call, "in", "--task", "denoise", "-o", "out")
    assert [each["file"] for each in got["images"]] == [f"out/{c}-denoise.png" for c in "abc"]
    first = read_photo("out/b-denoise.png").pixels
    restored(call, "in/b.png", "--task", "denoise", "-o", "alone.png")
    assert np.array_equal(read_photo("alone.png").pixels, first)  # as in the company of others
    (work / "in/d.png").write_bytes(b"no photo")
    code, out, err = call("restore", "in", "--task", "denoise", "-o", "other/", "--json")
    images = json.loads(out)["images"]
    assert code == 1 and [("error" in each) for each in images] == [False, False, False, True]
    assert "in/d.png: is no image that can be read" in images[3]["error"] in err
    assert err.endswith("minigen: 1 of 4 images were not restored\n")
    assert len(list((work / "other").iterdir())) == 3


def test_nothing_is_replaced_unless_told(work, call, shipped):
    save("a.png")
    before = (work / "a.png").read_bytes()

    def refused(message, *words):
        task = [] if "--task" in words else ["--task", "denoise"]
        code, out, err = call("restore", *words, *task)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1

    refused("a.png: is one of the pictures given; choose another -o", "a.png", "-o", "a.png")
    refused(
        "is one of the pictures given", "a.png", "-o", "../" + work.name + "/a.png", "--overwrite"
    )
    save("s.png")
    restyle = ["--task", "restyle", "--style", "./s.png", "-o", "s.png", "--overwrite"]
    refused("s.png: is one of the pictures given", "a.png", *restyle)
    (work / "a-denoise.png").write_text("mine")
    refused("a-denoise.png: exists; --overwrite replaces it, or choose another -o", "a.png")
    refused("a-denoise.png: exists", "a.png", "-o", "./")
    assert (work / "a-denoise.png").read_text() == "mine"
    restored(call, "a.png", "--task", "denoise", "-o", "a-denoise.png")  # it is named
    restored(call, "a.png", "--task", "denoise", "--overwrite")
    (work / "a-denoise-uncertainty.png").write_text("mine")
    refused("a-denoise-uncertainty.png: exists", "a.png", "-o", "a-denoise.png", "--uncertainty")
    save("a.tif")
    refused("would be made of both a.png and a.tif; restore them apart", "a.png", "a.tif",
            "--overwrite")  # fmt: skip
    assert (work / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png"], "none.png: no such file"),
        (["", "-o", "out"], "IMAGE is an empty text, expected a photo or a folder of them"),
        (["a.png", "--task", "sharpen"], "--task: no task 'sharpen'; nearest is"),
        (["a.png", "--task", "denois"], "did you mean 'denoise'?"),
        (["a.png", "--method", "vea"], "--method: no method 'vea'; did you mean 'vae'?"),
        (["a.png", "--samples", "0"], "--samples is 0, expected at least 1"),
        (["a.png", "--samples", "many"], "invalid int value: 'many'"),
        (["a.png", "--tile", "3"], "--tile is 3, expected at least 32"),
        (["a.png", "--seed", "-1"], "seed is -1"),
        (["a.png", "--style", "a.png"], "--style goes with --task restyle, not with denoise"),
        (["a.png", "--task", "restyle"], "give the picture whose tone is wanted, with --style"),
        (["a.png", "--task", "restyle", "--style", "none.jpg"], "none.jpg: cannot be read: No"),
        (["a.png", "-o", "b.gif"], "b.gif: no photo is written with the ending '.gif'"),
        (["a.png", "-o", "b"], "b: no photo is written with the ending ''"),
        (["alpha.png", "-o", "b.jpg"], "b.jpg: JPEG holds no transparency"),
        (["a.png", "alpha.png", "-o", "b.png"], "-o b.png: 2 photos are written to a folder"),
        (["."], ".: is a folder; name another for the results: -o OUT"),
        (["empty", "-o", "out"], "empty: no photos there; expected files ending in .bmp"),
        (["text.png"], "text.png: is no image that can be read"),
        (["a.png", "--run", "run"], "run: no such run"),
        (["a.png", "--device", "cpux"], "--device cpux: "),
    ],
)
def test_what_makes_no_sense_is_one_line(work, call, shipped, words, message):
    save("a.png")
    save("alpha.png", alpha=True)
    (work / "text.png").write_text("no picture")
    (work / "empty").mkdir()
    before = sorted(work.rglob("*"))
    task = [] if "--task" in words else ["--task", "denoise"]
    code, out, err = call("restore", *words, *task)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert sorted(work.rglob("*")) == before


def test_the_task_is_needed(work, call):
    code, _, err = call("restore", "a.png")
    assert code == 2 and "missing: --task" in err


def test_a_run_restores(run, call, work):
    run("darken:0-3,noise:0-15")
    save("a.png")
    for task in ("brighten", "enhance", "denoise"):
        got = restored(call, "a.png", "--task", task, "--run", "run")
        assert got["run"] == "run" and read_photo(f"a-{task}.png").pixels.shape == (3, 10, 14)
    dark, bright = (np.full((4, 4), value, np.uint8) for value in (10, 240))
    styled = []
    for name, picture in (("dark", dark), ("bright", bright)):
        Image.fromarray(picture).save(f"{name}.png")
        words = ["--task", "restyle", "--run", "run", "--style", f"{name}.png"]
        restored(call, "a.png", *words, "-o", "b.png")
        styled.append(read_photo("b.png").pixels)
    assert not np.array_equal(*styled)


def test_a_run_that_undoes_something_else(run, call, work):
    run()
    save("a.png")
    code, _, err = call("restore", "a.png", "--task", "super-resolve", "--run", "run")
    assert code == 2 and err == (
        "minigen: --run run: was trained to undo noise:0-50, which is not to super-resolve;"
        " give --task denoise or enhance, or a run trained with --set degradation=downscale:2\n"
    )
    code, _, err = call("restore", "a.png", "--task", "brighten", "--run", "run")
    assert code == 2 and "which is not to brighten" in err


def test_a_run_that_enlarges_does_nothing_else(run, call, work):
    run("downscale:2,noise:0-10")
    save("a.png")
    (image,) = restored(call, "a.png", "--task", "super-resolve", "--run", "run")["images"]
    assert (image["width"], image["height"]) == (28, 20)
    code, _, err = call("restore", "a.png", "--task", "denoise", "--run", "run")
    assert code == 2 and "give --task super-resolve, or a run trained with" in err


def test_a_run_of_grey_images(run, call, work):
    run("darken:0-1,noise:0-9", channels=1)
    save("grey.png", channels=1)
    save("colour.png")
    restored(call, "grey.png", "--task", "denoise", "--run", "run")
    assert read_photo("grey-denoise.png").pixels.shape == (1, 10, 14)
    code, _, err = call("restore", "colour.png", "--task", "denoise", "--run", "run")
    assert code == 2 and "colour.png: has 3 channels, the model knows 1" in err
    assert err.count("\n") == 1
    code, _, err = call("restore", "grey.png", "--task", "restyle", "--run", "run", "--style",
                        "colour.png")  # fmt: skip
    assert code == 2 and "colour.png: has 3 channels, the model knows 1" in err


def test_a_run_of_another_model(call, work):
    save("a.png")
    sizes = [word for each in ("encoder", "decoder", "latent") for word in ("--set", f"{each}=3")]
    code, _, err = call(
        "train", "vae", "--data", "images.npy", "--steps", 1, "--out", "run", *sizes
    )
    assert code == 0, err
    code, _, err = call("restore", "a.png", "--task", "denoise", "--run", "run")
    assert code == 2 and err == (
        "minigen: --run run: is of the model vae, which restores no photos; make one with minigen"
        " train enhance-vae --data folder:PATH --set degradation=noise:0-50\n"
    )


def test_devices(work, call, shipped, monkeypatch):
    save("a.png")
    moved = []
    monkeypatch.setattr(Linear, "to", lambda self, device: moved.append(device) or self)
    monkeypatch.setattr(backend, "use", lambda device: None)
    restored(call, "a.png", "--task", "denoise", "--device", "cuda")
    assert moved == ["cuda"]


@pytest.mark.parametrize("place", ["restoring", "writing"])
def test_ctrl_c_leaves_no_half_file(work, call, shipped, monkeypatch, place):
    save("a.png")
    save("b.png")
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    owner, name = (Linear, "restore") if place == "restoring" else (os, "replace")
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, interrupted)
    code, out, err = call("restore", "a.png", "b.png", "--task", "denoise", "--samples", 1)
    assert (code, err) == (130, "minigen: interrupted\n") and out.count("\n") == 1
    names = {each.name for each in work.iterdir()} - {"images.npy"}
    assert names == {"a.png", "b.png", "a-denoise.png"}
