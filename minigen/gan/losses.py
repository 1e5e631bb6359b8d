"""What a discriminator and a generator minimise, on logits: a table from the option's name to the
function.
"""

import minigen as mg
from minigen.tensor import Tensor


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] from logits (Goodfellow et al. 2014, eq. 1); 2 ln 2 where
    D = 1/2.

    log D = -softplus(-logit) and log(1 - D) = -softplus(logit), which no logit can overflow.
    """
    return mg.softplus(-real).mean() + mg.softplus(fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))]: the generator's side of the game; flat where D is sure."""
    return -mg.softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E[log D(G(z))]: the same fixed point, with gradients where the discriminator is sure
    (section 3).
    """
    return mg.softplus(-fake).mean()


GENERATOR_LOSSES = {"non-saturating": non_saturating, "minimax": minimax}
