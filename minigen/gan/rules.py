"""RULES: what the signs of a GAN mean when they last, and what is known to help.

Early in training all images are alike, and late in it the discriminator is often right, in health
too; so most rules ask for two signs at once, three or four examinations in a row. With these
thresholds forced collapses were named and healthy runs were not (benchmarks/doctor.py).
"""

import math
import statistics
from collections.abc import Callable

from minigen.gan import remedies as r
from minigen.nn.doctor import FAIR, KEPT, History, Rule

GENERATOR, DISCRIMINATOR = "generator_optimizer", "discriminator_optimizer"
ALIKE = 0.5  # diversity below which images are too much alike
LOST = 0.5  # the share of its best diversity at which a generator has lost modes
NEVER, GROWING = 0.45, 1.2  # the best of one that never had them; the growth of one that may yet
SURE, SINCE = 3.5, 3  # mean certainty over so many examinations; a logit of 3.5 is 97%
FLAT = 0.02  # the slope of the generator's loss
OVERWHELMED, WON, SWINGS = 1.3, 0.15, 6  # balance of a wrong and of a right discriminator
FOOLED = 0.35  # separation; 0.5 is a coin's
EXPLODED, VANISHED = 100.0, 1e-3  # times the median before


def _not_finite(history: History) -> str:
    wrong = [f"{k} is {v}" for k, v in history.last[-1].items() if not math.isfinite(v)]
    return ", ".join(wrong)


def _saturated(history: History) -> str:
    now, certainty = history.last[-1], history.recent("certainty", SINCE)
    diversity = now.get("diversity", 1.0)
    if not certainty or statistics.mean(certainty) < SURE or diversity > ALIKE:
        return ""
    return (
        "the discriminator is too sure for the generator to learn from it: in the last"
        f" {SINCE} examinations its log-odds were {statistics.mean(certainty):.3g} and more on"
        f" average; {_alike(history)}"
    )


def _sure(history: History) -> bool:
    now = history.last[-1]
    return now.get("certainty", 0.0) > SURE and now.get("diversity", 1.0) < ALIKE


def _out_of_balance(history: History) -> str:
    balances = history.recent("balance", SWINGS)
    diversity = history.last[-1].get("diversity", 1.0)
    wrong = sum(balance > OVERWHELMED for balance in balances)
    if wrong < 2 or min(balances) > WON or diversity > ALIKE:
        return ""
    return (
        "the discriminator swings between knowing all and less than nothing: in the last"
        f" {SWINGS} examinations its loss was {min(balances):.2g} to {max(balances):.2g} times that"
        f" of one that never decides; {_alike(history)}"
    )


def _wrong(history: History) -> bool:
    now = history.last[-1]
    return now.get("balance", 0.0) > OVERWHELMED and now.get("diversity", 1.0) < ALIKE


def _no_slope(history: History) -> str:
    now = history.last[-1]
    slope, diversity = now.get("slope", 1.0), now.get("diversity", 1.0)
    if slope < FLAT and diversity < ALIKE:
        return (
            f"the generator's loss is flat where the discriminator is sure: its slope is"
            f" {slope:.2g} at decisions of {now['fake']:.3g} on generated images;"
            f" {_alike(history)}"
        )
    before = history.usual("generator_gradient")
    norm = now.get("generator_gradient", before)
    if norm == 0 and "generator_gradient" in now:
        return "the discriminator passes no gradient at all on to the generator"
    if norm < VANISHED * before:
        return f"the norm of the generator's gradient is {norm:.2g}, and was {before:.2g} before"
    return ""


def _exploding(player: str) -> Callable[[History], str]:
    def seen(history: History) -> str:
        before = history.usual(f"{player}_gradient")
        norm = history.last[-1].get(f"{player}_gradient", 0.0)
        if not before or norm < EXPLODED * before:
            return ""
        return f"the norm of the {player}'s gradient is {norm:.3g}, and was {before:.3g} before"

    return seen


def _run_away(history: History) -> str:
    gaps = [abs(signs["real"] - signs["fake"]) for signs in history.last if "real" in signs]
    usual = statistics.median(gaps[:-3]) if len(gaps) > FAIR + 3 else math.inf
    if gaps[-1:] < [EXPLODED * max(usual, 1.0)]:
        return ""
    return (
        f"decisions on real and on generated images are {gaps[-1]:.3g} apart, and were {usual:.3g}"
        " before: nothing holds the discriminator's scale"
    )


