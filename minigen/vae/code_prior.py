"""A distribution over grids of codes: a gated PixelCNN (van den Oord et al. 2016b).

Codes are read row by row, each row from the left, and every one is predicted from those before it:
p(codes) is the product. A vertical stack of convolutions sees all rows above, a horizontal one what
is to the left, and is told at every layer what the vertical one found.
"""

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor

FIRST_REACH, REACH = 3, 1  # of the first layer's convolutions, 7x7 before masking; of the others'


class CodePrior(nn.Module):
    """p(codes), or p(codes | label) with `classes`; grids (N, H, W) of integers below `codes`."""

    def __init__(self, codes: int, channels: int, layers: int, classes: int, *, rng: Generator):
        self.embedding = nn.Embedding(codes, channels, rng=rng)
        self.layers = [GatedLayer(channels, classes, first=i == 0, rng=rng) for i in range(layers)]
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, rng=rng),
            nn.ReLU(),
            nn.Conv2d(channels, codes, 1, rng=rng),
        )

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, codes, H, W) of each code, given those before it."""
        return self.along(codes, self.above(codes, labels), labels)

    def above(self, codes: Tensor, labels: Tensor | None) -> list[Tensor]:
        """What each layer's horizontal convolution is told of the rows above: (N, 2 channels, H,
        W) a layer.
        """
        x, told = self._embed(codes), []
        for layer in self.layers:
            x, news = layer.vertical(x, labels)
            told.append(news)
        return told

    def along(self, codes: Tensor, above: list[Tensor], labels: Tensor | None) -> Tensor:
        """The logits of rows, each from its own codes and what stands above it."""
        x = self._embed(codes)
        for layer, news in zip(self.layers, above, strict=True):
            x = layer.horizontal(x, news, labels)
        return self.head(x)

    def nll(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """-log p(codes) of each grid, (N,), in nats."""
        cost = mg.cross_entropy(self(codes, labels), codes, reduction="none")
        return cost.sum((1, 2))

    @mg.no_grad()
    def sample(
        self, n: int, shape: tuple[int, int], rng: Generator, labels: Tensor | None = None
    ) -> Tensor:
        """n grids (n, *shape) from p, one code after the other, int64.

        The rows above are looked at once a row; only the row itself is gone through for each code.
        """
        codes = mg.zeros((n, *shape), "int64", device=rng.device)
        for i in range(shape[0]):
            above = [news[:, :, i:] for news in self.above(codes[:, : i + 1], labels)]
            for j in range(shape[1]):
                logits = self.along(codes[:, i : i + 1], above, labels)[:, :, 0, j]
                codes = mg.index_put(codes, (slice(None), i, j), draw(logits, rng))
        return codes

    def _embed(self, codes: Tensor) -> Tensor:
        return self.embedding(codes).transpose((0, 3, 1, 2))


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2), with biases by class; the first does not let a place see
    its own code.
    """

    def __init__(self, channels: int, classes: int, *, first: bool, rng: Generator):
        reach, own = (FIRST_REACH, False) if first else (REACH, True)
        self.first = first
        self.down = nn.VerticalConv2d(channels, 2 * channels, reach, own=own, rng=rng)
        self.across = nn.HorizontalConv2d(channels, 2 * channels, reach, own=own, rng=rng)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1, rng=rng)
        self.out = nn.Conv2d(channels, channels, 1, rng=rng)
        self.biases: list[nn.Embedding] = []
        if classes:
            self.biases = [nn.Embedding(classes, 2 * channels, rng=rng) for _ in range(2)]
            for bias in self.biases:
                nn.init.zeros_(bias.weight)

    def vertical(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """(what the next layer's vertical stack gets, what this one's horizontal stack is told)."""
        found = self._of_class(self.down(x), 0, labels)
        return gate(found), self.link(found)

    def horizontal(self, x: Tensor, news: Tensor, labels: Tensor | None) -> Tensor:
        """What the next layer's horizontal stack gets."""
        found = self._of_class(self.across(x) + news, 1, labels)
        new = self.out(gate(found))
        return new if self.first else x + new  # x is the place's own code where this is the first

    def _of_class(self, x: Tensor, which: int, labels: Tensor | None) -> Tensor:
        if not self.biases:
            return x
        return x + self.biases[which](labels).reshape((len(x), -1, 1, 1))


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels times the sigmoid of the second (eq. 2)."""
    a, b = mg.split(x, 2, axis=1)
    return mg.tanh(a) * mg.sigmoid(b)


def draw(logits: Tensor, rng: Generator) -> Tensor:
    """One of K at random for each row of logits (N, K), int64: where a uniform number falls among
    the cumulative probabilities.
    """
    steps = mg.cumsum(mg.softmax(logits, 1), 1)
    level = rng.uniform((len(logits), 1)) * steps[:, -1:]
    return mg.minimum((steps <= level).astype("int64").sum(1), logits.shape[1] - 1)
