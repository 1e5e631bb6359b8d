"""`minigen evaluate`: the table, the file that keeps it, and the curves that come of several."""

import importlib
import json
import math

import numpy as np
import pytest

from minigen.data.catalogue import FASHION_CLASSES
from minigen.metrics import suite
from minigen.metrics.bootstrap import share_interval
from minigen.train.errors import RunError
from minigen.train.evaluations import add_evaluation, read_evaluations
from tests.cli.fake_conditional import MODEL as CONDITIONAL
from tests.cli.fake_encoder import MODEL as ENCODER
from tests.cli.fake_encoder import Encoder
from tests.train.fake_model import MODEL, Fake


class Network:
    """Features: the rows' means; classes: the brightness in quarters."""

    name = "lenet-fashion"

    def features(self, images, progress=None):
        return images.mean((1, 3))

    def predict(self, images, progress=None):
        return np.round(images[:, 0, -1, -1] * 4).astype(np.int64)


@pytest.fixture
def network(monkeypatch):
    """All data have the same feature network, a quick one."""
    monkeypatch.setattr("minigen.metrics.features.default_features", lambda *shape: Network.name)
    monkeypatch.setattr("minigen.metrics.features.feature_network", lambda name, device: Network())


@pytest.fixture
def train(work, call, network):
    """train(model): the folder of a short run on 600 images, 60 of them held out."""

    def train(model=MODEL):
        images = np.random.default_rng(0).integers(0, 256, (600, 12, 12), dtype=np.uint8)
        np.save(work / "images.npy", images)
        words = ["--data", "images.npy", "--steps", 4, "--out", "run"]
        code, _, err = call("train", model, *words)
        assert code == 0, err
        return work / "run"

    return train


def kept(run):
    return json.loads((run / "evaluation.json").read_text())["evaluations"]


QUICK = ("--metrics", "precision-recall,losses")


