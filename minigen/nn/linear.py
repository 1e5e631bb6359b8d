"""Dense layers, embeddings and dropout."""

from typing import Any

from minigen import ops
from minigen.nn import init
from minigen.nn.module import Module, Weighted
from minigen.random import Generator
from minigen.tensor import Tensor


class Linear(Weighted):
    """x (..., in_features) @ weight (out_features, in_features).T + bias.

    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True,
        *, negative_slope: float | None = None, rng: Generator,
    ):  # fmt: skip
        self.in_features, self.out_features = in_features, out_features
        self.negative_slope = negative_slope
        self.weight = init.parameter((out_features, in_features))
        self.bias = init.parameter((out_features,)) if bias else None
        init.default_(self.weight, self.bias, rng=rng)

    def forward(self, x: Tensor, negative_slope: float | None = None) -> Tensor:
        slope = self.negative_slope if negative_slope is None else negative_slope
        return ops.linear(x, self.used_weight(), self.bias, negative_slope=slope)

    def extra_repr(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        slope = "" if self.negative_slope is None else f", negative_slope={self.negative_slope}"
        return f"{self.in_features}, {self.out_features}{bias}{slope}"


class Embedding(Weighted):
    """A learnt row (embedding_dim,) for each index, from N(0, 1); that of `padding_idx` stays 0."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        *, rng: Generator,
    ):  # fmt: skip
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"Embedding: padding_idx is {padding_idx}, there are {num_embeddings} embeddings"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = init.normal_(init.parameter((num_embeddings, embedding_dim)), rng=rng)
        if padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, indices: Any) -> Tensor:
        return ops.embedding(indices, self.used_weight(), self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p).

    The layer keeps `rng`, which is saved with the module. Within `mg.checkpoint`, pass the
    generator as an argument (`layer(x, rng)`), so that the second run can draw the same mask.
    """

    def __init__(self, p: float = 0.5, *, rng: Generator):
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is {p}, expected a probability in [0, 1]")
        self.p, self.rng = p, rng

    def forward(self, x: Tensor, rng: Generator | None = None) -> Tensor:
        return ops.dropout(x, self.p, self.training, rng=self.rng if rng is None else rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """In training, zero whole channels of (N, C, H, W) with probability p (Tompson et al. 2015)."""

    def forward(self, x: Tensor, rng: Generator | None = None) -> Tensor:
        return ops.dropout2d(x, self.p, self.training, rng=self.rng if rng is None else rng)
