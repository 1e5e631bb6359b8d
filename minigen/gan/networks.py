"""The networks that GANs are put together from: `NETWORKS`, each a generator and a discriminator.

A discriminator is a body, which makes feature maps (N, F, h, w), and a head, which makes one
decision (N, 1) of them. Options say what normalises the discriminator, and how labels come in.
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
Layers = list[nn.Module]

# image size -> how often `dcgan` halves it; 28 ends at 7x7, the others at 4x4
UPSAMPLINGS = {28: 2, 32: 3, 64: 4, 128: 5}


def make_generator(options: Any, image_shape: Shape, *, rng: Generator) -> nn.Module:
    """The generator that the options name: z (N, latent), and labels (N,), -> (N, C, H, W)."""
    build, _ = NETWORKS[options.network]
    if options.conditional == "none":
        return build(options, options.latent, image_shape, rng)
    network = build(options, 2 * options.latent, image_shape, rng)
    return LabelledGenerator(network, options.classes, options.latent, rng=rng)


def make_discriminator(options: Any, image_shape: Shape, *, rng: Generator) -> nn.Module:
    """The discriminator that the options name: packs (N, packing C, H, W), and labels (N,), -> (N,
    1).
    """
    _, build = NETWORKS[options.network]
    channels = image_shape[0] * options.packing + (options.conditional == "embedding")
    body, features, head = build(options, (channels, *image_shape[1:]), rng)
    network: nn.Module = nn.Sequential(*body, *head)
    if options.conditional == "projection":
        body, head = nn.Sequential(*body), nn.Sequential(*head)
        network = ProjectionDiscriminator(body, head, features, options.classes, rng=rng)
    elif options.conditional == "embedding":
        network = LabelledDiscriminator(network, options.classes, image_shape[1:], rng=rng)
    return nn.spectral_norm(network) if options.spectral_norm else network


# dense: the small networks of the first GAN ------------------------------------------------------


def dense_generator(options: Any, inputs: int, image_shape: Shape, rng: Generator) -> nn.Sequential:
    """Dense layers of 4, 8 and 8 times `channels` (256, 512, 512), relu, then the pixels, tanh."""
    sizes = [inputs, *(options.channels * n for n in (4, 8, 8))]
    layers: Layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, rng=rng), nn.ReLU()]
    pixels = int(np.prod(image_shape))
    layers += [nn.Linear(sizes[-1], pixels, rng=rng), nn.Tanh(), nn.Reshape(*image_shape)]
    return nn.Sequential(*layers)


def dense_discriminator(
    options: Any, image_shape: Shape, rng: Generator
) -> tuple[Layers, int, Layers]:
    """Convolutions 3x3 of 1, 2, 4 times `channels` at stride 2 and 8 times at stride 1, relu; dense
    1.
    """
    channels, height, width = image_shape
    body: Layers = []
    for factor, stride in ((1, 2), (2, 2), (4, 2), (8, 1)):
        out = options.channels * factor
        conv = nn.Conv2d(channels, out, 3, stride, 1, bias=_biased(options), rng=rng)
        body += _normalized(conv, options, 0.0)
        channels, height, width = out, -(-height // stride), -(-width // stride)
    channels += _spread_seen(body, options)
    head = nn.Linear(channels * height * width, 1, rng=rng)
    return body, channels, [nn.Flatten(), head]


# dcgan: Radford et al. 2015, section 3 -----------------------------------------------------------


def dcgan_generator(options: Any, inputs: int, image_shape: Shape, rng: Generator) -> nn.Sequential:
    """z -> 1x1 -> 4x4 (7x7 for 28) -> twice the size a layer; batch norm, relu; tanh at the end."""
    colours, size, ups = square_size("dcgan", image_shape)
    width = options.channels * 2 ** (ups - 1)
    layers: Layers = [
        nn.Reshape(inputs, 1, 1),
        nn.ConvTranspose2d(inputs, width, size >> ups, 1, 0, bias=False, rng=rng),
        nn.BatchNorm2d(width, negative_slope=0.0),
    ]
    for _ in range(ups - 1):
        layers += [
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False, rng=rng),
            nn.BatchNorm2d(width // 2, negative_slope=0.0),
        ]
        width //= 2
    layers += [nn.ConvTranspose2d(width, colours, 4, 2, 1, bias=False, rng=rng), nn.Tanh()]
    return begin(nn.Sequential(*layers), rng=rng)


def dcgan_discriminator(
    options: Any, image_shape: Shape, rng: Generator
) -> tuple[Layers, int, Layers]:
    """The generator mirrored: half the size a layer, leaky relu 0.2, no normalisation of the first;
    4x4 (7x7) -> one decision.
    """
    colours, size, ups = square_size("dcgan", image_shape)
    width, biased = options.channels, _biased(options)
    first = nn.Conv2d(colours, width, 4, 2, 1, bias=biased, rng=rng)
    body: Layers = [first, nn.LeakyReLU(0.2)]
    for _ in range(ups - 1):
        conv = nn.Conv2d(width, width * 2, 4, 2, 1, bias=biased, rng=rng)
        body += _normalized(conv, options, 0.2)
        width *= 2
    width += _spread_seen(body, options)
    head = nn.Conv2d(width, 1, size >> ups, 1, 0, bias=False, rng=rng)
    for layer in (*body, head):
        begin(layer, rng=rng)
    return body, width, [head, nn.Flatten()]


def begin(network: nn.Module, *, rng: Generator) -> Any:
    """Convolutions' weights from N(0, 0.02^2), batch norm's from N(1, 0.02^2).

    Returns the network. Biases stay 0. Radford et al. 2015, section 3; the scale around 1 is that
    of their code.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02, rng=rng)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, 0.02, rng=rng)
    return network


