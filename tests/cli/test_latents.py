"""`minigen sample`: pictures that begin with codes of held-out images, whose cells are known."""

import json
from statistics import NormalDist

import numpy as np
import pytest

from tests.cli.fake_latent import LABELLED, MODEL

HELD = [9, 19, 29, 39]  # of the 40 images; their labels are 0, 1, 2, 0
NEAR = {"atol": 1.1 / 255}  # a picture's rounding, and that of the image it shows


@pytest.fixture
def images(work):
    """The held-out images, (4, 6, 6) in [0, 1]."""
    return np.load(work / "images.npy")[HELD] / 255


@pytest.fixture
def facts(call):
    """facts(*words) -> the JSON document of a picture."""

    def facts(*words):
        code, out, err = call("sample", "run", "--json", *words)
        assert code == 0, err
        return json.loads(out)

    return facts


def shown(codes, label=0.0):
    """The images (..., 6, 6) that the model decodes from codes (..., 4) and labels (...)."""
    images = np.zeros((*np.shape(codes)[:-1], 6, 6))
    images[..., :4, :] = np.asarray(codes)[..., None] / 6 + 0.5
    images[..., 5, :] = np.asarray(label)[..., None] / 4
    return images


def codes_of(images):
    """The model's codes (n, 4) of images (n, 6, 6) in [0, 1]."""
    return 3 * (2 * images[:, :4, 0] - 1)


def test_a_plane_is_of_equally_likely_codes(run, sample, facts):
    run(MODEL)
    places = np.array([NormalDist().inv_cdf(p) for p in (1 / 6, 3 / 6, 5 / 6)])
    codes = np.zeros((3, 3, 4))
    codes[..., 2], codes[..., 3] = places, places[::-1, None]  # to the right, upwards
    cells = sample("--manifold", 3)
    np.testing.assert_allclose(cells, shown(codes), **NEAR)
    assert sample("--manifold").shape[:2] == (20, 20)
    document = facts("--manifold", 3)
    assert document["units"] == [2, 3] and document["start"] is None and document["n"] == 9
    assert "seed" not in document


def test_a_plane_of_units_asked_for_through_an_image(run, sample, facts, images):
    run(MODEL)
    cells = sample("--manifold", 2, "--units", "3, 0", "--start", 1)
    place = NormalDist().inv_cdf(3 / 4)
    codes = np.tile(codes_of(images)[1], (2, 2, 1))
    codes[..., 3], codes[..., 0] = [-place, place], [[place], [-place]]
    np.testing.assert_allclose(cells, shown(codes), **NEAR)
    assert facts("--manifold", 2, "--units", "3, 0", "--start", 1)["start"] == 1


def test_a_traversal_goes_along_one_unit_a_row(run, sample, facts, images):
    run(MODEL)
    document = facts("--traverse", "-n", 4, "--seed", 3)
    assert document["units"] == [2, 3, 0, 1] and document["n"] == 18 and document["seed"] == 3
    code = codes_of(images)[document["start"]]
    kl = 0.5 * ((codes_of(images) ** 2).mean(0) + np.exp([-10, 0, -30, -20]) - 1 + [10, 0, 30, 20])
    np.testing.assert_allclose(document["kl"], kl[[2, 3, 0, 1]], rtol=1e-3)
    cells = sample("--traverse", "-n", 4, "--seed", 3)
    assert cells.shape[:2] == (5, 4)
    np.testing.assert_allclose(cells[0, 0], images[document["start"]], **NEAR)
    np.testing.assert_allclose(cells[0, 1], shown(code), **NEAR)
    assert (cells[0, 2:] == 1).all()
    codes = np.tile(code, (4, 4, 1))
    for row, unit in enumerate((2, 3, 0, 1)):
        codes[row, :, unit] = [-3, -1, 1, 3]
    np.testing.assert_allclose(cells[1:], shown(codes), **NEAR)
    starts = {facts("--traverse", "0", "--seed", seed)["start"] for seed in range(9)}
    assert len(starts) > 1  # the seed draws the image


