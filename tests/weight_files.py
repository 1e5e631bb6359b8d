"""Small files of weights as the packages and torchvision have them, for networks made small."""

import dataclasses
import io
import pickle
import tarfile

import numpy as np
import pytest

from minigen import kernels, pretrained
from minigen.files import sha256
from minigen.nn.perceptual import VGG16, SqueezeNet
from minigen.random import Generator


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """{name: (a network, the archive of its weights as the package has them)}; a cache of its own.

    VGG16 has one convolution a block here, SqueezeNet fires of 2 and 3 channels.
    """
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(VGG16, "blocks", ((2,), (3,), (4,), (5,), (6,)))
    monkeypatch.setattr(SqueezeNet, "fires", tuple((2, 3) for _ in SqueezeNet.fires))
    found = {}
    with kernels.use("reference"):
        for name, pack in (("squeezenet", as_ndf), ("vgg16", as_flax)):
            source = pretrained.SOURCES[name]
            network = source.network(rng=Generator(1))
            for tensor in network.parameters():  # biases too
                tensor.data[...] = np.random.default_rng(0).normal(size=tensor.shape)
            content = pickle.dumps(pack(network), protocol=2)
            archive = tmp_path / source.archive
            archive.write_bytes(packed(f"package{source.member}", content))
            fake = dataclasses.replace(
                source, archive_sha256=sha256(archive.read_bytes()), pickle_sha256=sha256(content)
            )
            monkeypatch.setitem(pretrained.SOURCES, name, fake)
            (tmp_path / f"{name}.pkl").write_bytes(content)
            found[name] = network, archive
        yield found


def packed(name, content):
    """A .tar.gz of one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def layer(conv):
    """(kernel (h, w, in, out), bias)."""
    return conv.weight.numpy().transpose(2, 3, 1, 0).copy(), conv.bias.numpy().copy()


def as_flax(network):
    layers = {
        f"Conv_{i}": dict(zip(("kernel", "bias"), layer(conv), strict=True))
        for i, conv in enumerate(network.convolutions)
    }
    return {"VGG16_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones(2, np.float32)}}}


def as_ndf(network):
    kernel, bias = layer(network.conv1)
    found = {"conv1": [kernel[:, :, ::-1].copy(), bias]}  # blue first
    for number, fire in enumerate(network.fire, 2):
        found[f"fire{number}/squeeze1x1"] = list(layer(fire.squeeze))
        found[f"fire{number}/expand1x1"] = list(layer(fire.expand1x1))
        found[f"fire{number}/expand3x3"] = list(layer(fire.expand3x3))
    return {**found, "conv10": [np.ones((1, 1, 6, 4), np.float32), np.ones(4, np.float32)]}


def as_torchvision(network):
    """A state dict with the numbers of torchvision's layers, classifier and all."""
    state = {}
    if isinstance(network, VGG16):
        numbered = {3 * i: conv for i, conv in enumerate(network.convolutions)}
    else:
        numbers = (3, 4, 6, 7, 9, 10, 11, 12)
        numbered = {0: network.conv1, **dict(zip(numbers, network.fire, strict=True))}
    for number, module in numbered.items():
        for name, array in module.state_dict().items():
            state[f"features.{number}.{name}"] = array.copy()
    return {**state, "classifier.1.weight": np.ones((4, 6), np.float32)}
