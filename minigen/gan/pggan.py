"""`pggan`: progressive growing of GANs (Karras et al. 2017), for square images of 28, 32, 64 or 128
pixels.

Training begins at 4x4 pixels (7x7 for 28) and doubles them in phases of `phase_steps` steps: a new
resolution is faded in, then all layers go on together. The players are those of `wgan-gp`, with the
paper's ways to keep them in balance: minibatch standard deviation, equalised learning rate, pixel
norm, and a penalty on the drift of the critic's outputs.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
from minigen import nn
from minigen.gan.doctor import GANDoctor
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.growing import (
    GrowingDiscriminator,
    GrowingGenerator,
    Growth,
    averaged,
    enlarged,
)
from minigen.gan.losses import Loss
from minigen.gan.networks import LabelledDiscriminator, LabelledGenerator, square_size
from minigen.gan.regularizers import REGULARIZERS
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class PGGANOptions(GANOptions):
    """What can be set in a `pggan`; the defaults are the paper's, but for smaller networks and a
    tenfold learning rate: 0.001 is for phases of 40 thousand steps.
    """

    batch_size: int = nn.default(GANOptions, "batch_size", 64)
    latent: int = nn.default(GANOptions, "latent", 128)
    network: str = nn.option("progressive", "both players' networks", ("progressive",))
    channels: int = nn.option(
        16, "channels at full size, twice as many at each halving, up to 512", least=1
    )
    phase_steps: int = nn.option(1000, "steps from one resolution to the next", least=1)
    grow: bool = nn.option(True, "grow; false: full size from the beginning")
    drift: float = nn.option(0.001, "weight of the mean square of D(x)", least=0)
    loss: str = nn.default(GANOptions, "loss", "wasserstein")
    regularizer: str = nn.option(
        "gradient-penalty",
        "what keeps the discriminator smooth",
        tuple(name for name in REGULARIZERS if name != "weight-clipping"),  # weights are N(0, 1)
    )
    normalization: str = nn.option("none", "of the discriminator's hidden layers", ("none",))
    minibatch_stddev: bool = nn.default(GANOptions, "minibatch_stddev", True)
    conditional: str = nn.option(
        "none", "how the networks are told the class", ("none", "embedding")
    )
    lr: float = nn.default(GANOptions, "lr", 0.01)
    beta1: float = nn.default(GANOptions, "beta1", 0.0)
    beta2: float = nn.default(GANOptions, "beta2", 0.99)


@dataclass(frozen=True)
class Drifting:
    """A loss, and `weight` * E[D(x)^2], which keeps the critic's outputs near 0 (Karras et al.
    2017, appendix A.1).
    """

    loss: Loss
    weight: float

    @property
    def outputs(self) -> str:
        return self.loss.outputs

    @property
    def undecided(self) -> float | None:
        return self.loss.undecided

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.loss.discriminator(real, fake) + self.weight * (real**2).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return self.loss.generator(fake)


class PGGAN(GAN):
    """GAN whose networks grow; `image_shape` is (C, size, size) of UPSAMPLINGS.

    Samples have full size at any time. A layer's Adam begins with the layer: until then it gets no
    gradient, and no step is counted for it.
    """

    Options: ClassVar[type] = PGGANOptions

    def __init__(self, options: Any, image_shape: tuple[int, int, int], *, rng: Generator):
        _, size, doublings = square_size("pggan", image_shape)
        if options.spectral_norm:
            raise ValueError(
                "spectral_norm=true: pggan scales its weights already, by a constant (equalised"
                " learning rate); set spectral_norm=false"
            )
        if options.orthogonal:
            raise ValueError(
                f"orthogonal={options.orthogonal}: it would move pggan's layers before they come"
                " in; set orthogonal=0"
            )
        sizes = tuple(size >> i for i in range(doublings, -1, -1))
        self.growth = Growth(sizes, options.phase_steps, options.grow)
        super().__init__(options, image_shape, rng=rng)

    @property
    def loss(self) -> Any:
        return Drifting(super().loss, self.options.drift)

    def notice(self, steps: int) -> str:
        growth, o = self.growth, self.options
        grown = o.phase_steps * (len(growth.sizes) - 1)
        if not o.grow or steps > grown:
            return ""
        size, full = growth.sizes[(steps - 1) // o.phase_steps], growth.sizes[-1]
        return (
            f"pggan: {steps} steps of phase_steps={o.phase_steps} end at {size}x{size} pixels; for"
            f" {full}x{full} give more than --steps {grown}, or --set"
            f" phase_steps={max(steps // len(growth.sizes), 1)}"
        )

    def doctor(self) -> GANDoctor:
        return GANDoctor(self, real=self.faded)

    def make_generator(self, rng: Generator) -> nn.Module:
        o, labelled = self.options, self.options.conditional != "none"
        inputs, colours = o.latent * (1 + labelled), self.image_shape[0]
        network = GrowingGenerator(self.growth, inputs, o.channels, colours, rng=rng)
        return LabelledGenerator(network, o.classes, o.latent, rng=rng) if labelled else network

    def make_discriminator(self, rng: Generator) -> nn.Module:
        o, labelled = self.options, self.options.conditional != "none"
        inputs = self.image_shape[0] * o.packing + labelled
        network = GrowingDiscriminator(self.growth, inputs, o.channels, o.minibatch_stddev, rng=rng)
        if not labelled:
            return network
        return LabelledDiscriminator(network, o.classes, self.image_shape[1:], rng=rng)

    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """GAN's step on real images faded as the generated ones are; the growth counts it.

        Not one to be replayed as a CUDA graph: layers come in with the phases, and alpha changes
        from step to step.
        """
        if self.ema is not None and self.growth.begins:
            self.ema.updates = 0  # warms up anew: what the new layers were at first is soon gone
        losses = super().step(self.faded(mg.asarray(images)), labels, rng)
        self.growth.steps += 1
        return losses

    def faded(self, images: Tensor) -> Tensor:
        """Real images of full size with as much of the newest resolution as alpha says."""
        level, alpha = self.growth.level, self.growth.alpha
        if alpha == 1:
            return images
        factor = self.growth.factor(level - 1)
        return mg.lerp(enlarged(averaged(images, factor), factor), images, alpha)
