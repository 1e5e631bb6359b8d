"""The networks of VAEs: an encoder, images (N, C, H, W) -> (N, outputs), and a decoder, codes (N,
latent) -> maps (N, C, H, W), for each name in NETWORKS; and how labels come into both.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor

Shape = tuple[int, ...]  # (C, H, W)
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
SMALLEST = 7  # pixels down to which `conv` halves images
HIDDEN = 256  # of the dense layer between maps and codes


def make_encoder(options: Any, shape: Shape, outputs: int, *, rng: Generator) -> nn.Module:
    """Images of `shape`, and labels if conditional, -> (N, outputs)."""
    build, _ = NETWORKS[options.network]
    if options.conditional == "none":
        return build(options, shape, outputs, rng)
    network = build(options, (shape[0] + 1, *shape[1:]), outputs, rng)
    return LabelledEncoder(network, options.classes, shape[1:], rng=rng)


def make_decoder(options: Any, inputs: int, shape: Shape, *, rng: Generator) -> nn.Module:
    """Codes (N, inputs), and labels if conditional, -> maps of `shape`."""
    _, build = NETWORKS[options.network]
    if options.conditional == "none":
        return build(options, inputs, shape, rng)
    network = build(options, inputs + options.classes, shape, rng)
    return LabelledDecoder(network, options.classes, rng=rng)


# dense -------------------------------------------------------------------------------------------


def dense_encoder(options: Any, shape: Shape, outputs: int, rng: Generator) -> nn.Sequential:
    """Dense layers of the sizes in `encoder`, the activation between them."""
    layers = dense(int(np.prod(shape)), *options.encoder, outputs, options=options, rng=rng)
    return nn.Sequential(nn.Flatten(), *layers)


def dense_decoder(options: Any, inputs: int, shape: Shape, rng: Generator) -> nn.Sequential:
    """Dense layers of the sizes in `decoder`, the activation between them."""
    layers = dense(inputs, *options.decoder, int(np.prod(shape)), options=options, rng=rng)
    return nn.Sequential(*layers, nn.Reshape(*shape))


def dense(*sizes: int, options: Any, rng: Generator) -> list[nn.Module]:
    """Linear layers of the given sizes with the options' activation between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, rng=rng), ACTIVATIONS[options.activation]()]
    return layers[:-1]


# conv --------------------------------------------------------------------------------------------


def conv_encoder(options: Any, shape: Shape, outputs: int, rng: Generator) -> nn.Sequential:
    """Convolutions 4x4 that halve the image while it is even and larger than SMALLEST, with
    `channels` maps and twice as many each time; a dense layer of HIDDEN; the activation between.
    """
    act, halvings = ACTIVATIONS[options.activation], halvings_of(shape)
    channels, width = shape[0], options.channels
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [nn.Conv2d(channels, width, 4, 2, 1, rng=rng), act()]
        channels, width = width, width * 2
    numbers = channels * (shape[1] >> halvings) * (shape[2] >> halvings)
    layers += [nn.Flatten(), nn.Linear(numbers, HIDDEN, rng=rng), act()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, outputs, rng=rng))


def conv_decoder(options: Any, inputs: int, shape: Shape, rng: Generator) -> nn.Sequential:
    """The encoder mirrored, with transposed convolutions."""
    act, halvings = ACTIVATIONS[options.activation], halvings_of(shape)
    width = options.channels * 2 ** (halvings - 1)
    small = (width, shape[1] >> halvings, shape[2] >> halvings)
    layers: list[nn.Module] = [nn.Linear(inputs, HIDDEN, rng=rng), act()]
    layers += [nn.Linear(HIDDEN, int(np.prod(small)), rng=rng), act(), nn.Reshape(*small)]
    for _ in range(halvings - 1):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, rng=rng), act()]
        width //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, shape[0], 4, 2, 1, rng=rng))


def halvings_of(shape: Shape) -> int:
    """How often `conv` halves images of a shape; ValueError where it cannot even once."""
    _, height, width = shape
    count = 0
    while height % 2 == width % 2 == 0 and min(height, width) > SMALLEST:
        height, width, count = height // 2, width // 2, count + 1
    if not count:
        raise ValueError(
            f"network=conv: images are {shape[1]}x{shape[2]}, expected even sizes from"
            f" {SMALLEST + 1} pixels; --set data.image_size=32 resizes them, network=dense takes"
            " any"
        )
    return count


NETWORKS: dict[str, tuple[Callable[..., nn.Sequential], Callable[..., nn.Sequential]]] = {
    "dense": (dense_encoder, dense_decoder),
    "conv": (conv_encoder, conv_decoder),
}


# labels ------------------------------------------------------------------------------------------


class LabelledEncoder(nn.Module):
    """An encoder of images beside a learnt map (1, H, W) of the class."""

    def __init__(self, network: nn.Module, classes: int, size: Shape, *, rng: Generator):
        self.network, self.size = network, tuple(size)
        self.embedding = nn.Embedding(classes, int(np.prod(size)), rng=rng)

    def forward(self, x: Tensor, labels: Any) -> Tensor:
        maps = self.embedding(labels).reshape((-1, 1, *self.size))
        return self.network(mg.concatenate([x, maps], axis=1))


class LabelledDecoder(nn.Module):
    """A decoder of codes beside a learnt vector of the class, with a number a class."""

    def __init__(self, network: nn.Module, classes: int, *, rng: Generator):
        self.network = network
        self.embedding = nn.Embedding(classes, classes, rng=rng)

    def forward(self, z: Tensor, labels: Any) -> Tensor:
        return self.network(mg.concatenate([z, self.embedding(labels)], axis=1))
