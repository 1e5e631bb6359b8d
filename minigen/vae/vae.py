"""`vae`: the variational autoencoder of Kingma & Welling (2013), with dense networks."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.ops.logits import logit_cost
from minigen.random import Generator
from minigen.tensor import Tensor

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class VAEOptions:
    """What can be set in a `vae`; the layer sizes are the source's."""

    batch_size: int = nn.option(32, "images in a step", least=1)
    latent: int = nn.option(2, "numbers in the latent code z", least=1)
    encoder: tuple[int, ...] = nn.option((128, 64), "sizes of the encoder's hidden layers", least=1)
    decoder: tuple[int, ...] = nn.option(
        (256, 128), "sizes of the decoder's hidden layers", least=1
    )
    likelihood: str = nn.option("bernoulli", "p(x | z) of a pixel", ("bernoulli", "gaussian"))
    sigma: float = nn.option(
        0.1, "standard deviation of the gaussian likelihood; 0 to learn it", least=0
    )
    lr: float = nn.option(1e-3, "learning rate of Adam", least=0)


class VAE(nn.Model):
    """q(z | x) = N(mu, sigma^2) from the encoder, p(x | z) from the decoder, p(z) = N(0, I)."""

    Options = VAEOptions
    value_range = (0.0, 1.0)

    def __init__(self, options: VAEOptions, image_shape: tuple[int, ...], *, rng: Generator):
        super().__init__(options, image_shape)
        pixels = int(np.prod(image_shape))
        self.encoder = dense(pixels, *options.encoder, 2 * options.latent, rng=rng)
        self.decoder = dense(options.latent, *options.decoder, pixels, rng=rng)
        self.log_sigma = mg.tensor(np.float32(np.log(options.sigma or 1.0)))
        self.log_sigma.requires_grad = options.likelihood == "gaussian" and options.sigma == 0
        self.optimizer = optim.Adam(self, lr=options.lr)
        self._captured: set[tuple] = set()  # what `update` uses; modules do not walk sets

    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One step of Adam on the negative evidence lower bound of a batch (N, C, H, W) in [0, 1];
        nats an image.

        The step is captured, and captured again once an attribute that it uses is another object.
        """
        nets = (self.encoder, self.decoder, self.log_sigma)
        parts = (*nets, self.optimizer, self.options.likelihood, self.training)
        if parts not in self._captured:
            self.update = mg.capture(self._update)  # small ops: a replay takes 2/3 of the time
            self._captured = {parts}
        return self.update(mg.asarray(images), rng)

    def _update(self, images: Tensor, rng: Generator) -> dict[str, Tensor]:
        (loss, reconstruction, kl), grads = mg.value_and_grad(self.loss, self)(images, rng)
        self.optimizer.step(grads)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def loss(self, images: Any, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(-ELBO, E_q[-log p(x | z)], KL(q(z | x) || p(z))), means over the batch, in nats (eq.
        10).
        """
        nll, kl = self.bound(mg.asarray(images), rng)
        nll, kl = nll.mean(), kl.mean()
        return nll + kl, nll, kl

    def bound(self, images: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """(-log p(x | z), KL) of each image, both (N,), with one z ~ q(z | x)."""
        x = images.reshape(len(images), -1)
        mu, log_var = self.encode(x)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        return self.nll(x, self.decoder(z)), kl.sum(1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2 of q(z | x), each (N, latent), of flat images (N, pixels)."""
        mu, log_var = mg.split(self.encoder(x), 2, axis=1)
        return mu, log_var

    def nll(self, x: Tensor, out: Tensor) -> Tensor:
        """-log p(x | z) summed over pixels, (N,), in nats; `out` is the decoder's last layer, (N,
        pixels).
        """
        if self.options.likelihood == "bernoulli":  # out holds logits
            return logit_cost(out, x, 1)
        scaled = (x - out) * mg.exp(-self.log_sigma)
        return 0.5 * (scaled * scaled).sum(1) + (self.log_sigma + 0.5 * LOG_2PI) * x.shape[1]

    @mg.no_grad()
    def decode(self, z: Tensor) -> np.ndarray:
        """The mean image of each code, (n, C, H, W) in [0, 1]."""
        out = self.decoder(z)
        out = mg.sigmoid(out) if self.options.likelihood == "bernoulli" else mg.clip(out, 0, 1)
        return out.numpy().reshape(-1, *self.image_shape)

    def sample(self, n: int, rng: Generator) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1]: the means of p(x | z), z ~ N(0, I)."""
        return self.decode(rng.normal((n, self.options.latent)))

    def interpolate(self, n: int, rng: Generator) -> np.ndarray:
        """n images on the straight line between two codes."""
        a, b = rng.normal((2, self.options.latent)).numpy()
        t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        return self.decode(mg.asarray((1 - t) * a + t * b, device=self.device))

    @mg.no_grad()
    def reconstruct(self, images: Any) -> np.ndarray:
        """The images decoded from the means of their codes, (N, C, H, W) in [0, 1]."""
        x = mg.asarray(images)
        return self.decode(self.encode(x.reshape(len(x), -1))[0])

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """-ELBO and its parts in nats an image, and the mean squared error of reconstructions,
        with 95% intervals.
        """
        nlls, kls, errors = [], [], []
        for images, _ in batches:
            nll, kl = self.bound(mg.asarray(images), rng)
            nlls += nll.tolist()
            kls += kl.tolist()
            gaps = self.reconstruct(images) - mg.asarray(images).numpy()
            errors += (gaps**2).mean((1, 2, 3)).tolist()
        return {
            "negative_elbo": nn.mean_interval(np.add(nlls, kls)),
            "reconstruction": nn.mean_interval(nlls),
            "kl": nn.mean_interval(kls),
            "reconstruction_mse": nn.mean_interval(errors),
        }


def dense(*sizes: int, rng: Generator) -> nn.Sequential:
    """Linear layers of the given sizes with relu between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, rng=rng), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
