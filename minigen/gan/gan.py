"""`gan`: the generative adversarial network of Goodfellow et al. (2014), Algorithm 1, and what all
GANs after it change: the loss, what keeps the discriminator smooth, the networks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
from minigen import nn, optim
from minigen.gan import diff_augment, networks
from minigen.gan.base import Generative
from minigen.gan.doctor import GANDoctor
from minigen.gan.losses import LOSSES, Loss
from minigen.gan.options import check_combination
from minigen.gan.regularizers import REGULARIZERS, Penalty, WeightClipping
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class GANOptions:
    """What can be set in a `gan`; the defaults are the source's.

    Other models have the same options with other defaults.
    """

    batch_size: int = nn.option(100, "images that a player sees in an update", least=1)
    latent: int = nn.option(100, "size of the noise vector z", least=1)
    network: str = nn.option("dense", "both players' networks", tuple(networks.NETWORKS))
    channels: int = nn.option(
        64, "width of the first layer of the discriminator, on which the others' depends", least=1
    )
    loss: str = nn.option("non-saturating", "what the players minimise", tuple(LOSSES))
    regularizer: str = nn.option("none", "what keeps the discriminator smooth", tuple(REGULARIZERS))
    regularizer_weight: float | None = nn.option(
        None, "its weight, or weight-clipping's limit; none: the paper's", least=0
    )
    normalization: str = nn.option(
        "none", "of the discriminator's hidden layers", ("none", "batch", "layer", "instance")
    )
    spectral_norm: bool = nn.option(False, "divide the discriminator's weights by their norm")
    minibatch_stddev: bool = nn.option(False, "show the discriminator how a batch varies")
    packing: int = nn.option(1, "images that the discriminator decides on together", least=1)
    conditional: str = nn.option(
        "none", "how the networks are told the class", ("none", "embedding", "projection")
    )
    classes: int = nn.option(10, "how many classes there are, if conditional", least=1)
    critic_steps: int = nn.option(1, "updates of the discriminator in a step", least=1)
    lr: float = nn.option(2e-4, "learning rate of both players", least=0)
    discriminator_lr: float | None = nn.option(
        None, "the discriminator's learning rate; none: lr", least=0
    )
    optimizer: str = nn.option("adam", "of both players", ("adam", "rmsprop"))
    beta1: float = nn.option(0.5, "Adam's decay of the first moment (not rmsprop's)", least=0)
    beta2: float = nn.option(0.999, "Adam's decay of the second moment (not rmsprop's)", least=0)
    clip_grad_norm: float = nn.option(
        0.0, "largest norm of each player's gradient; 0: any", least=0
    )
    orthogonal: float = nn.option(
        0.0, "weight of the generator's orthogonal regularisation", least=0
    )
    diff_augment: str = nn.option("", "jitter what is judged, as in 'color,translation,cutout'")
    ema: float = nn.option(
        0.999, "decay of the averaged generator that samples; 0 for none", least=0
    )


class GAN(Generative):
    """Two players: `generator` makes images in [-1, 1] from noise, `discriminator` gives each
    image, or pack of images, a decision.

    `step` is one update of the generator after `critic_steps` of the discriminator.
    """

    Options: ClassVar[type] = GANOptions

    def __init__(self, options: Any, image_shape: tuple[int, int, int], *, rng: Generator):
        super().__init__(options, image_shape)
        check_combination(options)
        self.generator = self.make_generator(rng)
        self.discriminator = self.make_discriminator(rng)
        d_lr = options.lr if options.discriminator_lr is None else options.discriminator_lr
        self.generator_optimizer = self.make_optimizer(self.generator, options.lr)
        self.discriminator_optimizer = self.make_optimizer(self.discriminator, d_lr)
        self.ema = optim.EMA(self.generator, options.ema, warmup=True) if options.ema else None

    @property
    def loss(self) -> Loss:
        """What the players minimise."""
        return LOSSES[self.options.loss]

    @property
    def images_per_step(self) -> int:
        """How many real images `step` takes."""
        return self.options.batch_size * self.options.critic_steps

    def doctor(self) -> GANDoctor:
        """What watches the training for collapse."""
        return GANDoctor(self)

    def make_generator(self, rng: Generator) -> nn.Module:
        """z (N, latent), and labels (N,) if conditional, -> images (N, C, H, W) in [-1, 1]."""
        return networks.make_generator(self.options, self.image_shape, rng=rng)

    def make_discriminator(self, rng: Generator) -> nn.Module:
        """Packs of images (N, packing C, H, W), and labels if conditional, -> decisions (N, 1)."""
        return networks.make_discriminator(self.options, self.image_shape, rng=rng)

    def make_optimizer(self, network: nn.Module, lr: float) -> Any:
        """Adam or RMSprop for one player."""
        if self.options.optimizer == "rmsprop":
            return optim.RMSprop(network, lr=lr)
        return optim.Adam(network, lr=lr, betas=(self.options.beta1, self.options.beta2))

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One update of the generator on real images (critic_steps * batch_size, C, H, W) in [-1,
        1]; the losses, and the penalty before its weight.
        """
        real, labels = mg.asarray(images), self.known(labels)
        size = self._batch_of(len(real))
        for last in range(size, len(real) + 1, size):
            batch = real[last - size : last]
            kinds = None if labels is None else labels[last - size : last]
            with mg.set_grad_enabled(last + size > len(real)):  # the generator learns by the last
                fake = self.generate(self.noise(size, rng), kinds)
            d_losses = self.update_discriminator(batch, fake.detach(), kinds, rng)
        return {**d_losses, "generator": self.update_generator(fake, kinds, rng)}

    def update_discriminator(
        self, real: Tensor, fake: Tensor, labels: Any, rng: Generator
    ) -> dict[str, Tensor]:
        """One step of the discriminator's optimiser; its loss and penalty."""
        judged, grads = mg.value_and_grad(self.judge, self.discriminator)(real, fake, labels, rng)
        self.discriminator_optimizer.step(self._clipped(grads))
        regularizer = REGULARIZERS[self.options.regularizer]
        if isinstance(regularizer, WeightClipping):
            regularizer.constrain(self.discriminator, self._weight(regularizer))
        return dict(zip(("discriminator", "penalty"), judged[1:], strict=False))

    def update_generator(self, fake: Tensor, labels: Any, rng: Generator) -> Tensor:
        """One step of the generator's optimiser, through the images that it made; its loss."""
        loss = self.loss.generator(self.score(fake, labels, rng))
        total = loss
        if self.options.orthogonal:
            total = loss + self.options.orthogonal * nn.orthogonal_penalty(self.generator)
        # Layers that are not in use (yet) get no gradient, and no step of the optimiser.
        weights = self.generator.parameters()
        grads = mg.grad(total, weights, allow_unused=True, retain_graph=False)
        self.generator_optimizer.step(self._clipped(grads))
        if self.ema is not None:
            self.ema.update()
        return loss.detach()

    def judge(self, real: Tensor, fake: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """(all that the discriminator minimises, its loss[, the penalty]) on a batch of each kind,
        each normalised by itself.
        """
        real, fake = self.shown(real, rng), self.shown(fake, rng)
        loss = self.loss.discriminator(self.decide(real, labels), self.decide(fake, labels))
        regularizer = REGULARIZERS[self.options.regularizer]
        if not isinstance(regularizer, Penalty):
            return loss, loss
        critic = lambda x: self.decide(x, labels)
        penalty = regularizer.function(critic, real, fake, rng=rng)
        return loss + self._weight(regularizer) * penalty, loss, penalty

    def score(self, x: Tensor, labels: Any = None, rng: Generator | None = None) -> Tensor:
        """Decisions (N / packing, 1) on images (N, C, H, W); with `rng`, as seen in training."""
        return self.decide(self.shown(x, rng), labels)

    def shown(self, x: Tensor, rng: Generator | None) -> Tensor:
        """Images as the discriminator is shown them: augmented, if there is an rng, and packed."""
        if self.options.diff_augment and rng is not None:
            x = diff_augment.diff_augment(x, self.options.diff_augment, rng=rng)
        m = self.options.packing
        return x if m == 1 else x.reshape((len(x) // m, m * x.shape[1], *x.shape[2:]))

    def decide(self, x: Tensor, labels: Any) -> Tensor:
        """The discriminator's outputs on images as `shown`."""
        return self.discriminator(x) if labels is None else self.discriminator(x, labels)

    def _batch_of(self, images: int) -> int:
        """How many of a step's images each update gets."""
        size, rest = divmod(images, self.options.critic_steps)
        if rest or not size:
            raise ValueError(
                f"{type(self).__name__}: a step got {images} images, expected a multiple of"
                f" critic_steps {self.options.critic_steps}"
            )
        return size

    def _weight(self, regularizer: Penalty | WeightClipping) -> float:
        given = self.options.regularizer_weight
        return regularizer.weight if given is None else given

    def _clipped(self, grads: Any) -> Any:
        limit = self.options.clip_grad_norm
        return optim.clip_grad_norm(grads, limit)[0] if limit else grads

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """Both losses on images not trained on, with 95% confidence intervals over images."""
        loss, m = self.loss, self.options.packing
        d_loss, g_loss = [], []
        with self.evaluating(self.ema):
            for images, labels in batches:
                n = len(images) // m * m
                kinds = self.known(labels)
                kinds = None if kinds is None else kinds[:n]
                real = self.score(mg.asarray(images)[:n], kinds)
                fake = self.score(self.generate(self.noise(n, rng), kinds), kinds)
                for r, f in zip(real.to("cpu"), fake.to("cpu"), strict=True):
                    d_loss.append(loss.discriminator(r, f).item())
                    g_loss.append(loss.generator(f).item())
        return {
            "discriminator_loss": nn.mean_interval(d_loss),
            "generator_loss": nn.mean_interval(g_loss),
        }
