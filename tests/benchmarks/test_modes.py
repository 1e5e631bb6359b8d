"""benchmarks/modes.py: every variant trains, a command goes on where it was, the table is whole."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
STEPS = 20


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def modes(load, monkeypatch):
    """modes.py, its runs in this process."""
    made = load("modes")

    def fresh(*arguments, environment):
        assert set(environment.values()) == {"1"}
        args = made.parse([*map(str, arguments)])
        task, variant, seed = args.one
        return made.run(task, variant, int(seed), args)

    monkeypatch.setattr(made.measure, "fresh", fresh)
    return made


def parsed(modes, path, *more):
    shared = ["--jobs", "1", "--steps", str(STEPS), "--samples", "60", "--out", str(path)]
    return modes.parse([*shared, *map(str, more)])


def test_every_variant_on_points_trains_and_stands_in_the_table(modes, tmp_path):
    args = parsed(modes, tmp_path / "modes.json", "--tasks", "ring", "grid", "--seeds", 1)
    assert modes.fill(args) == []
    found = json.loads(args.out.read_text())
    assert [modes.key(each) for each in found["runs"]] == [
        (task, variant, 0) for task in ("ring", "grid") for variant in modes.POINTS
    ]
    assert len({(each["task"], each["kl"]) for each in found["runs"]}) == 2 * len(modes.POINTS)
    for each in found["runs"]:
        assert each["steps"] == STEPS and np.isfinite(each["points"]).all()
    assert {"command", "machine", "commit", "published", "sources"} <= set(found)
    text = "\n".join(modes.table(found))
    for variant in modes.POINTS:
        assert text.count(f"| {variant} | {STEPS} | 1 |") == 2
    assert "17.3 ± 0.8" in text


def test_a_command_goes_on_where_it_was(modes, tmp_path, monkeypatch):
    path = tmp_path / "modes.json"
    shared = ("--tasks", "ring", "--variants", "gan", "r1")
    first = parsed(modes, path, *shared, "--seeds", 1)
    modes.fill(first)
    before = json.loads(path.read_text())["runs"]
    more = parsed(modes, path, *shared, "--seeds", 2)
    left = list(modes.missing(modes.read(path), more))
    assert left == [("ring", "gan", 1), ("ring", "r1", 1)]
    modes.fill(more)
    after = json.loads(path.read_text())
    assert [each for each in after["runs"] if each["seed"] == 0] == before
    (row,) = (row for row in after["summary"] if row["variant"] == "gan")
    values = [each["kl"] for each in after["runs"] if each["variant"] == "gan"]
    assert row["seeds"] == 2
    assert row["kl"] == pytest.approx([np.mean(values), np.std(values, ddof=1) / np.sqrt(2)])
    other = modes.parse(["--steps", "21", "--tasks", "ring", "--seeds", "1", "--out", str(path)])
    assert ("ring", "gan", 0) in modes.missing(after, other)


def test_a_run_is_the_same_again(modes, tmp_path):
    args = parsed(modes, tmp_path / "modes.json", "--tasks", "grid")
    one, again = (modes.run("grid", "pacgan2", 3, args) for _ in range(2))
    assert one["kl"] == again["kl"]
    assert modes.run("grid", "pacgan2", 4, args)["kl"] != one["kl"]


@pytest.mark.parametrize("variant", ["dcgan", "pacdcgan2", "wgan-gp"])
def test_stacked_digits_train(load, digits, variant, monkeypatch):
    models, modes = load("mode_models"), load("modes")
    monkeypatch.setattr("minigen.metrics.features.stacked_modes", brightness)
    options = {**modes.IMAGES[variant], "batch_size": 4 * modes.IMAGES[variant].get("packing", 1)}
    report, images = models.train_stacked(digits, options, steps=3, seed=0, samples=10)
    assert images.shape == (10, 3, 28, 28) and 0 <= images.min() <= images.max() <= 1
    assert report.total == 1000 and sum(report.counts) == 10


def brightness(images):
    """A mode for each image, without a classifier."""
    return (images.mean((2, 3)) * 10).astype(np.int64) @ np.array([100, 10, 1])


@pytest.fixture
def digits(tmp_path):
    """A folder of 20 random pictures in the IDX files of MNIST."""
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        images = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        for kind, array in (("images", images), ("labels", np.arange(20, dtype=np.uint8) % 10)):
            sizes = np.array(array.shape, ">u4").tobytes()
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (tmp_path / f"{split}-{kind}-idx{array.ndim}-ubyte").write_bytes(content)
    return tmp_path


def test_failed_runs_are_named_and_the_others_kept(modes, tmp_path, monkeypatch):
    whole = modes.measure.fresh

    def fresh(*arguments, environment):
        if "r1" in arguments:
            raise modes.subprocess.CalledProcessError(1, "modes.py")
        return whole(*arguments, environment=environment)

    monkeypatch.setattr(modes.measure, "fresh", fresh)
    path = tmp_path / "modes.json"
    args = parsed(modes, path, "--tasks", "ring", "--variants", "gan", "r1", "--seeds", 1)
    assert modes.fill(args) == ["ring r1 0"]
    assert [modes.key(each) for each in json.loads(path.read_text())["runs"]] == [
        ("ring", "gan", 0)
    ]


def test_stacked_needs_the_digits(modes, capsys):
    with pytest.raises(SystemExit):
        modes.parse(["--tasks", "stacked"])
    assert "--mnist FOLDER" in capsys.readouterr().err


def test_the_folder_of_the_digits_stays_out_of_the_results(modes, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["modes.py", "--mnist", "/some/where", "--seeds", "1"])
    text = json.dumps(modes.whole([]))
    assert "/some/where" not in text and "--mnist FOLDER --seeds 1" in text


def test_runs_that_others_write_meanwhile_are_kept(modes, tmp_path, monkeypatch):
    path = tmp_path / "modes.json"
    args = parsed(modes, path, "--tasks", "ring", "--variants", "gan", "--seeds", 1)
    mine = modes.run("ring", "gan", 0, args)

    def fresh(*arguments, environment):
        modes.keep({**mine, "seed": 1}, path)
        return mine

    monkeypatch.setattr(modes.measure, "fresh", fresh)
    assert modes.fill(args) == []
    assert json.loads(path.read_text())["runs"] == [mine, {**mine, "seed": 1}]


@pytest.mark.parametrize(
    ("model", "shape", "name", "value"),
    [
        ("Point", (2,), "normalization", "batch"),
        ("Point", (2,), "conditional", "embedding"),
        ("Point", (2,), "channels", 3),
        ("Stacked", (3, 28, 28), "spectral_norm", True),
        ("Stacked", (3, 28, 28), "minibatch_stddev", True),
        ("Stacked", (3, 28, 28), "conditional", "projection"),
        ("Stacked", (3, 28, 28), "normalization", "none"),
        ("Stacked", (3, 28, 28), "normalization", "instance"),
    ],
)
def test_options_that_the_networks_do_not_know_are_refused(load, model, shape, name, value):
    models = load("mode_models")
    made, options = getattr(models, f"{model}GAN"), getattr(models, f"{model}Options")
    more = {"normalization": "layer"} if name == "spectral_norm" else {}  # else refused anyway
    with pytest.raises(ValueError, match=f"^{model}GAN: {name}={value}, expected"):
        made(options(**more, **{name: value}), shape, rng=models.mg.Generator(0))


def test_a_discriminator_of_points_sees_the_spread_of_a_batch(load):
    models = load("mode_models")
    mg = models.mg
    options = models.PointOptions(minibatch_stddev=True)
    model = models.PointGAN(options, (2,), rng=mg.Generator(0))
    points = mg.Generator(1).normal((4, 2))
    alone = model.score(mg.concatenate([points[:1]] * 4)).numpy()[0]
    assert abs(model.score(points).numpy()[0] - alone) > 1e-6
    plain = models.PointGAN(models.PointOptions(), (2,), rng=mg.Generator(0))
    alone = plain.score(mg.concatenate([points[:1]] * 4)).numpy()[0]
    np.testing.assert_allclose(plain.score(points).numpy()[0], alone, rtol=1e-5)


def test_the_chart_is_drawn(load, modes, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "modes.json"
    args = parsed(modes, path, "--tasks", "grid", "--variants", "gan", "wgan-gp", "--seeds", 1)
    modes.fill(args)
    load("modes_chart").draw(json.loads(path.read_text()), tmp_path / "modes.png")
    assert (tmp_path / "modes.png").read_bytes()[:4] == b"\x89PNG"
