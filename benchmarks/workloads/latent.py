"""Codes and bounds: minigen's `vae`, a convolutional VAE, and MINE's estimate of mutual
information.
"""

import math

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.vae.vae import VAE, VAEOptions

from .base import Workload, images, relu


class DenseVAE(Workload):
    """The step of minigen's `vae`: 784-128-64-(2+2), 2-256-128-784, Bernoulli."""

    captured = True
    formats = ("contiguous",)

    def __init__(self, batch=32):
        super().__init__()
        self.model = VAE(VAEOptions(batch_size=batch), (1, 28, 28), rng=mg.Generator(1))
        self.inputs = (images(batch, 1, 28, 28) / 2 + 0.5,)

    def train(self, x, rng):
        return (self.model.step(x, None, rng)["loss"],)

    def draw(self, rng):
        shape = (len(self.inputs[0]), self.model.options.latent)
        return (rng.normal(shape, dtype=self.dtype).numpy(),)

    def peer(self, how):
        from peers import VAEStep
        from twins import to_torch

        encoder, decoder = (to_torch(m, how) for m in (self.model.encoder, self.model.decoder))
        return VAEStep(encoder, decoder, self.model.options.lr, how)


class ConvVAE(Workload):
    """32x32 images in colour, 64 latents, Bernoulli: convolutions 4x4 stride 2 of 32, 64, 128
    channels and the same backwards, relu, Adam(1e-3).
    """

    def __init__(self, batch=64, latent=64, seed=1):
        super().__init__()
        rng, self.latent = mg.Generator(seed), latent
        self.encoder = nn.Sequential(
            *relu(nn.Conv2d(3, 32, 4, 2, 1, rng=rng)),
            *relu(nn.Conv2d(32, 64, 4, 2, 1, rng=rng)),
            *relu(nn.Conv2d(64, 128, 4, 2, 1, rng=rng)),
            nn.Flatten(),
            nn.Linear(128 * 4 * 4, 2 * latent, rng=rng),
        )
        self.decoder = nn.Sequential(
            *relu(nn.Linear(latent, 128 * 4 * 4, rng=rng)),
            nn.Reshape(128, 4, 4),
            *relu(nn.ConvTranspose2d(128, 64, 4, 2, 1, rng=rng)),
            *relu(nn.ConvTranspose2d(64, 32, 4, 2, 1, rng=rng)),
            nn.ConvTranspose2d(32, 3, 4, 2, 1, rng=rng),
        )
        self.both = nn.ModuleList([self.encoder, self.decoder])
        self.optimizer = optim.Adam(self.both, lr=1e-3)
        self.inputs = (images(batch, 3, 32, 32) / 2 + 0.5,)

    def loss(self, x, rng):
        mu, log_var = mg.split(self.encoder(x), 2, axis=1)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        nll = mg.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (nll + kl.sum()) / len(x)

    def train(self, x, rng):
        loss, grads = mg.value_and_grad(self.loss, self.both)(mg.asarray(x), rng)
        self.optimizer.step(grads)
        return (loss,)

    def draw(self, rng):
        return (rng.normal((len(self.inputs[0]), self.latent), dtype=self.dtype).numpy(),)

    def peer(self, how):
        from peers import VAEStep
        from twins import to_torch

        encoder, decoder = (to_torch(m, how) for m in (self.encoder, self.decoder))
        return VAEStep(encoder, decoder, 1e-3, how)


class MINE(Workload):
    """The Donsker-Varadhan bound of Belghazi et al. 2018 (eq. 10) between two 20-d Gaussians that
    correlate by 0.67: a network 40-256-256-1, the marginal by shuffling, Adam(1e-3).
    """

    captured = True
    formats = ("contiguous",)

    def __init__(self, batch=256):
        super().__init__()
        rng = mg.Generator(1)
        self.critic = nn.Sequential(
            *relu(nn.Linear(40, 256, rng=rng)),
            *relu(nn.Linear(256, 256, rng=rng)),
            nn.Linear(256, 1, rng=rng),
        )
        self.optimizer = optim.Adam(self.critic, lr=1e-3)
        x, noise = np.random.default_rng(0).standard_normal((2, batch, 20)).astype(np.float32)
        self.inputs = (x, np.float32(0.67) * x + np.float32(math.sqrt(1 - 0.67**2)) * noise)

    def loss(self, x, y, shuffled):
        joint = self.critic(mg.concatenate([x, y], axis=1)).mean()
        marginal = self.critic(mg.concatenate([x, shuffled], axis=1))
        return mg.logsumexp(marginal) - math.log(len(x)) - joint

    def train(self, x, y, rng):
        x, y = mg.asarray(x), mg.asarray(y)
        shuffled = y[rng.permutation(len(y))]
        loss, grads = mg.value_and_grad(self.loss, self.critic)(x, y, shuffled)
        self.optimizer.step(grads)
        return (loss,)

    def draw(self, rng):
        return (rng.permutation(len(self.inputs[0])).numpy(),)

    def peer(self, how):
        from peers import MINEStep
        from twins import to_torch

        return MINEStep(to_torch(self.critic, how), 1e-3, how)
