"""The same networks and training steps in PyTorch, built layer by layer from minigen's, weights
included.

Used by the benchmarks only. `to_torch` turns an `nn.Sequential` into its torch twin; each class
below is one training step, written as a PyTorch user would write it: eager, fused Adam, one memory
format for the whole network.
"""

import contextlib

import numpy as np
import torch
from torch.nn import functional as F

from minigen import nn


def to_torch(module, channels_last=False):
    """The torch twin of a minigen module, with copies of its weights."""
    twin = _convert(module)
    return twin.to(memory_format=torch.channels_last) if channels_last else twin


def _convert(m):
    t = torch.nn
    if isinstance(m, nn.Sequential):
        return t.Sequential(*[layer for child in m for layer in _listed(_convert(child))])
    if isinstance(m, nn.Linear):
        return _filled(t.Linear(m.weight.shape[1], m.weight.shape[0], m.bias is not None), m)
    if isinstance(m, nn.ConvTranspose2d):
        (i, o), k = m.weight.shape[:2], m.weight.shape[2:]
        return _filled(
            t.ConvTranspose2d(i, o, k, m.stride, m.padding, bias=m.bias is not None), m
        )
    if isinstance(m, nn.Conv2d):
        (o, i), k = m.weight.shape[:2], m.weight.shape[2:]
        return _filled(t.Conv2d(i, o, k, m.stride, m.padding, bias=m.bias is not None), m)
    if isinstance(m, nn.BatchNorm2d):
        norm = _filled(t.BatchNorm2d(m.weight.shape[0]), m)
        slope = m.negative_slope
        if slope is None:
            return norm
        return [norm, t.ReLU(True) if slope == 0 else t.LeakyReLU(slope, True)]
    if isinstance(m, nn.LeakyReLU):
        return t.LeakyReLU(m.negative_slope, True)
    if isinstance(m, nn.Reshape):
        return t.Unflatten(1, m.shape)
    plain = {nn.ReLU: lambda: t.ReLU(True), nn.Tanh: t.Tanh, nn.Flatten: t.Flatten}
    return plain[type(m)]()


def _listed(m):
    return m if isinstance(m, list) else [m]


def _filled(twin, m):
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(getattr(m, name).numpy())))
    return twin


def _adam(network, lr, betas=(0.9, 0.999)):
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, fused=True)


class GANStep:
    """The step of minigen.gan.GAN: discriminator on real and fake, then the generator through it.
    """

    def __init__(self, model, channels_last=False, compile=False):
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = to_torch(model.generator, channels_last)
        self.discriminator = to_torch(model.discriminator, channels_last)
        options = model.options
        self.g_optimizer = _adam(self.generator, options.lr, (options.beta1, 0.999))
        self.d_optimizer = _adam(self.discriminator, options.lr, (options.beta1, 0.999))
        self.g, self.d = self.generator, self.discriminator
        if compile:
            self.g, self.d = torch.compile(self.g), torch.compile(self.d)

    def __call__(self, real, noise):
        real = torch.from_numpy(real).contiguous(memory_format=self.format)
        fake = self.g(torch.from_numpy(noise))

        d_loss = F.softplus(-self.d(real)).mean() + F.softplus(self.d(fake.detach())).mean()
        self.d_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        self.d_optimizer.step()

        with _frozen(self.discriminator):
            g_loss = F.softplus(-self.d(fake)).mean()
            self.g_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
        self.g_optimizer.step()
        return d_loss.item(), g_loss.item()


class CriticStep:
    """The critic's step of WGAN-GP (Gulrajani et al. 2017, Algorithm 1)."""

    def __init__(self, critic, generator, lr, betas, weight, channels_last=False, compile=False):
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.critic = to_torch(critic, channels_last)
        self.generator = to_torch(generator, channels_last)
        self.optimizer = _adam(self.critic, lr, betas)
        self.weight = weight  # torch.compile cannot differentiate twice, so this step stays eager

    def __call__(self, real, noise, mixing):
        real = torch.from_numpy(real).contiguous(memory_format=self.format)
        with torch.no_grad():
            fake = self.generator(torch.from_numpy(noise))
        mix = torch.lerp(fake, real, torch.from_numpy(mixing)).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(mix).sum(), mix, create_graph=True)
        penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        loss = self.critic(fake).mean() - self.critic(real).mean() + self.weight * penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)


class VAEStep:
    """The step of minigen.vae.VAE with the Bernoulli likelihood."""

    def __init__(self, model, channels_last=False, compile=False):
        self.encoder, self.decoder = to_torch(model.encoder), to_torch(model.decoder)
        self.latent = model.options.latent
        both = torch.nn.ModuleList([self.encoder, self.decoder])
        self.optimizer = _adam(both, model.options.lr)
        self.loss = torch.compile(self._loss) if compile else self._loss

    def _loss(self, x, noise):
        mu, log_var = self.encoder(x).split(self.latent, 1)
        z = mu + torch.exp(0.5 * log_var) * noise
        nll = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum()
        return (nll + kl) / len(x)

    def __call__(self, images, noise):
        loss = self.loss(torch.from_numpy(images).flatten(1), torch.from_numpy(noise))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)


@contextlib.contextmanager
def _frozen(network):
    """Inside, no gradients are computed for the network's parameters."""
    for p in network.parameters():
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in network.parameters():
            p.requires_grad_(True)
