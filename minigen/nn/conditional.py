"""Batch normalisation whose gain and bias depend on what is to be drawn."""

from typing import Any

from minigen import ops
from minigen.nn import init
from minigen.nn.linear import Embedding, Linear
from minigen.nn.module import Module
from minigen.nn.norm import BatchNorm2d
from minigen.random import Generator
from minigen.tensor import Tensor


class ConditionalBatchNorm2d(Module):
    """Batch norm of (N, C, H, W), then (1 + gain) * x + bias by example, from its condition.

    Give one of two: `classes`, for labels (N,) that choose rows of two tables, which start at 0
    (Dumoulin et al. 2017, section 2.1); or `features`, for vectors (N, features) of which gain and
    bias are linear functions (Brock et al. 2018, appendix B). The rest is as in BatchNorm2d.
    """

    def __init__(
        self,
        num_features: int,
        *,
        classes: int | None = None,
        features: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        negative_slope: float | None = None,
        rng: Generator,
    ):
        self.num_features, self.classes, self.features = num_features, classes, features
        self.negative_slope = negative_slope
        self.norm = BatchNorm2d(num_features, eps, momentum, affine=False)
        self.gain: Embedding | Linear
        self.bias: Embedding | Linear
        if classes is not None and features is None:
            self.gain, self.bias = (Embedding(classes, num_features, rng=rng) for _ in range(2))
            init.zeros_(self.gain.weight)
            init.zeros_(self.bias.weight)
        elif features is not None and classes is None:
            self.gain, self.bias = (
                Linear(features, num_features, bias=False, rng=rng) for _ in range(2)
            )
        else:
            raise ValueError(
                f"ConditionalBatchNorm2d: got classes={classes} and features={features}, expected"
                " one of them"
            )

    def forward(self, x: Tensor, condition: Any) -> Tensor:
        each = (len(x), -1, 1, 1)
        gain, bias = self.gain(condition), self.bias(condition)
        y = ops.reshape(gain + 1, each) * self.norm(x) + ops.reshape(bias, each)
        return y if self.negative_slope is None else ops.leaky_relu(y, self.negative_slope)

    def extra_repr(self) -> str:
        of = f"classes={self.classes}" if self.features is None else f"features={self.features}"
        slope = "" if self.negative_slope is None else f", negative_slope={self.negative_slope}"
        return f"{self.num_features}, {of}{slope}"
