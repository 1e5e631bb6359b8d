"""LeNet: the small classifier of 28x28 grey images in whose features the distances are measured.

Its weights lie in `weights/`, made by minigen itself (`weights/make.py`).
"""

from itertools import pairwise
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor

SIZE = 28  # height and width that it was trained on
WIDTHS = (32, 64, 64)
FEATURES = 128


class LeNet(nn.Module):
    """Grey images (N, 1, 28, 28) in [0, 1] -> logits (N, 10), after LeCun et al. (1998).

    Three convolutions 3x3 of 32, 64 and 64 channels, each with relu and max pooling by 2, then a
    dense layer of 128 with relu, whose values are the features. It is trained with batch norm and
    dropout (`for_training`); `folded` gives the same function without them, which is what ships.
    """

    def __init__(self, *, for_training: bool = False, rng: Generator):
        layers: list[nn.Module] = []
        before = 1
        for width in WIDTHS:
            layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not for_training, rng=rng))
            layers += [nn.BatchNorm2d(width)] if for_training else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Linear(before * (SIZE // 2 ** len(WIDTHS)) ** 2, FEATURES, rng=rng)
        self.dropout = nn.Dropout(0.3, rng=rng) if for_training else nn.Identity()
        self.head = nn.Linear(FEATURES, 10, rng=rng)

    def features(self, images: Tensor) -> Tensor:
        """What the classes are told from: (N, 128), at least 0."""
        return mg.relu(self.dense(self.convolutions(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images)))

    def folded(self) -> "LeNet":
        """The same function in evaluation, batch norm multiplied into the convolutions.

        scale (w * x - mean) + shift = (scale w) * x + (shift - scale mean), where scale is
        weight / sqrt(var + eps).
        """
        plain = LeNet(rng=Generator(0))
        pairs: list[tuple[Any, Any]] = [
            pair for pair in pairwise(self.convolutions) if isinstance(pair[1], nn.BatchNorm2d)
        ]
        targets = [layer for layer in plain.convolutions if isinstance(layer, nn.Conv2d)]
        for target, (conv, norm) in zip(targets, pairs, strict=True):
            scale = _numpy(norm.weight) / np.sqrt(_numpy(norm.running_var) + norm.eps)
            weight = _numpy(conv.weight) * scale[:, None, None, None]
            bias = _numpy(norm.bias) - scale * _numpy(norm.running_mean)
            target.load_state_dict({"weight": weight, "bias": bias})
        plain.dense.load_state_dict(self.dense.state_dict())
        plain.head.load_state_dict(self.head.state_dict())
        return plain.eval()


def _numpy(values: Any) -> np.ndarray:
    return values.numpy().astype(np.float64)
