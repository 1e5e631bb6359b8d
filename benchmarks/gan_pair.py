"""One GAN in minigen and in PyTorch, fed with the same weights, batches and random numbers.

`Ours` and `Theirs` offer the same: `step(images, numbers)` -> losses by name, and `images(z)` from
the averaged generator or from the one of now. Only `Theirs` imports PyTorch.
"""

import measure
import numpy as np
from workloads.gan import gan_peer

import minigen as mg
from minigen import optim
from minigen.gan.regularizers import REGULARIZERS
from minigen.train.config import make_options
from minigen.train.registry import model_class

IMAGE = (1, 28, 28)
CHUNK = 500  # images made at a time


def make(model, options, seed):
    """The minigen model of this name, from whose weights both libraries begin."""
    cls = model_class(model)
    return cls(make_options(cls, options), IMAGE, rng=mg.Generator(seed))


class Numbers:
    """Noise and mixing numbers from NumPy, the same for both libraries at each step.

    For a step of minigen it stands where a Generator does. The two kinds are streams of their own,
    so that it does not matter which is drawn first.
    """

    def __init__(self, seed, dtype=np.float32):
        self.dtype = dtype
        self.for_noise, self.for_mixing = (np.random.default_rng([seed, k]) for k in (1, 2))

    def noise(self, *shape):
        return self.for_noise.standard_normal(shape).astype(self.dtype)

    def mixing(self, *shape):
        return self.for_mixing.random(shape).astype(self.dtype)

    def normal(self, shape):
        return mg.asarray(self.noise(*shape))

    def uniform(self, shape, dtype=None):
        return mg.asarray(self.mixing(*shape))


class Ours:
    """The model's own step and generator."""

    def __init__(self, model):
        self.model = model

    def step(self, images, numbers):
        losses = self.model.step(images, None, numbers)
        return {name: loss.item() for name, loss in losses.items()}

    def images(self, z, averaged=True):
        """Images (n, C, H, W) in [0, 1] of noise (n, latent), in evaluation mode."""
        model = self.model
        with mg.no_grad(), model.evaluating(model.ema if averaged else None):
            return _by_chunks(lambda z: model.generator(mg.asarray(z)).numpy(), z)


class Theirs:
    """The same in PyTorch, from copies of the model's weights as they are now."""

    def __init__(self, model, how=None):
        from peers import Average

        self.options, how = model.options, how or measure.How()
        self.peer = (wgan_gp_peer if penalised(self.options) else gan_peer)(model, how)
        self.average = Average(self.peer.generator, self.options.ema)

    def step(self, images, numbers):
        losses = self.peer(images, *drawn(self.options, numbers))
        self.average.update()
        *of_critic, of_generator = losses
        named = dict(zip(("discriminator", "penalty"), of_critic, strict=False))
        return {**named, "generator": of_generator}

    def images(self, z, averaged=True):
        """As that of Ours."""
        import torch

        generator = self.average.network if averaged else self.peer.generator
        with torch.no_grad():
            generator.eval()
            made = _by_chunks(lambda z: generator(torch.from_numpy(z)).numpy(), z)
            generator.train()
        return made


def drawn(options, numbers):
    """The random arrays of one step: noise, and for a penalty the shares of the mixed images."""
    n, steps = options.batch_size, options.critic_steps
    if penalised(options):
        return numbers.noise(steps, n, options.latent), numbers.mixing(steps, n, 1, 1, 1)
    return (numbers.noise(n, options.latent),)


def penalised(options):
    return options.regularizer == "gradient-penalty"


def wgan_gp_peer(model, how):
    """PyTorch's step of `wgan-gp`: (images, noise, mixing) -> losses of critic and generator."""
    from peers import WGANGPStep
    from twins import to_torch

    options = model.options
    critic, generator = to_torch(model.discriminator, how), to_torch(model.generator, how)
    weight = options.regularizer_weight or REGULARIZERS[options.regularizer].weight
    betas = options.beta1, options.beta2
    return WGANGPStep(critic, generator, options.lr, betas, weight, how)


def first_steps(model, settings, steps=5, seed=0):
    """The largest relative difference between the libraries after `steps` steps in float64.

    Of the losses at each step, and of the averaged generator's images at the end.
    """
    images = np.random.default_rng(seed)
    model = make(model, settings, seed).to(dtype=np.float64)
    model.ema = optim.EMA(model.generator, model.options.ema, warmup=True)  # of float64 weights
    both = [Ours(model), Theirs(model)]
    numbers = [Numbers(seed, np.float64) for _ in both]
    worst = 0.0
    for _ in range(steps):
        batch = np.tanh(images.standard_normal((model.images_per_step, *IMAGE)))
        ours, theirs = (one.step(batch, n) for one, n in zip(both, numbers, strict=True))
        worst = max(worst, *(abs(ours[k] / theirs[k] - 1) for k in theirs))
    z = Numbers(seed, np.float64).noise(4, model.options.latent)
    ours, theirs = (one.images(z) for one in both)
    return float(max(worst, abs(ours - theirs).max() / abs(theirs).max()))


def _by_chunks(function, z):
    """Images in [0, 1] of all the noise, by a function that gives them in [-1, 1]."""
    made = [function(z[i : i + CHUNK]) for i in range(0, len(z), CHUNK)]
    return np.concatenate(made) / 2 + 0.5