def test_everything_that_fits_in_a_table_and_as_json(train, call):
    run = train()
    code, out, err = call("evaluate", "run", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {"frechet-lenet", "frechet-lenet-of-real", "kernel-distance-lenet", "precision",
            "recall", "density", "coverage", "sliced-wasserstein", "ms-ssim", "copies",
            "mean"} <= set(found)  # fmt: skip
    assert all(each.keys() == {"value", "low", "high"} for each in found.values())
    assert found["sliced-wasserstein"]["low"] is None  # NaN is no JSON
    assert "60 images of" in err and "from 60 samples and 60 held-out images" in err
    (record,) = kept(run)
    assert record["metrics"] == found
    assert (record["step"], record["images"], record["samples"]) == (4, 60, 60)
    assert record["features"] == "lenet-fashion" and record["seed"] == 0
    code, out, _ = call("evaluate", "run")
    assert code == 0 and "frechet-lenet-of-real" in out and "95% confidence interval" in out
    assert kept(run) == [record]  # the same seed, the same numbers


def test_chosen_metrics_and_samples(train, call, monkeypatch):
    run = train()
    code, out, _ = call("evaluate", "run", *QUICK, "-n", 90, "--json")
    assert code == 0 and list(json.loads(out)) == ["precision", "recall", "mean"]
    assert kept(run)[0]["samples"] == 90

    def refuse(*args):
        raise AssertionError("no samples are asked for")

    monkeypatch.setattr(Fake, "sample", refuse)
    code, out, err = call("evaluate", "run", "--metrics", "losses", "--json")
    assert code == 0 and list(json.loads(out)) == ["mean"], err


def test_evaluations_of_several_steps_make_curves(train, call):
    run = train()
    assert call("evaluate", "run", *QUICK)[0] == 0
    assert "precision</text>" not in (run / "report.html").read_text()
    assert call("train", "--resume", "run", "--steps", 6)[0] == 0
    assert call("evaluate", "run", *QUICK)[0] == 0
    assert [each["step"] for each in kept(run)] == [4, 6]
    page = (run / "report.html").read_text()
    assert "precision</text>" in page and "On images not trained on, at step 6" in page
    # what was measured of another number of samples is no point of the same curve
    assert call("train", "--resume", "run", "--steps", 8)[0] == 0
    assert call("evaluate", "run", *QUICK, "-n", 40)[0] == 0
    assert "precision</text>" not in (run / "report.html").read_text()


def test_more_metrics_of_the_same_step_are_added(train, call):
    run = train()
    assert call("evaluate", "run", "--metrics", "precision-recall")[0] == 0
    assert call("evaluate", "run", "--metrics", "losses")[0] == 0
    (record,) = kept(run)
    assert list(record["metrics"]) == ["precision", "recall", "mean"]
    assert record["samples"] == 60 and record["features"] == "lenet-fashion"


def test_evaluations_made_otherwise_are_kept_beside_each_other(train, call):
    run = train()
    assert call("evaluate", "run", *QUICK)[0] == 0
    (full,) = kept(run)
    assert call("evaluate", "run", *QUICK, "-n", 40)[0] == 0
    assert call("evaluate", "run", "--metrics", "losses", "--seed", 1)[0] == 0
    assert full in kept(run)
    assert sorted((each["samples"] or 0, each["seed"]) for each in kept(run)) == [
        (0, 1), (40, 0), (60, 0),
    ]  # fmt: skip
    # the report shows the fullest, and no curve through two of the same step
    shown = full["metrics"]["precision"]["value"]
    page = (run / "report.html").read_text()
    assert f"<th>precision</th><td>{shown:.6g} (" in page
    assert call("evaluate", "run", *QUICK, "--seed", 1)[0] == 0
    assert "precision</text>" not in (run / "report.html").read_text()
    # what no samples are made for completes the fullest of its seed
    assert call("evaluate", "run", "--metrics", "losses", "-n", 40)[0] == 0
    assert len(kept(run)) == 3 and full in kept(run)


def test_a_conditional_model_is_asked_for_all_classes(work, call, network):
    labels = np.arange(600) % 3
    np.savez(work / "data.npz", x_train=np.zeros((600, 12, 12), np.uint8), y_train=labels,
             x_test=np.zeros((60, 12, 12), np.uint8), y_test=labels[:60])  # fmt: skip
    words = ["--data", "data.npz", "--steps", 1, "--out", "run"]
    assert call("train", CONDITIONAL, *words)[0] == 0
    code, _, err = call("evaluate", "run", "--metrics", "classes")
    assert code == 2 and "lenet-fashion does not know the classes" in err


def test_class_accuracy(work, call, network, monkeypatch):
    from minigen.data import Dataset

    np.savez(work / "data.npz", x=np.zeros((600, 12, 12), np.uint8), y=np.arange(600) % 3)
    words = ["--data", "data.npz", "--steps", 4, "--out", "run"]
    assert call("train", CONDITIONAL, *words)[0] == 0
    data = Dataset(np.zeros((60, 1, 12, 12), np.uint8), np.zeros(60, np.int64), name="clothes",
                   classes=FASHION_CLASSES)  # fmt: skip
    monkeypatch.setattr("minigen.train.build.open_data", lambda config, split: data)
    code, out, err = call("evaluate", "run", "--metrics", "classes", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["class-accuracy"]["value"] == 1 and found["class-accuracy"]["low"] < 1
    assert found["class-accuracy-of-real"]["value"] == 1
    assert found["classes-reached"]["value"] == 3
    assert kept(work / "run")[0]["data"] == "clothes"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "frechett"], "--metrics: no metric 'frechett'; did you mean 'frechet'?"),
        (["--metrics", "ms-ssim,"], "--metrics: no metric ''"),
        (["--features", "lenet-mist"], "no network 'lenet-mist'; did you mean 'lenet-mnist'?"),
        (["-n", "1"], "-n is 1, expected at least 2"),
        (["-n", "30", "--metrics", "frechet"], "frechet: there are 30 images in a set, expected"),
    ],
)
def test_what_makes_no_sense_is_one_line(train, call, words, message):
    train()
    code, out, err = call("evaluate", "run", "--json", *words)
    assert code == 2 and out == "" and message in err
    assert err.splitlines()[-1].startswith("minigen: ")


def test_colour_without_imported_weights_gives_the_rest(work, call, monkeypatch, tmp_path):
    monkeypatch.setattr("minigen.pretrained.path", lambda name: tmp_path / name)
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    np.save(work / "images.npy", images)
    assert call("train", MODEL, "--data", "images.npy", "--steps", 1, "--out", "run")[0] == 0
    code, out, err = call("evaluate", "run")
    assert code == 0, err
    assert "minigen weights import squeezenet" in out and "sliced-wasserstein" in out
    assert "without frechet, kernel-distance" in out and "there is no feature network" in out
    code, _, err = call("evaluate", "run", "--features", "squeezenet")
    assert code == 2 and "minigen weights import squeezenet" in err


