"""Normalisation layers."""

from collections.abc import Sequence

import numpy as np

from minigen import ops
from minigen.nn import init
from minigen.nn.module import Module
from minigen.tensor import Tensor


class BatchNorm1d(Module):
    """Normalise each channel of (N, C) or (N, C, L) over the batch (Ioffe & Szegedy 2015).

    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    In evaluation the running statistics serve; without `track_running_stats` the batch's always
    do. `momentum` None averages them all.
    """

    dimensions: tuple[int, ...] = (2, 3)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        negative_slope: float | None = None,
    ):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.negative_slope = negative_slope
        self.weight = init.ones_(init.parameter((num_features,))) if affine else None
        self.bias = init.parameter((num_features,)) if affine else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean = Tensor(np.zeros(num_features, np.float32))
            self.running_var = Tensor(np.ones(num_features, np.float32))
            self.num_batches_tracked = Tensor(np.zeros((), np.int64))

    def forward(self, x: Tensor, negative_slope: float | None = None) -> Tensor:
        if x.ndim not in self.dimensions:
            name, expected = type(self).__name__, " or ".join(map(str, self.dimensions))
            raise ValueError(f"{name}: input has shape {x.shape}, expected {expected} axes")
        momentum, count = self.momentum, self.num_batches_tracked
        if self.training and count is not None and momentum is None:
            momentum = 1 / (count.item() + 1)
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
            negative_slope=self.negative_slope if negative_slope is None else negative_slope,
            num_batches_tracked=count if self.training else None,
        )  # fmt: skip

    def extra_repr(self) -> str:
        slope = "" if self.negative_slope is None else f", negative_slope={self.negative_slope}"
        return f"{self.num_features}{slope}"


class BatchNorm2d(BatchNorm1d):
    """Normalise each channel of (N, C, H, W) over the batch; arguments as in BatchNorm1d."""

    dimensions = (4,)


class LayerNorm(Module):
    """Normalise over the last axes, of `normalized_shape` (Ba et al. 2016)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), eps
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = init.ones_(init.parameter(self.normalized_shape))
            self.bias = init.parameter(self.normalized_shape) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}"


class GroupNorm(Module):
    """Normalise each of `num_groups` groups of the channels of (N, C, ...) (Wu & He 2018)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_groups {num_groups} must divide num_channels {num_channels}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = init.ones_(init.parameter((num_channels,))) if affine else None
        self.bias = init.parameter((num_channels,)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}"


class InstanceNorm2d(Module):
    """Normalise each channel of each image of (N, C, H, W) (Ulyanov et al. 2016).

    As in torch, `affine` and `track_running_stats` are off; with the latter, evaluation uses the
    running statistics.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = init.ones_(init.parameter((num_features,))) if affine else None
        self.bias = init.parameter((num_features,)) if affine else None
        self.running_mean = self.running_var = None
        if track_running_stats:
            self.running_mean = Tensor(np.zeros(num_features, np.float32))
            self.running_var = Tensor(np.ones(num_features, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None, self.momentum, self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.num_features}, affine={self.weight is not None}"


class PixelNorm(Module):
    """Divide by the root mean square over the channels (Karras et al. 2017, section 4.2)."""

    def __init__(self, eps: float = 1e-8):
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_norm(x, self.eps)