def test_traversals_of_units_asked_for_and_from_the_prior(run, sample, facts):
    run(MODEL)
    cells = sample("--traverse", "1,0", "--start", "prior", "-n", 3)
    codes = np.zeros((2, 3, 4))
    codes[0, :, 1] = codes[1, :, 0] = [-3, 0, 3]
    np.testing.assert_allclose(cells, shown(codes), **NEAR)
    assert facts("--traverse", "all", "--start", "prior")["units"] == [2, 3, 0, 1]


def test_many_units_are_cut_to_the_first_unless_all_are_asked_for(run, sample, monkeypatch):
    run(MODEL)
    monkeypatch.setattr("minigen.cli.latents.ROWS", 2)
    assert sample("--traverse", "--start", "prior").shape[:2] == (2, 8)
    assert sample("--traverse", "all", "--start", "prior").shape[:2] == (4, 8)


def test_the_class_of_planes_and_traversals(run, sample, facts, images):
    run(LABELLED)
    labels = [i % 3 for i in HELD]
    for words in (["--manifold", 2], ["--traverse", "0", "--start", 2]):
        np.testing.assert_allclose(sample(*words, "--classes", 1)[-1, :, 5], 1 / 4, **NEAR)
    np.testing.assert_allclose(sample("--manifold", 2)[..., 5, :], 0)
    np.testing.assert_allclose(
        sample("--traverse", "0", "--start", 2)[-1, :, 5], labels[2] / 4, **NEAR
    )


def test_reconstructions_are_below_their_images(run, sample, facts, images, monkeypatch):
    run(LABELLED)
    monkeypatch.setattr("minigen.cli.latents.A_LINE", 3)
    cells = sample("--reconstruct")  # 4 in 2 lines of 2
    assert cells.shape[:2] == (4, 2)
    above, below = cells[::2].reshape(4, 6, 6), cells[1::2].reshape(4, 6, 6)
    order = [np.abs(images - cell).max((1, 2)).argmin() for cell in above]
    assert sorted(order) == [0, 1, 2, 3]
    labels = np.array(HELD)[order] % 3
    np.testing.assert_allclose(below, shown(codes_of(images[order]), labels), **NEAR)
    assert facts("--reconstruct", "-n", 3)["n"] == 6
    seeds = [sample("--reconstruct", "-n", 1, "--seed", seed) for seed in range(9)]
    assert any(not np.array_equal(seeds[0], each) for each in seeds)


def test_the_way_between_two_images(run, sample, facts, images):
    run(LABELLED)
    cells = sample("--interpolate", "--between", "2,1", "-n", 3)
    assert cells.shape[:2] == (1, 5)
    np.testing.assert_allclose(cells[0, [0, 4]], images[[2, 1]], **NEAR)
    a, b = codes_of(images)[[2, 1]]
    expected = shown([a, (a + b) / 2, b], [2, 2, 1])  # the first's while it is not farther away
    np.testing.assert_allclose(cells[0, 1:4], expected, **NEAR)
    assert facts("--interpolate", "--between", "2,1")["n"] == 10


def test_swaps_have_contents_left_and_styles_on_top(run, sample, images):
    run(LABELLED)
    cells = sample("--swap")  # 2 of each, of 4 images
    assert cells.shape[:2] == (3, 3) and (cells[0, 0] == 1).all()
    order = [np.abs(images - cell).max((1, 2)).argmin() for cell in (*cells[1:, 0], *cells[0, 1:])]
    assert sorted(order) == [0, 1, 2, 3]
    labels = np.array(HELD)[order[:2]] % 3
    assert labels[0] != labels[1]
    codes = np.tile(codes_of(images[order[2:]]), (2, 1, 1))
    np.testing.assert_allclose(cells[1:, 1:], shown(codes, labels[:, None]), **NEAR)


