"""What is known to help a GAN that goes wrong (ways as `nn.remedies` has them)."""

from collections.abc import Callable
from typing import Any

from minigen.gan.options import check_combination
from minigen.nn import remedies
from minigen.nn.remedies import Way


def _discriminator_lr(options: Any) -> float:
    return options.lr if options.discriminator_lr is None else options.discriminator_lr


def _unmixed(other: str) -> Callable[[Any], str]:
    """The normalization, `other` in place of batch norm, which mixes images."""
    return lambda o: other if o.normalization == "batch" else o.normalization


SLOWER_DISCRIMINATOR = {"discriminator_lr": lambda o: min(o.lr, _discriminator_lr(o) / 2)}
FASTER_DISCRIMINATOR = {"discriminator_lr": lambda o: 2 * _discriminator_lr(o)}
SLOWER_GENERATOR = {"lr": lambda o: o.lr / 2, "discriminator_lr": _discriminator_lr}
SLOWER = {"lr": lambda o: o.lr / 4,
          "discriminator_lr": lambda o: min(o.lr, _discriminator_lr(o)) / 4}  # fmt: skip
BOTH_SLOWER = {"lr": lambda o: o.lr / 4}  # of models with one learning rate
MORE_DIVERSE = {"gamma": lambda o: min(o.gamma + 0.2, 1.0)}  # began's
MORE_CRITIC_STEPS = {"critic_steps": lambda o: 2 * o.critic_steps}
WASSERSTEIN = {"loss": "wasserstein", "regularizer": "gradient-penalty",
               "normalization": _unmixed("layer")}  # fmt: skip
PENALTY = {"regularizer": "gradient-penalty", "normalization": _unmixed("layer")}
R1 = {"regularizer": "r1", "normalization": _unmixed("none")}
SPECTRAL = {"spectral_norm": True, "normalization": _unmixed("none")}
NON_SATURATING = {"loss": "non-saturating"}
PACKING = {"packing": lambda o: 2 * o.packing}
VARIATION_SHOWN = {"minibatch_stddev": True}
CLIPPED = {"clip_grad_norm": lambda o: o.clip_grad_norm / 10 or 1.0}


def propose(*ways: Way) -> Callable[[Any], str]:
    """A function of a model's options: 'try --set ..., or --set ...' of the first ways that fit."""
    return remedies.propose(*ways, check=_check)


def _check(options: Any) -> None:
    if hasattr(options, "loss"):  # one of GANOptions, of parts that combine
        check_combination(options)
