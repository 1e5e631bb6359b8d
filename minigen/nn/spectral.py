"""Spectral normalisation of layers, and the penalty on filters that are not orthogonal.

What a convolution's weight is as a matrix: a row for each output channel, whose columns are all
that the channel is a sum of.
"""

from typing import TypeVar

import numpy as np

import minigen.kernels as kernels
from minigen import ops
from minigen.graph import recorded, written
from minigen.nn.conv import Conv2d, ConvTranspose2d
from minigen.nn.linear import Embedding, Linear
from minigen.nn.module import Module, Weighted
from minigen.tensor import Tensor

M = TypeVar("M", bound=Module)

EPS = 1e-12  # for weights that are all 0
BEGINNING = 15  # iterations before the first use, so that this one is not far too large


def spectral_norm(
    module: M,
    *,
    kinds: tuple[type[Weighted], ...] = (Conv2d, ConvTranspose2d, Linear, Embedding),
) -> M:
    """Make a layer, or every layer of `kinds` within a network, use weight / sigma(weight).

    sigma is the largest singular value (Miyato et al. 2018, eq. 8). Changed in place and returned:
    names and classes stay, each layer gets a `reweight.u` in its state.
    Raises ValueError where there is no such layer, or one is normalised already.
    """
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    if not layers:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"spectral_norm: {type(module).__name__} has no layer of {names}")
    for layer in layers:
        if layer.reweight is not None:
            name = type(layer).__name__
            raise ValueError(f"spectral_norm: {name}({layer.extra_repr()}) is normalised already")
    for layer in layers:
        layer.reweight = SpectralNorm(layer)
    return module


class SpectralNorm(Module):
    """weight -> weight / sigma, with sigma = u^T W v from one power iteration a training call.

    u, kept from call to call, follows the slowly changing weight (Miyato et al. 2018, algorithm 1);
    in evaluation it stays as it is. Gradients pass through sigma with u and v as constants (eq.
    10-12). u starts from ones: all but what is at right angles to the singular vector will do.
    """

    def __init__(self, layer: Weighted):
        self.transposed = isinstance(layer, ConvTranspose2d)  # the input channels come first
        matrix = _matrix(layer.weight.detach(), self.transposed)
        ones = ops.ones((1, len(matrix)), matrix.dtype, device=matrix.device)
        self.u = Tensor(_unit(ones.data))
        for _ in range(BEGINNING):
            power_iteration(matrix, self.u)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = _matrix(weight, self.transposed)
        if self.training:
            u, v = power_iteration(matrix, self.u)
        else:
            u, v = self.u, across(matrix, self.u)
        sigma = ops.sum(u * ops.matmul(v, ops.matrix_transpose(matrix)))
        return weight / (sigma + EPS)

    def extra_repr(self) -> str:
        return f"{self.u.shape[1]}"


@recorded
def power_iteration(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """v = W^T u / |W^T u|, then u = W v / |W v|, which `u` becomes; returns a copy of it, and v.

    Both are rows, (1, out) and (1, all else): products of matrices, which CUDA graphs can hold.
    A graph may keep these two: later calls write into `u` alone.
    """
    v = across(matrix, u)
    new = kernels.matmul(v.data, matrix.data.T)
    new = _unit(new + EPS * u.data)  # which stays as it was where the weight is 0
    kernels.copy_each(u.data, new)
    written(u)
    return Tensor(new), v


@recorded
def across(matrix: Tensor, u: Tensor) -> Tensor:
    """v = W^T u / |W^T u|."""
    return Tensor(_unit(kernels.matmul(u.data, matrix.data)))


def orthogonal_penalty(network: Module) -> Tensor:
    """Sum over layers of |W W^T * (1 - I)|_F^2: filters of a layer should not resemble each other.

    W has a row for each filter of a convolution or linear layer, as the parameters are, before any
    normalisation; lengths are free. Brock et al. 2018, eq. 3, to be multiplied by beta = 1e-4.
    Raises ValueError for a network without such layers.
    """
    layers = [m for m in network.modules() if isinstance(m, (Conv2d, ConvTranspose2d, Linear))]
    if not layers:
        name = type(network).__name__
        raise ValueError(f"orthogonal_penalty: {name} has no convolution or linear layer")
    penalties = []
    for layer in layers:
        matrix = _matrix(layer.weight, isinstance(layer, ConvTranspose2d))
        gram = ops.matmul(matrix, ops.matrix_transpose(matrix))
        place = ops.arange(len(gram), device=gram.device)
        apart = (place != ops.reshape(place, (-1, 1))).astype(gram.dtype)
        penalties.append(ops.sum(ops.square(gram * apart)))
    return sum(penalties[1:], penalties[0])


def _matrix(weight, transposed):
    """(out, all else): a view of a weight that is channels-last in memory."""
    if weight.ndim == 4:
        weight = ops.transpose(weight, (0, 2, 3, 1))
    if transposed:
        return ops.matrix_transpose(ops.reshape(weight, (-1, weight.shape[-1])))
    return ops.reshape(weight, (weight.shape[0], -1))


def _unit(row):
    return row / np.maximum(np.sqrt(kernels.matmul(row, row.T)), EPS)
