"""The named training steps that `train_step.py` times: each holds a model, a batch, and its peers.

A workload has `step()` in minigen and `peers()`: the same step in PyTorch by memory format. The
peer gets its noise ready-made; minigen draws its own inside the step.
"""

import numpy as np

import minigen as mg
from minigen import kernels, nn, optim
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.regularizers import gradient_penalty
from minigen.vae.vae import VAE, VAEOptions


class GANWorkload:
    """Both players' step; no averaged generator, since the peer keeps none."""

    def __init__(self, model_class, options, image_shape):
        self.rng = mg.Generator(0)
        self.model = model_class(options, image_shape, rng=mg.Generator(1))
        self.images = _images(options.batch_size, image_shape)
        self.noise = _normal(options.batch_size, options.latent)

    def step(self):
        losses = self.model.step(self.images, None, self.rng)
        return {k: v.item() for k, v in losses.items()}

    def peers(self, compile=False):
        from peers import GANStep

        return {
            label: _bind(GANStep(self.model, last, compile), self.images, self.noise)
            for label, last in (("contiguous", False), ("channels-last", True))
        }


class VAEWorkload:
    def __init__(self):
        options = VAEOptions()
        self.rng = mg.Generator(0)
        self.model = VAE(options, (1, 28, 28), rng=mg.Generator(1))
        self.images = _images(options.batch_size, (1, 28, 28)) / 2 + 0.5
        self.noise = _normal(options.batch_size, options.latent)

    def step(self):
        return self.model.step(self.images, None, self.rng)["loss"].item()

    def peers(self, compile=False):
        from peers import VAEStep

        return {"contiguous": _bind(VAEStep(self.model, compile=compile), self.images, self.noise)}


class CriticWorkload:
    """The critic's step of WGAN-GP at 32x32: 32 base channels, batch 64, penalty weight 10,
    Adam(1e-4, 0, 0.9).
    """

    def __init__(self):
        options = DCGANOptions(batch_size=64, channels=32)
        generator = DCGAN(options, (3, 32, 32), rng=mg.Generator(1)).generator
        self.generator = generator
        self.rng = mg.Generator(0)
        rng = mg.Generator(2)
        layers, width = [nn.Conv2d(3, 32, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2)], 32
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2)]
            width *= 2
        self.critic = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, rng=rng), nn.Flatten())
        self.optimizer = optim.Adam(self.critic, lr=1e-4, betas=(0.0, 0.9))
        self.images = _images(64, (3, 32, 32))

    def loss(self, real, fake):
        penalty = gradient_penalty(self.critic, real, fake, rng=self.rng)
        return self.critic(fake).mean() - self.critic(real).mean() + 10 * penalty

    def step(self):
        with mg.no_grad():
            fake = self.generator(self.rng.normal((64, 100)))
        loss, grads = mg.value_and_grad(self.loss, self.critic)(mg.asarray(self.images), fake)
        self.optimizer.step(grads)
        return loss.item()

    def peers(self, compile=False):
        from peers import CriticStep

        mixing = np.random.default_rng(0).random((64, 1, 1, 1), dtype=np.float32)
        return {
            label: _bind(
                CriticStep(self.critic, self.generator, 1e-4, (0.0, 0.9), 10, last, compile),
                self.images,
                _normal(64, 100),
                mixing,
            )
            for label, last in (("contiguous", False), ("channels-last", True))
        }


def _dcgan(size, channels):
    options = DCGANOptions(batch_size=64, ema=0.0)
    return lambda: GANWorkload(DCGAN, options, (channels, size, size))


WORKLOADS = {
    "gan": lambda: GANWorkload(GAN, GANOptions(ema=0.0), (1, 28, 28)),
    "vae": VAEWorkload,
    "dcgan-28": _dcgan(28, 1),
    "dcgan-32": _dcgan(32, 3),
    "dcgan-64": _dcgan(64, 3),
    "wgan-gp-32": CriticWorkload,
}


def count_flops(step):
    """Floating-point operations of the matrix products and direct convolutions in one call of
    `step`.
    """
    total = 0

    def counted(name, kernel, cost):
        def run(*args):
            nonlocal total
            out = kernel(*args)
            total += 2 * cost(out, *args)
            return out

        return run

    # a multiplication and an addition for each output and weight that meet
    costs = {
        "conv2d": lambda out, x, w, *_: out.size * w[0].size,
        "conv_transpose2d": lambda out, x, w, *_: x.size * w[0].size,
        "conv2d_weight_grad": lambda out, x, g, *_: g.size * out[0].size,
        "matmul": lambda out, a, b: out.size * a.shape[-1],
        "linear": lambda out, x, w, *_: out.size * x.shape[-1],
    }
    saved = {name: getattr(kernels, name) for name in costs}
    try:
        for name, cost in costs.items():
            setattr(kernels, name, counted(name, saved[name], cost))
        step()
    finally:
        for name, kernel in saved.items():
            setattr(kernels, name, kernel)
    return total


def _images(n, shape):
    return np.tanh(np.random.default_rng(0).standard_normal((n, *shape))).astype(np.float32)


def _normal(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _bind(step, *args):
    return lambda: step(*args)
