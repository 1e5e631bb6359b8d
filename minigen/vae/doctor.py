"""VAEDoctor: the signs of a VAE's health, measured on a small batch without changing anything, what
they mean when they last, and what is known to help.

The usual illness is a code that carries nothing (posterior collapse): the KL term is the easiest to
lower, and the decoder does without the code. Single units that carry nothing are no illness: a VAE
with more units than it needs leaves some alone. How many are in use is logged.
"""

import math
from typing import Any

import numpy as np

import minigen as mg
from minigen.nn import remedies
from minigen.nn.doctor import Doctor, History, Rule, Signs, untouched
from minigen.random import Generator

MOST = 64  # images in an examination
ACTIVE = 0.01  # variance of a unit's mean from which it is active (Burda et al. 2016, section 5.2)

# Thresholds of the rules, and why.
NOTHING = 0.1  # nats an image of a code without use: those of a coin are 0.69
BEGINNING, AGAIN = 10, 3  # examinations without use: from the start, and of a code once in use
UNEXPLAINED = 0.02  # a share of the images' variance that reconstructions exceed in health
STUCK = 30  # examinations at it: with a small learning rate health takes hundreds of steps
WIDE, NARROW = 10.0, -25.0  # log sigma^2: 11,000 nats a unit; near what float32 can add to 1
LEVEL = 1 / (255 * 12**0.5)  # deviation of pixels rounded to 8 bits: there is no more to know
EXPLODED = 100.0  # times the median before
IN_USE = 0.1  # the share of a codebook in use: mostly over half
SETTLED = 15  # examinations without more of it


class VAEDoctor(Doctor):
    """Measures the code, what it costs, and what the decoder makes of it."""

    def signs(self, images: Any, labels: Any, rng: Generator) -> dict[str, float]:
        """Of the first images of a batch:

        "active_units", whose means vary by more than 0.01 from image to image; "nats" that the code
        costs, its KL; "explained", the share of the images' variance that reconstructions explain
        (0: no better than one image for all); the extremes over units of the mean log sigma^2; and
        the "sigma" of a gaussian likelihood if it is learnt.
        """
        model, n = self.model, min(len(images), MOST)
        with untouched(model), mg.no_grad():
            x = model.observed(mg.asarray(images[:n]), rng)
            told = model.known(None if labels is None else labels[:n])
            mu, log_var = model.encode(x, told)
            z, kl = mg.reparameterize(mu, log_var, rng=rng)
            found = model.likelihood.mean(model.decoded(z, told))
        spread = log_var.numpy().mean(0)
        return {
            "active_units": float((mu.numpy().var(0) > ACTIVE).sum()),
            "nats": float(kl.numpy().sum(1).mean()),
            "explained": explained(x.numpy(), found.numpy()),
            "least_log_variance": float(spread.min()),
            "most_log_variance": float(spread.max()),
            **self._sigma(),
        }

    def _sigma(self) -> dict[str, float]:
        options = self.model.options
        if options.likelihood != "gaussian" or options.sigma:
            return {}
        return {"sigma": math.exp(self.model.likelihood.log_sigma.item())}


class CodebookDoctor(Doctor):
    """Of a code that is chosen from a codebook (`vq-vae`)."""

    def signs(self, images: Any, labels: Any, rng: Generator) -> dict[str, float]:
        """How much of the codebook the first images of a batch use, "in_use": the perplexity of
        their codes relative to what it could be; and the share "explained", as above.
        """
        model, x = self.model, mg.asarray(images[:MOST])
        with untouched(model):
            codes = model.encode(x)
            found = model.decode(codes)
        counts = np.bincount(codes.numpy().ravel())
        p = counts[counts > 0] / counts.sum()
        perplexity = math.exp(-(p * np.log(p)).sum())
        return {
            "in_use": perplexity / min(model.options.codes, codes.size),
            "explained": explained(x.numpy(), found),
        }


def explained(x: np.ndarray, found: np.ndarray) -> float:
    """1 - the squared error of `found`, relative to that of the mean of the images x (N, ...)."""
    x = x.astype(np.float64)
    spread = float(((x - x.mean(0)) ** 2).sum())
    return 1 - float(((x - found) ** 2).sum()) / spread if spread else 1.0


# what the signs mean -----------------------------------------------------------------------------


def _not_finite(history: History) -> str:
    wrong = [f"{k} is {v}" for k, v in history.last[-1].items() if not math.isfinite(v)]
    return ", ".join(wrong)


def _unused(signs: Signs) -> bool:
    """Whether the code carries nothing. Free bits can cost nats and yet be the same in all images,
    and so both signs count.
    """
    return signs.get("active_units", 1.0) < 1 or signs.get("nats", math.inf) < NOTHING


def _still_rising(history: History) -> bool:
    """Whether what the KL term asks for is yet to come: its weight, or a nat of its capacity."""
    options, step = history.options, history.last[-1]["step"]
    share = step / (getattr(options, "capacity_steps", 0) or step)
    capacity = getattr(options, "capacity", 0.0)
    return step <= getattr(options, "warmup", 0) or (capacity > 0 and capacity * min(share, 1) < 1)


