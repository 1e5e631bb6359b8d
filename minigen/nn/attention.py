"""Self-attention of images: a position takes from all others what resembles what it asks for."""

import numpy as np

from minigen import ops
from minigen.nn.conv import Conv2d
from minigen.nn.module import Module
from minigen.random import Generator
from minigen.tensor import Tensor


class SelfAttention2d(Module):
    """(N, C, H, W) -> x + gamma * attention(x), the same shape (Zhang et al. 2018, section 3).

    1x1 convolutions without bias make queries and keys of C/8 channels and values of C/2; keys and
    values are max-pooled to half the height and width, as Brock et al. (2018) do. `gamma` starts
    at 0: the network learns what is near first. Raises ValueError for images of less than 2x2.
    """

    def __init__(self, channels: int, *, rng: Generator):
        self.channels = channels
        asked, told = max(channels // 8, 1), max(channels // 2, 1)
        self.query = Conv2d(channels, asked, 1, bias=False, rng=rng)
        self.key = Conv2d(channels, asked, 1, bias=False, rng=rng)
        self.value = Conv2d(channels, told, 1, bias=False, rng=rng)
        self.output = Conv2d(told, channels, 1, bias=False, rng=rng)
        self.gamma = Tensor(np.zeros((), np.float32))
        self.gamma.requires_grad = True

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        if min(height, width) < 2:
            raise ValueError(f"SelfAttention2d: image is {height}x{width}, expected at least 2x2")
        query = _positions(self.query(x))
        key = _positions(ops.max_pool2d(self.key(x), 2))
        value = _positions(ops.max_pool2d(self.value(x), 2))
        weights = ops.softmax(ops.matmul(query, ops.matrix_transpose(key)), -1)
        taken = ops.reshape(ops.matmul(weights, value), (n, height, width, -1))
        return x + self.gamma * self.output(ops.transpose(taken, (0, 3, 1, 2)))

    def extra_repr(self) -> str:
        return f"{self.channels}"


def _positions(x):
    """(N, C, H, W) as (N, H W, C): a view of what is channels-last in memory."""
    n, c, h, w = x.shape
    return ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (n, h * w, c))
