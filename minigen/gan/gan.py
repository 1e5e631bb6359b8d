"""`gan`: the generative adversarial network of Goodfellow et al. (2014), Algorithm 1, and its two
small networks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.gan.losses import GENERATOR_LOSSES, discriminator_loss
from minigen.random import Generator
from minigen.tensor import Tensor


@dataclass(frozen=True)
class GANOptions:
    """What can be set in a `gan`; the defaults are the source's."""

    batch_size: int = nn.option(100, "images in a step", least=1)
    latent: int = nn.option(100, "size of the noise vector z", least=1)
    lr: float = nn.option(2e-4, "learning rate of Adam, both networks", least=0)
    beta1: float = nn.option(0.5, "Adam's decay of the first moment", least=0)
    generator_loss: str = nn.option(
        "non-saturating", "what the generator minimises", tuple(GENERATOR_LOSSES)
    )
    ema: float = nn.option(
        0.999, "decay of the averaged generator that samples; 0 for none", least=0
    )


class GAN(nn.Model):
    """Two players: `generator` makes images in [-1, 1] from noise, `discriminator` gives each
    image a logit.
    """

    Options = GANOptions
    value_range = (-1.0, 1.0)

    def __init__(self, options: Any, image_shape: tuple[int, int, int], *, rng: Generator):
        super().__init__(options, image_shape)
        self.generator = self.make_generator(rng)
        self.discriminator = self.make_discriminator(rng)
        adam = {"lr": options.lr, "betas": (options.beta1, 0.999)}
        self.generator_optimizer = optim.Adam(self.generator, **adam)
        self.discriminator_optimizer = optim.Adam(self.discriminator, **adam)
        self.ema = optim.EMA(self.generator, options.ema, warmup=True) if options.ema else None

    def make_generator(self, rng: Generator) -> nn.Module:
        """Dense 100-256-512-512-C*H*W, relu, tanh."""
        pixels = int(np.prod(self.image_shape))
        sizes = [self.options.latent, 256, 512, 512]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b, rng=rng), nn.ReLU()]
        return nn.Sequential(
            *layers, nn.Linear(512, pixels, rng=rng), nn.Tanh(), nn.Reshape(*self.image_shape)
        )

    def make_discriminator(self, rng: Generator) -> nn.Module:
        """Convolutions 3x3 of 64, 128, 256 channels at stride 2 and 512 at stride 1, relu, dense
        1.
        """
        channels, height, width = self.image_shape
        layers: list[nn.Module] = []
        for out, stride in ((64, 2), (128, 2), (256, 2), (512, 1)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1, rng=rng), nn.ReLU()]
            channels, height, width = out, -(-height // stride), -(-width // stride)
        return nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * height * width, 1, rng=rng)
        )

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One step of each player on a batch (N, C, H, W) of real images in [-1, 1]; the losses in
        nats.
        """
        real = mg.asarray(images)
        fake = self.generator(self.noise(len(real), rng))

        d_loss, grads = mg.value_and_grad(self.judge, self.discriminator)(real, fake.detach())
        self.discriminator_optimizer.step(grads)

        g_loss = GENERATOR_LOSSES[self.options.generator_loss](self.discriminator(fake))
        grads = mg.grad(g_loss, self.generator.parameters(), retain_graph=False)
        self.generator_optimizer.step(grads)
        if self.ema is not None:
            self.ema.update()
        return {"discriminator": d_loss, "generator": g_loss.detach()}

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss on a batch of each kind, each normalised by itself."""
        return discriminator_loss(self.discriminator(real), self.discriminator(fake))

    def noise(self, n: int, rng: Generator) -> Tensor:
        return rng.normal((n, self.options.latent))

    def sample(self, n: int, rng: Generator) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1] from the averaged generator."""
        return self.decode(self.noise(n, rng))

    def interpolate(self, n: int, rng: Generator) -> np.ndarray:
        """n images on the great circle between two noise vectors (White 2016)."""
        a, b = self.noise(2, rng).numpy().astype(np.float64)
        angle = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
        t = np.linspace(0, 1, n)[:, None]
        z = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
        return self.decode(mg.asarray(z.astype(np.float32), device=self.device))

    @mg.no_grad()
    def decode(self, z: Tensor) -> np.ndarray:
        """Images in [0, 1] of noise vectors, by the generator in evaluation mode, 256 at a time."""
        with self.evaluating(self.ema):
            parts = [self.generator(z[i : i + 256]).numpy() for i in range(0, len(z), 256)]
        return np.clip(np.concatenate(parts) / 2 + 0.5, 0, 1)

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """Both losses on images not trained on, with 95% confidence intervals over images."""
        loss = GENERATOR_LOSSES[self.options.generator_loss]
        d_loss, g_loss = [], []
        with self.evaluating(self.ema):
            for images, _ in batches:
                real = self.discriminator(mg.asarray(images))
                fake = self.discriminator(self.generator(self.noise(len(images), rng)))
                for r, f in zip(real.to("cpu"), fake.to("cpu"), strict=True):
                    d_loss.append(discriminator_loss(r, f).item())
                    g_loss.append(loss(f).item())
        return {
            "discriminator_loss": nn.mean_interval(d_loss),
            "generator_loss": nn.mean_interval(g_loss),
        }