def _collapsed(history: History) -> str:
    if not _unused(history.last[-1]) or _still_rising(history):
        return ""
    used = [i for i, signs in enumerate(reversed(history.last)) if not _unused(signs)]
    lasted = used[0] if used else len(history.last)
    before = history.best.get("active_units", 0.0)
    if lasted < (AGAIN if before >= 1 else BEGINNING):
        return ""
    now = history.last[-1]
    return (
        f"the code carries {now['nats']:.2g} nats an image and {now['active_units']:.0f} of its"
        f" units are active, in the last {lasted} examinations: the decoder does without it"
    )


def _unexplained(history: History) -> str:
    shares = history.recent("explained", STUCK)
    if not shares or max(shares) > UNEXPLAINED or _unused(history.last[-1]):
        return ""
    return (
        f"reconstructions explain {max(shares[-1], 0):.1%} of how images vary, and at most"
        f" {max(max(shares), 0):.1%} in the last {STUCK} examinations, though codes differ: one"
        " image for all would do as well"
    )


def _costly(history: History) -> str:
    now, before = history.last[-1].get("nats", 0.0), history.usual("nats")
    if not before or now < EXPLODED * max(before, 1.0):
        return ""
    return f"the code costs {now:.3g} nats an image, and cost {before:.3g} before"


def _out_of_range(history: History) -> str:
    now = history.last[-1]
    low, high = now.get("least_log_variance", 0.0), now.get("most_log_variance", 0.0)
    if high > WIDE:
        return f"log sigma^2 of a unit of the code is {high:.3g}: it is nothing but noise, and dear"
    if low < NARROW:
        return f"log sigma^2 of a unit of the code is {low:.3g}: no noise is left in it"
    return ""


def _dead_codes(history: History) -> str:
    shares = history.recent("in_use", SETTLED)
    if not shares or max(shares) > IN_USE:
        return ""
    return (
        f"images use as much of the codebook as {shares[-1]:.1%} of its codes would be, and at most"
        f" {max(shares):.1%} in the last {SETTLED} examinations"
    )


def _too_sure(history: History) -> str:
    sigma = history.last[-1].get("sigma", 1.0)
    if sigma > LEVEL:
        return ""
    return (
        f"the likelihood's sigma is {sigma:.2g}, less than the {LEVEL:.2g} of rounding to 8 bits:"
        " densities grow without bound where pixels can be foretold"
    )


# what helps --------------------------------------------------------------------------------------

SLOWER = {"lr": lambda o: o.lr / 4}
LESS_BETA = {"beta": lambda o: max(o.beta / 10, 1.0) if o.beta > 1 else o.beta}
SOME_BETA = {"beta": lambda o: o.beta or 1.0}
SHARPER = {"sigma": lambda o: 0.0 if o.likelihood in ("gaussian", "logistic") else o.sigma}
FIXED = {"sigma": lambda o: o.sigma or 0.1}
LEVELS = {"likelihood": "logistic"}
FREE_BITS = {"free_bits": lambda o: 2 * o.free_bits or 0.1}
WARM_UP = {"warmup": lambda o: 2 * o.warmup or 2000}
LESS_MMD = {"mmd": lambda o: o.mmd / 10}
MORE_CAPACITY = {"capacity": lambda o: 2 * o.capacity}
FEWER_UNITS = {"latent": lambda o: max(o.latent // 2, 1)}
RESTARTS = {"restart": lambda o: o.restart or 0.05}
FEWER_CODES = {"codes": lambda o: max(o.codes // 4, 2)}
AVERAGES = {"codebook": "ema"}
WEAKER_DECODER = {
    "decoder": lambda o: tuple(max(n // 2, 1) for n in o.decoder)
    if o.network == "dense" else o.decoder,
    "channels": lambda o: max(o.channels // 2, 1) if o.network != "dense" else o.channels,
}  # fmt: skip


def propose(*ways: remedies.Way) -> Any:
    """A function of a model's options: 'try --set ..., or --set ...' of the first ways that fit."""
    return remedies.propose(*ways, check=_check)


def _check(options: Any) -> None:
    if hasattr(options, "check"):
        options.check()


NOT_FINITE = Rule("divergence", _not_finite, propose(SLOWER), 1, ("optimizer",))
STUCK_AT_ONE = Rule("reconstruction stuck", _unexplained, propose(SLOWER), 1, ("optimizer",))
RULES = (
    NOT_FINITE,
    Rule(
        "posterior collapse", _collapsed,
        propose(
            LESS_BETA, LESS_MMD, SHARPER, FREE_BITS, WARM_UP, MORE_CAPACITY, FEWER_UNITS,
            WEAKER_DECODER,
        ),
        1, suspected=lambda history: _unused(history.last[-1]),
    ),
    STUCK_AT_ONE,
    Rule("exploding code", _costly, propose(SLOWER, SOME_BETA), 3, ("optimizer",)),
    Rule("variance out of range", _out_of_range, propose(SOME_BETA, SLOWER), 3, ("optimizer",)),
    Rule("sigma without bound", _too_sure, propose(FIXED, LEVELS), 3),
)  # fmt: skip
OF_CODEBOOKS = (
    NOT_FINITE,
    Rule("dead codes", _dead_codes, propose(RESTARTS, AVERAGES, FEWER_CODES), 1),
    STUCK_AT_ONE,
)
VAEDoctor.rules, CodebookDoctor.rules = RULES, OF_CODEBOOKS