NETWORKS: dict[str, tuple[Callable[..., nn.Sequential], Callable[..., Any]]] = {
    "dense": (dense_generator, dense_discriminator),
    "dcgan": (dcgan_generator, dcgan_discriminator),
}


# what the options say of a discriminator's layers ------------------------------------------------


def _normalized(conv: nn.Conv2d, options: Any, slope: float) -> Layers:
    """The convolution, what normalises it, and the (leaky) relu, fused where that can be."""
    width = conv.out_channels
    if options.normalization == "batch":
        return [conv, nn.BatchNorm2d(width, negative_slope=slope)]
    norms: dict[str, Callable[[], Layers]] = {
        "none": lambda: [],
        "layer": lambda: [nn.GroupNorm(1, width)],  # over C, H, W, with a gain a channel
        "instance": lambda: [nn.InstanceNorm2d(width, affine=True)],
    }
    return [conv, *norms[options.normalization](), nn.LeakyReLU(slope)]


def _biased(options: Any) -> bool:
    return options.normalization == "none"  # norms have a bias of their own


def _spread_seen(body: Layers, options: Any) -> int:
    """Append minibatch standard deviation where asked for; how many channels it adds."""
    if options.minibatch_stddev:
        body.append(nn.MinibatchStddev())
    return int(options.minibatch_stddev)


def square_size(model: str, image_shape: Shape) -> tuple[int, int, int]:
    """(channels, size, number of halvings); ValueError for images that are not of UPSAMPLINGS."""
    colours, height, width = image_shape
    if height != width or height not in UPSAMPLINGS:
        sizes = ", ".join(map(str, UPSAMPLINGS))
        raise ValueError(f"{model}: images are {height}x{width}, expected squares of {sizes}")
    return colours, height, UPSAMPLINGS[height]


# labels ------------------------------------------------------------------------------------------


class LabelledGenerator(nn.Module):
    """A generator of noise beside a learnt vector of the class (Mirza & Osindero 2014)."""

    def __init__(self, network: nn.Module, classes: int, size: int, *, rng: Generator):
        self.network = network
        self.embedding = nn.Embedding(classes, size, rng=rng)
        nn.init.normal_(self.embedding.weight, 0.0, 0.1, rng=rng)  # the noise is what counts first

    def forward(self, z: Tensor, labels: Any) -> Tensor:
        return self.network(mg.concatenate([z, self.embedding(labels)], axis=1))


class LabelledDiscriminator(nn.Module):
    """A discriminator of images beside a learnt map (1, H, W) of the class (Mirza & Osindero
    2014).
    """

    def __init__(self, network: nn.Module, classes: int, size: tuple, *, rng: Generator):
        self.network, self.size = network, tuple(size)
        self.embedding = nn.Embedding(classes, int(np.prod(size)), rng=rng)

    def forward(self, x: Tensor, labels: Any) -> Tensor:
        maps = self.embedding(labels).reshape((-1, 1, *self.size))
        return self.network(mg.concatenate([x, maps], axis=1))


class ProjectionDiscriminator(nn.Module):
    """head(f) + <v_y, sum of f over the image>, with features f and a learnt vector v_y of the
    class (Miyato & Koyama 2018, eq. 3).
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, features: int, classes: int, *, rng: Generator
    ):
        self.body, self.head = body, head
        self.embedding = nn.Embedding(classes, features, rng=rng)
        nn.init.normal_(self.embedding.weight, 0.0, 0.02, rng=rng)  # classes begin alike

    def forward(self, x: Tensor, labels: Any) -> Tensor:
        features = self.body(x)
        likeness = (self.embedding(labels) * features.sum((2, 3))).sum(1, keepdims=True)
        return self.head(features) + likeness