def test_samples_that_are_not_finite(train, call, monkeypatch):
    train()
    monkeypatch.setattr(Fake, "sample", lambda self, n, rng: np.full((n, 1, 12, 12), np.nan))
    code, _, err = call("evaluate", "run")
    assert code == 1 and "60 of 60 samples of step 4 hold NaN or infinity" in err


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_stops_the_work_leaves_the_old_evaluation(train, call, monkeypatch, error):
    run = train()
    assert call("evaluate", "run", *QUICK)[0] == 0
    before = (run / "evaluation.json").read_bytes(), (run / "report.html").read_bytes()

    def stopped(*args, **options):
        raise error

    monkeypatch.setattr(suite, "precision_recall_of", stopped)
    code, out, _ = call("evaluate", "run", *QUICK, "--seed", 3)
    assert code == (130 if error is KeyboardInterrupt else 1) and "precision" not in out
    assert before == ((run / "evaluation.json").read_bytes(), (run / "report.html").read_bytes())


def test_a_damaged_file_is_told_before_the_work(train, call, monkeypatch):
    run = train()
    (run / "evaluation.json").write_text('{"evaluations": [{"step": 4}]}')
    monkeypatch.setattr(Fake, "sample", None)
    code, _, err = call("evaluate", "run")
    assert code == 1 and "evaluation.json: damaged (KeyError('metrics')); remove it" in err


def test_the_file_of_evaluations(tmp_path):
    path = tmp_path / "evaluation.json"
    assert read_evaluations(path) == []
    one = {"value": 1.0, "low": math.nan, "high": 2.0}
    for step in (20, 10):
        add_evaluation(path, {"step": step, "seed": 0, "metrics": {"a": one}})
    add_evaluation(path, {"step": 20, "seed": 0, "metrics": {"b": one}})
    first, second = read_evaluations(path)
    assert (first["step"], second["step"]) == (10, 20)
    assert list(first["metrics"]) == ["a"] and list(second["metrics"]) == ["a", "b"]
    assert math.isnan(first["metrics"]["a"]["low"]) and first["metrics"]["a"]["high"] == 2
    for samples in (60, 40):  # read in the order of their numbers
        add_evaluation(path, {"step": 30, "samples": samples, "seed": 0, "metrics": {"a": one}})
    assert [each["samples"] for each in read_evaluations(path)[2:]] == [40, 60]
    with pytest.raises(RunError, match="cannot be written"):
        add_evaluation(tmp_path / "none" / "evaluation.json", {"step": 1, "metrics": {}})


def test_a_model_that_makes_no_new_images_has_losses_alone(train, call, monkeypatch):
    run = train()
    monkeypatch.setattr(Fake, "generates", False, raising=False)
    monkeypatch.setattr(Fake, "sample", None)
    code, out, err = call("evaluate", "run", "--json")
    assert code == 0 and list(json.loads(out)) == ["mean"], err
    assert kept(run)[0]["samples"] is None
    code, out, err = call("evaluate", "run", "--metrics", "losses,ms-ssim")
    assert code == 2 and "--metrics ms-ssim: is of new images" in err and "makes none" in err
    for words in (("-n", 5), ("--features", "lenet-mnist")):
        code, out, err = call("evaluate", "run", *words)
        assert code == 2 and f"{words[0]}: is of new images" in err and "leave it out" in err


# models with codes, as VAEs ----------------------------------------------------------------------


@pytest.fixture
def encoder(train):
    return train(ENCODER)


