"""Convolutions that see only what comes before a place, reading an image row by row, each row from
the left: the two stacks of a gated PixelCNN (van den Oord et al. 2016b, section 2.2).

A mask would set weights to 0 and still multiply by them. Here the weights that a mask would keep
are all there is: the kernel is cut to them, and the image padded on one side.
"""

from minigen import ops
from minigen.nn.conv import Conv2d
from minigen.nn.module import Module
from minigen.random import Generator
from minigen.tensor import Tensor


class VerticalConv2d(Module):
    """(N, in, H, W) -> (N, out, H, W): a place sees `reach` rows above, in each of them its own
    column and `reach` to both sides; with `own`, as much of its own row.
    """

    def __init__(
        self, in_channels: int, out_channels: int, reach: int, *, own: bool, rng: Generator
    ):
        self.reach = _checked("VerticalConv2d", reach, own)
        size = (reach + own, 2 * reach + 1)
        self.conv = Conv2d(in_channels, out_channels, size, padding=(0, reach), rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[2]
        padded = ops.pad(x, ((0, 0), (0, 0), (self.reach, 0), (0, 0)))
        return self.conv(padded)[:, :, :rows]  # without its own row the kernel fits once more


class HorizontalConv2d(Module):
    """(N, in, H, W) -> (N, out, H, W): a place sees `reach` places to its left, and itself with
    `own`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, reach: int, *, own: bool, rng: Generator
    ):
        self.reach = _checked("HorizontalConv2d", reach, own)
        self.conv = Conv2d(in_channels, out_channels, (1, reach + own), rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.shape[3]
        padded = ops.pad(x, ((0, 0), (0, 0), (0, 0), (self.reach, 0)))
        return self.conv(padded)[:, :, :, :columns]


def _checked(name, reach, own):
    if reach < 0 or not reach + own:
        raise ValueError(f"{name}: reach is {reach}, expected at least {0 if own else 1}")
    return reach