def _collapsed(history: History) -> str:
    best, diversity = history.best.get("diversity", 0.0), history.last[-1].get("diversity", 1.0)
    if diversity <= min(ALIKE, LOST * best):
        return (
            f"{_alike(history)}, and {best:.2f} times before: different noise gives nearly the same"
            " image"
        )
    if _never_varied(history):
        return (
            f"{_images(history)} have never varied more than {best:.2f} times as much as real ones,"
            " and it gets no better: different noise gives nearly the same image"
        )
    return ""


def _never_varied(history: History) -> bool:
    """Whether images have long been too much alike, from the beginning, and get no better."""
    values = history.recent("diversity", KEPT)
    if not values or history.best.get("diversity", 1.0) > NEVER:
        return False
    before, now = values[-2 * FAIR : -FAIR], values[-FAIR:]
    return statistics.median(now) < GROWING * statistics.median(before)


def _repeating(history: History) -> str:
    best, nearest = history.best.get("nearest", 0.0), history.last[-1].get("nearest", 1.0)
    if nearest > min(ALIKE, LOST * best):
        return ""
    return (
        f"{_images(history)} differ from the one most like them {nearest:.2f} times as much as real"
        f" ones, and {best:.2f} times before: the generator repeats a few images"
    )


def _fooled(history: History) -> str:
    now = history.last[-1]
    if now.get("separation", 0.5) > FOOLED:
        return ""
    return (
        f"the discriminator gives the higher decision to the real one of two images"
        f" {now['separation']:.0%} of the time, less than by chance: the generator is far ahead"
    )


def _held_at_one(history: History) -> str:
    weights = history.recent("k", FAIR)
    if not weights or min(weights) < 0.999:
        return ""
    return (
        "began's controller k has come to its limit of 1, and still generated images are"
        " reconstructed too well: the discriminator cannot follow the generator"
    )


def _alike(history: History) -> str:
    diversity = history.last[-1].get("diversity", 1.0)
    return f"{_images(history)} vary {diversity:.2f} times as much as real ones"


def _images(history: History) -> str:
    """Which images are compared: a conditional model's only with those of the same class."""
    conditional = getattr(history.options, "conditional", "none") != "none"
    return "generated images of one class" if conditional else "generated images"


RULES = (
    Rule(
        "divergence", _not_finite,
        r.propose(r.SLOWER, r.BOTH_SLOWER, r.CLIPPED), 1, (GENERATOR, DISCRIMINATOR),
    ),
    Rule(
        "discriminator saturated", _saturated,
        r.propose(r.SLOWER_DISCRIMINATOR, r.WASSERSTEIN, r.SPECTRAL, r.R1),
        1, (DISCRIMINATOR,), _sure,
    ),
    Rule(
        "losses out of balance", _out_of_balance,
        r.propose(r.SLOWER_DISCRIMINATOR, r.PENALTY, r.R1, r.SPECTRAL),
        1, (DISCRIMINATOR,), _wrong,
    ),
    Rule(
        "vanishing generator gradient", _no_slope,
        r.propose(r.NON_SATURATING, r.WASSERSTEIN, r.SLOWER_DISCRIMINATOR), 4, (DISCRIMINATOR,),
    ),
    Rule(
        "exploding generator gradient", _exploding("generator"),
        r.propose(r.CLIPPED, r.SLOWER_DISCRIMINATOR, r.R1), 3, (GENERATOR,),
    ),
    Rule(
        "exploding discriminator gradient", _exploding("discriminator"),
        r.propose(r.CLIPPED, r.SLOWER_DISCRIMINATOR, r.R1), 3, (DISCRIMINATOR,),
    ),
    Rule(
        "decisions without bound", _run_away,
        r.propose(r.SLOWER_DISCRIMINATOR, r.PENALTY, r.SPECTRAL), 3, (DISCRIMINATOR,),
    ),
    Rule(
        "mode collapse", _collapsed,
        r.propose(r.PACKING, r.WASSERSTEIN, r.MORE_DIVERSE, r.VARIATION_SHOWN, r.SLOWER_GENERATOR),
        3, (GENERATOR,),
    ),
    Rule(
        "repeated images", _repeating,
        r.propose(r.PACKING, r.VARIATION_SHOWN, r.MORE_DIVERSE, r.WASSERSTEIN), 3, (GENERATOR,),
    ),
    Rule(
        "generator winning", _fooled,
        r.propose(r.MORE_CRITIC_STEPS, r.FASTER_DISCRIMINATOR), 6, (GENERATOR,),
    ),
    Rule("controller at its limit", _held_at_one, r.propose(r.BOTH_SLOWER), 1, (GENERATOR,)),
)  # fmt: skip