def test_files_are_named_after_what_they_show(run, call):
    folder = run(LABELLED)
    for words, name in (
        (["--manifold"], "manifold-side20"),
        (["--manifold", 4, "--units", "0,1", "--start", 2], "manifold-side4-units0_1-start2"),
        (["--manifold", 4, "--classes", 2], "manifold-side4-classes2"),
        (["--traverse"], "traversal-seed0"),
        (["--traverse", "all", "-n", 3, "--seed", 2], "traversal-n3-unitsall-seed2"),
        (["--reconstruct", "-n", 3], "reconstruction-n3-seed0"),
        (["--interpolate", "--between", "0,3"], "interpolation-between0_3"),
        (["--swap", "--seed", 1], "swap-seed1"),
    ):
        code, out, err = call("sample", "run", *words)
        assert code == 0, err
        path = folder / "samples" / f"{name}-step00000005.png"
        assert out.endswith(f"{path.name}\n") and path.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--swap"], "--swap: tests.cli.fake_latent:Coded cannot swap styles"),
        (["--manifold", "1"], "--manifold is 1, expected 2 to 100"),
        (["--manifold", "-n", "4"], "--manifold with -n"),
        (["--manifold", "--seed", "0"], "--manifold with --seed: --manifold is a plane of codes"),
        (["--manifold", "--units", "1"], "got '1', expected two different numbers from 0 to 3"),
        (["--manifold", "--units", "1,1"], "--units: got '1,1', expected two different numbers"),
        (["--manifold", "--units", "1,4"], "--units: got '4', expected two different numbers"),
        (["--manifold", "--start", "4"], "--start: got '4', expected a number from 0 to 3, or pri"),
        (["--manifold", "--classes", "1"], "fake_latent:Coded is not conditional"),
        (["--manifold", "--traverse"], "--manifold with --traverse"),
        (["--traverse", "4"], "--traverse: got '4', expected numbers from 0 to 3, or all"),
        (["--traverse", "--start", "1", "--seed", "0"], "--start with --seed: --start names"),
        (["--traverse", "--units", "1,2"], "--traverse with --units"),
        (["--traverse", "-n", "1"], "-n is 1, expected at least 2"),
        (["--units", "1,2"], "--units is which plane: give it with --manifold"),
        (["--start", "1"], "--start is where to start from: give it with --manifold or --traverse"),
        (["--between", "1,2"], "--between is which images to go between: give it with --interpol"),
        (["--interpolate", "--between", "1"], "--between: got '1', expected two different"),
        (["--interpolate", "--between", "1,2", "--rows", "2"], "--between with --rows"),
        (["--interpolate", "--between", "1,2", "--seed", "2"], "--between with --seed"),
        (["--reconstruct", "-n", "5"], "labelled.npz (test) has 4; give a smaller -n"),
        (["--reconstruct", "--truncation", "1"], "--reconstruct with --truncation"),
        (["--swap", "--interpolate"], "--interpolate with --swap"),
    ],
)
def test_what_makes_no_sense_is_one_line(run, call, words, message):
    run(MODEL)
    code, out, err = call("sample", "run", *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--manifold"], "--manifold: tests.train.fake_model:Fake has no latent units"),
        (["--traverse"], "--traverse: tests.train.fake_model:Fake has no latent units"),
        (["--interpolate", "--between", "1,2"], "Fake has no latent units"),
        (["--reconstruct"], "Fake cannot reconstruct images, as VAEs can"),
    ],
)
def test_models_without_codes(run, call, words, message):
    run()
    code, out, err = call("sample", "run", *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("latent", "words", "message"),
    [
        (1, ["--manifold"], "fake_latent:Coded has 1 latent unit, a plane needs 2"),
        (2, ["--manifold", "--start", "1"], "Coded has 2 latent units, both of them the plane's"),
    ],
)
def test_codes_of_few_units(work, call, latent, words, message):
    train = ["--data", "images.npy", "--steps", 1, "--out", "run", "--set", f"latent={latent}"]
    assert call("train", MODEL, *train)[0] == 0
    code, _, err = call("sample", "run", *words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_swaps_that_the_model_refuses(run, call, work):
    run(LABELLED)
    config = work / "run" / "config.toml"
    config.write_text(config.read_text().replace("flag = false", "flag = true"))
    code, _, err = call("sample", "run", "--swap")
    assert code == 2 and err == "minigen: --swap: nothing to swap\n"


def test_a_plane_of_two_units_has_them_in_order(work, call, facts):
    train = ["--data", "images.npy", "--steps", 1, "--out", "run", "--set", "latent=2"]
    assert call("train", MODEL, *train)[0] == 0
    assert facts("--manifold", 2)["units"] == [0, 1]
