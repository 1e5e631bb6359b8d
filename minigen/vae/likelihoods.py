"""Likelihoods p(x | z) of images given what a decoder makes: what a reconstruction costs, in nats.

Each takes `outputs` numbers a pixel value, as maps (N, outputs C, H, W), and sums over all values
of an image. Images lie in [0, 1]. `bits` is added to bits per dimension, so that densities over
[0, 1] compare with probabilities of 256 levels.
"""

import math
from typing import Any, ClassVar

import numpy as np

import minigen as mg
from minigen import nn
from minigen.ops.logits import logit_cost
from minigen.tensor import Tensor

LOG_2PI = math.log(2 * math.pi)
LEVELS = 256


class Likelihood(nn.Module):
    """What all have: `nll` and the `mean` image."""

    outputs: ClassVar[int] = 1
    bits: ClassVar[float] = 0.0

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        """-log p(x | z) of each image (N, C, H, W), summed over its values, (N,), in nats."""
        raise TypeError(f"{type(self).__name__} must define nll")

    def mean(self, out: Tensor) -> Tensor:
        """The expected image, (N, C, H, W) in [0, 1]."""
        return mg.clip(out, 0, 1)

    def bits_per_dimension(self, nats: Any, shape: tuple[int, ...]) -> Any:
        """Nats an image of `shape` by the number of its values, in units of log 2, of 256 levels if
        the likelihood is a density.
        """
        return nats * (1 / (math.prod(shape) * math.log(2))) + self.bits


class Bernoulli(Likelihood):
    """Pixels 0 or 1 whose logits the decoder gives.

    Of grey images this is their cross-entropy: a loss, but no likelihood, as it does not sum to 1.
    """

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        return logit_cost(_flat(out), _flat(x), 1)

    def mean(self, out: Tensor) -> Tensor:
        return mg.sigmoid(out)


class Gaussian(Likelihood):
    """N(out, sigma^2) with one sigma for all values, given or learnt (0)."""

    bits = math.log2(LEVELS)

    def __init__(self, sigma: float):
        self.log_sigma = learnt_if(sigma, 1.0)

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        scaled = _flat(x - out) * mg.exp(-self.log_sigma)
        return 0.5 * (scaled * scaled).sum(1) + (self.log_sigma + 0.5 * LOG_2PI) * scaled.shape[1]


class GaussianPixels(Likelihood):
    """N(m, s^2) with m and what `log_sigma_of` makes log s of, of each value, from the decoder."""

    outputs = 2
    bits = math.log2(LEVELS)

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        mean, spread = mg.split(out, 2, axis=1)
        return _flat(normal_nll(x - mean, log_sigma_of(spread))).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return mg.clip(mg.split(out, 2, axis=1)[0], 0, 1)


class Logistic(Likelihood):
    """The probability that a logistic variable of mean `out` rounds to the value's level of 256,
    the outer levels taking the tails (Kingma et al. 2016, app. B; Salimans et al. 2017, eq. 2).

    One scale for all values, `sigma` as its standard deviation, given or learnt (0).
    """

    HALF = 0.5 / (LEVELS - 1)  # half a level

    def __init__(self, sigma: float):
        per_sigma = math.sqrt(3) / math.pi
        self.log_scale = learnt_if(sigma * per_sigma, 0.2 * per_sigma)

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        # log(sigmoid(a) - sigmoid(b)) = -softplus(-a) - softplus(b) + log(1 - exp(b - a)), and
        # a - b is a level's width in scales, the same everywhere.
        gap, sharp = x - out, mg.exp(-self.log_scale)
        inner = mg.log(-mg.expm1(-2 * self.HALF * sharp))
        above = mg.softplus((gap - self.HALF) * sharp, threshold=80)
        below = mg.softplus((-gap - self.HALF) * sharp, threshold=80)
        not_first = (x > self.HALF).astype(x.dtype)
        not_last = (x < 1 - self.HALF).astype(x.dtype)
        cost = not_first * above + not_last * below - not_first * not_last * inner
        return _flat(cost).sum(1)


LIKELIHOODS = ("bernoulli", "gaussian", "gaussian-pixels", "logistic")


def likelihood(name: str, sigma: float) -> Likelihood:
    """The likelihood of a name in LIKELIHOODS; `sigma` is of gaussian and logistic, 0: learnt."""
    made: dict[str, Any] = {
        "bernoulli": Bernoulli,
        "gaussian": lambda: Gaussian(sigma),
        "gaussian-pixels": GaussianPixels,
        "logistic": lambda: Logistic(sigma),
    }
    return made[name]()


def learnt_if(value: float, first: float) -> Tensor:
    """log(value), fixed; or log(first), a parameter, where the value is 0."""
    log = mg.tensor(np.float32(np.log(value or first)))
    log.requires_grad = value == 0
    return log


def log_sigma_of(spread: Tensor) -> Tensor:
    """log sigma of what a network says: near 1/8 at first, and at least 1/510, half a level of 8
    bits: without a bound the likelihood of a pixel that is always black grows for ever.
    """
    least, first = math.log(1 / 510), math.log(1 / 8)
    return least + mg.softplus(spread + (first - least))


def normal_nll(missed: Tensor, log_sigma: Tensor) -> Tensor:
    """-log N(x; mean, sigma^2) of every value in nats, `missed` being x - mean."""
    scaled = missed * mg.exp(-log_sigma)
    return 0.5 * scaled * scaled + log_sigma + 0.5 * LOG_2PI


def _flat(x: Tensor) -> Tensor:
    return x.reshape((len(x), -1))