def test_reconstructions_are_measured_unasked(encoder, call):
    code, out, err = call("evaluate", "run", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["reconstruction-psnr"]["value"] == pytest.approx(20, abs=1e-4)  # off by 0.1
    assert 0 < found["reconstruction-ssim"]["low"] < found["reconstruction-ssim"]["value"] < 1
    assert {"mean", "frechet-lenet"} <= set(found)
    assert not any("likelihood" in name or name == "mig" for name in found)
    code, out, err = call("evaluate", "run", "--metrics", "reconstruction", "--json")
    assert code == 0, err
    assert {name: found[name] for name in json.loads(out)} == json.loads(out)
    (record,) = kept(encoder)
    assert record["samples"] == 60 and record["metrics"] == found


def test_what_comes_back_equal_has_60_db(encoder, call, monkeypatch):
    monkeypatch.setattr("tests.cli.fake_encoder.OFF", 0)
    code, out, err = call("evaluate", "run", "--metrics", "reconstruction", "--json")
    assert code == 0, err
    assert json.loads(out)["reconstruction-psnr"] == {"value": 60, "low": 60, "high": 60}


def test_likelihood_is_estimated_when_asked(encoder, call):
    words = ("evaluate", "run", "--metrics", "log-likelihood", "--json")
    code, out, err = call(*words)
    assert code == 0, err
    found = json.loads(out)
    assert Encoder.asked == (60, 500)
    assert list(found) == [
        "log-likelihood-k500", "log-likelihood-k500-bits-per-dimension",
        "log-likelihood-k500-standard-error",
    ]  # fmt: skip
    nats, bits, error = found.values()
    assert -50.1 < nats["low"] < nats["value"] < nats["high"] < -49.9
    assert bits["value"] == pytest.approx(-nats["value"] / 100)
    assert bits["low"] == pytest.approx(-nats["high"] / 100) and bits["low"] < bits["high"]
    assert error["value"] == pytest.approx(10 / 500) and "take more" not in err
    assert kept(encoder)[0]["samples"] is None
    code, out, err = call(*words, "-k", 20, "--images", 7)
    assert code == 0 and Encoder.asked == (7, 20)
    assert "log-likelihood-k20: the estimate of an image is 0.5 nats off" in err
    (record,) = kept(encoder)  # estimates with other k stand beside each other
    assert {"log-likelihood-k500", "log-likelihood-k20"} <= set(record["metrics"])


@pytest.mark.parametrize("trees", [True, False])
def test_disentanglement_where_factors_are_known(work, call, network, monkeypatch, trees):
    from minigen.data import Dataset
    from minigen.metrics import encoded

    module = importlib.import_module("minigen.metrics.disentanglement")
    factors = np.indices((3, 4)).reshape(2, -1).T[np.random.default_rng(0).permutation(120) % 12]
    images = np.zeros((120, 1, 12, 12), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 11, 11] = 60 * factors.T
    data = Dataset(images, name="dots", factors=factors, factor_names=("a", "b"))
    words = ["--data", "photos", "--steps", 1, "--out", "run"]
    monkeypatch.setattr("minigen.train.build.load", lambda *spec, **options: data)
    assert call("train", ENCODER, *words)[0] == 0
    known = lambda codes, factors, **more: {"completeness": share_interval(0.5, 9)}
    monkeypatch.setattr(module, "dci", known)
    for place in (module, encoded):
        monkeypatch.setattr(place, "has_trees", lambda: trees)
    code, out, err = call(
        "evaluate", "run", "--metrics", "disentanglement,reconstruction", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["mig"]["value"] == pytest.approx(1) and found["factor-vae"]["value"] == 1
    assert ("dci-completeness" in found) == trees
    assert (
        "without dci: scikit-learn is not installed; pip install 'minigen[metrics]'" in err
    ) != trees
    code, out, err = call("evaluate", "run", "--json")
    assert code == 0 and json.loads(out)["mig"] == found["mig"]


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (MODEL, ["--metrics", "reconstruction"], "reconstruction: the model cannot reconstruct"),
        (MODEL, ["--metrics", "log-likelihood"], "log-likelihood: the model has no likelihood"),
        (MODEL, ["--metrics", "log-likelyhood"], "did you mean 'log-likelihood'?"),
        ("encoder", ["--metrics", "disentanglement"], "are not known, as those of `shapes` are"),
        ("encoder", ["-k", "50"], "-k is of the likelihood: give it with --metrics log-likelihood"),
        ("encoder", ["--images", "50", "--metrics", "losses"], "--images is of the likelihood"),
        ("encoder", ["-k", "1", "--metrics", "log-likelihood"], "-k is 1, expected at least 2"),
    ],
)
def test_what_codes_cannot_tell_is_one_line(train, call, model, words, message):
    train(ENCODER if model == "encoder" else model)
    code, out, err = call("evaluate", "run", "--json", *words)
    assert code == 2 and out == "" and message in err
    assert err.splitlines()[-1].startswith("minigen: ")
