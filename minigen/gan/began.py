"""`began`: boundary equilibrium GAN (Berthelot, Schumm, Metz 2017), whose discriminator is an
autoencoder that should be good at real images and bad at generated ones.

For square images that halve to 4x4 ... 8x8. L(v) is the mean absolute error of the autoencoder.
A controller k keeps E[L(G(z))] near gamma E[L(x)] (section 3.3), and the measure L(x) + |gamma L(x)
- L(G(z))| falls as training converges (section 3.4.1).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
import minigen.kernels as kernels
from minigen import nn, optim
from minigen.gan.base import Generative
from minigen.gan.doctor import EnergyDoctor
from minigen.graph import recorded, written
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class BEGANOptions:
    """What can be set in a `began`; the defaults are the paper's but for smaller networks."""

    batch_size: int = nn.option(32, "images that a player sees in an update", least=1)
    latent: int = nn.option(64, "size of the noise vector, and of the autoencoder's code", least=1)
    channels: int = nn.option(32, "filters of each convolution", least=1)
    gamma: float = nn.option(0.5, "E[L(G(z))] / E[L(x)] at equilibrium: diversity", least=0)
    gain: float = nn.option(0.001, "how fast the controller k moves", least=0)
    lr: float = nn.option(1e-4, "learning rate of Adam, both players", least=0)
    beta1: float = nn.option(0.5, "Adam's decay of the first moment", least=0)
    ema: float = nn.option(
        0.999, "decay of the averaged generator that samples; 0 for none", least=0
    )


class BEGAN(Generative):
    """`generator`, and `discriminator`: an autoencoder of images; `k` weighs the generated."""

    Options: ClassVar[type] = BEGANOptions

    def __init__(self, options: Any, image_shape: tuple[int, int, int], *, rng: Generator):
        super().__init__(options, image_shape)
        self.generator = decoder(options, image_shape, rng=rng)
        self.discriminator = nn.Sequential(
            encoder(options, image_shape, rng=rng), decoder(options, image_shape, rng=rng)
        )
        adam = {"lr": options.lr, "betas": (options.beta1, 0.999)}
        self.generator_optimizer = optim.Adam(self.generator, **adam)
        self.discriminator_optimizer = optim.Adam(self.discriminator, **adam)
        self.ema = optim.EMA(self.generator, options.ema, warmup=True) if options.ema else None
        self.k = mg.zeros(())

    def doctor(self) -> EnergyDoctor:
        """What watches the training for collapse."""
        return EnergyDoctor(self)

    def noise(self, n: int, rng: Generator) -> Tensor:
        """z uniform in [-1, 1], (n, latent)."""
        return rng.uniform((n, self.options.latent), -1, 1)

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One update of both players and of k; the errors L(x) and L(G(z)), k, and the measure of
        convergence.
        """
        real = mg.asarray(images)
        fake = self.generate(self.noise(len(real), rng))
        judged, grads = mg.value_and_grad(self.judge, self.discriminator)(real, fake.detach())
        self.discriminator_optimizer.step(grads)

        loss = self.score(fake).mean()
        grads = mg.grad(loss, self.generator.parameters(), retain_graph=False)
        self.generator_optimizer.step(grads)
        if self.ema is not None:
            self.ema.update()
        _, of_real, of_fake = judged
        balance = self.options.gamma * of_real - of_fake
        move_controller(self.k, balance, self.options.gain)
        return {
            "discriminator": of_real,
            "generator": loss.detach(),
            "k": mg.copy(self.k),
            "convergence": of_real + mg.abs(balance),
        }

    def judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(L(x) - k L(G(z)), L(x), L(G(z))), means over the batch."""
        of_real, of_fake = self.score(real).mean(), self.score(fake).mean()
        return of_real - self.k * of_fake, of_real, of_fake

    def score(self, x: Tensor, labels: Any = None, rng: Generator | None = None) -> Tensor:
        """L: the autoencoder's mean absolute error on each image, (N, 1)."""
        return mg.abs(x - self.discriminator(x)).mean((1, 2, 3)).reshape((-1, 1))

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """Both errors on images not trained on, with 95% confidence intervals over images."""
        of_real, of_fake = [], []
        with self.evaluating(self.ema):
            for images, _ in batches:
                of_real += self.score(mg.asarray(images)).tolist()
                fake = self.generate(self.noise(len(images), rng))
                of_fake += self.score(fake).tolist()
        return {
            "discriminator_loss": nn.mean_interval(of_real),
            "generator_loss": nn.mean_interval(of_fake),
        }


@recorded
def move_controller(k: Tensor, balance: Tensor, gain: float) -> None:
    """k + gain (gamma L(x) - L(G(z))), kept in [0, 1], written into k."""
    kernels.copy_each(k.data, mg.clip(k + gain * balance, 0, 1).data)
    written(k)


def encoder(options: Any, image_shape: tuple, *, rng: Generator) -> nn.Sequential:
    """(N, C, size, size) -> (N, latent): two 3x3 convolutions a size, elu, the second at stride 2
    while the size halves, filters growing linearly.
    """
    colours, size, halvings = _sizes(image_shape)
    n = options.channels
    layers: list[nn.Module] = [nn.Conv2d(colours, n, 3, 1, 1, rng=rng), nn.ELU()]
    for i in range(1, halvings + 1):
        layers += [nn.Conv2d(n * i, n * i, 3, 1, 1, rng=rng), nn.ELU()]
        layers += [nn.Conv2d(n * i, n * (i + 1), 3, 2, 1, rng=rng), nn.ELU()]
    width = n * (halvings + 1)
    layers += [nn.Conv2d(width, width, 3, 1, 1, rng=rng), nn.ELU(), nn.Flatten()]
    return nn.Sequential(
        *layers, nn.Linear(width * (size >> halvings) ** 2, options.latent, rng=rng)
    )


def decoder(options: Any, image_shape: tuple, *, rng: Generator) -> nn.Sequential:
    """(N, latent) -> (N, C, size, size): dense to the smallest size, two 3x3 convolutions a size,
    elu, doubled to the nearest pixels; the generator is one, too.
    """
    colours, size, doublings = _sizes(image_shape)
    n, small = options.channels, size >> doublings
    layers: list[nn.Module] = [
        nn.Linear(options.latent, n * small**2, rng=rng),
        nn.Reshape(n, small, small),
    ]
    for i in range(doublings + 1):
        for _ in range(2):
            layers += [nn.Conv2d(n, n, 3, 1, 1, rng=rng), nn.ELU()]
        if i < doublings:
            layers.append(nn.Upsample(scale_factor=2))
    return nn.Sequential(*layers, nn.Conv2d(n, colours, 3, 1, 1, rng=rng))


def _sizes(image_shape: tuple) -> tuple[int, int, int]:
    """(channels, size, how often it halves to at most 8); ValueError for others."""
    colours, height, width = image_shape
    halvings = max((height - 1).bit_length() - 3, 0)
    if height != width or height % (1 << halvings) or height >> halvings < 4:
        raise ValueError(
            f"began: images are {height}x{width}, expected squares that halve to 4 ... 8 pixels,"
            " such as 28, 32 or 64"
        )
    return colours, height, halvings
