"""What the two players minimise, as functions of the discriminator's outputs: `LOSSES`.

A loss is an object with two methods. Which outputs it speaks of is `outputs`: "logits" of the
probability that an image is real, or "scores" without a scale of their own; `undecided` is the
output that favours neither kind, None where only differences count.
"""

from typing import ClassVar

import minigen as mg
from minigen.tensor import Tensor


class NonSaturating:
    """-E[log D(x)] - E[log(1 - D(G(z)))] and -E[log D(G(z))] (Goodfellow et al. 2014, eq. 1).

    The discriminator's is 2 ln 2 where D = 1/2. log D = -softplus(-logit) and log(1 - D) =
    -softplus(logit), which no logit can overflow. The generator's has the fixed point of
    `Minimax`, with gradients also where the discriminator is sure (section 3).
    """

    outputs: ClassVar[str] = "logits"
    undecided: ClassVar[float | None] = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """From logits (N, 1) on real and generated images, in nats."""
        return mg.softplus(-real).mean() + mg.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """From logits (N, 1) on generated images, in nats."""
        return mg.softplus(-fake).mean()


class Minimax(NonSaturating):
    """The generator minimises E[log(1 - D(G(z)))], the discriminator's negative; flat where D is
    sure.
    """

    def generator(self, fake: Tensor) -> Tensor:
        return -mg.softplus(fake).mean()


class LeastSquares:
    """E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2 and E[(D(G(z)) - 1)^2] / 2 (Mao et al. 2017, eq. 9).

    1/4 where D = 1/2.
    """

    outputs: ClassVar[str] = "scores"
    undecided: ClassVar[float | None] = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2

    def generator(self, fake: Tensor) -> Tensor:
        return ((fake - 1) ** 2).mean() / 2


class Wasserstein:
    """E[D(G(z))] - E[D(x)] and -E[D(G(z))] (Arjovsky et al. 2017, eq. 2).

    For a critic of Lipschitz constant K the first is at least -K times the Wasserstein-1 distance
    of the two distributions.
    """

    outputs: ClassVar[str] = "scores"
    undecided: ClassVar[float | None] = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Hinge(Wasserstein):
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] and -E[D(G(z))] (Lim & Ye 2017; Miyato et al.
    2018, eq. 16). 2 where D = 0.
    """

    undecided: ClassVar[float | None] = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return mg.relu(1 - real).mean() + mg.relu(1 + fake).mean()


Loss = NonSaturating | LeastSquares | Wasserstein

LOSSES: dict[str, Loss] = {
    "non-saturating": NonSaturating(),
    "minimax": Minimax(),
    "least-squares": LeastSquares(),
    "wasserstein": Wasserstein(),
    "hinge": Hinge(),
}
