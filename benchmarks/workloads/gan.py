"""Two players: minigen's `gan` and `dcgan`, InfoGAN on 28x28, and WGAN-GP's critic."""

import minigen as mg
from minigen import nn, optim
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.losses import LOSSES
from minigen.gan.regularizers import gradient_penalty

from .base import Workload, images

LOSS = LOSSES["non-saturating"]


class GANWorkload(Workload):
    """Both players' step; no averaged generator, since the peer keeps none."""

    def __init__(self, model_class, options, image_shape):
        super().__init__()
        self.model = model_class(options, image_shape, rng=mg.Generator(1))
        self.inputs = (images(options.batch_size, *image_shape),)

    def train(self, real, rng):
        return tuple(self.model.step(real, None, rng).values())

    def draw(self, rng):
        return (rng.normal((len(self.inputs[0]), self.model.options.latent)).numpy(),)

    def peer(self, how):
        return gan_peer(self.model, how)


def gan_peer(model, how):
    """PyTorch's step of a minigen GAN: (images, noise) -> (discriminator's loss, generator's)."""
    from peers import GANStep
    from twins import to_torch

    options = model.options
    return GANStep(
        to_torch(model.generator, how),
        to_torch(model.discriminator, how),
        options.lr, options.beta1, how,
    )  # fmt: skip


def gan(batch=100):
    return GANWorkload(GAN, GANOptions(batch_size=batch, ema=0.0), (1, 28, 28))


def dcgan(size, colours, batch=64, channels=64):
    options = DCGANOptions(batch_size=batch, channels=channels, ema=0.0)
    return GANWorkload(DCGAN, options, (colours, size, size))


class InfoGAN(Workload):
    """Chen et al. 2016, appendix C.1: 62 numbers of noise, a category of 10, 2 continuous codes.

    A step of the discriminator (Adam 2e-4), then one of the generator and the recognition network
    Q (Adam 1e-3), which has all but its head in common with the discriminator. Q's likelihood of
    the continuous codes has a fixed deviation of 1.
    """

    def __init__(self, batch=128):
        super().__init__()
        rng = mg.Generator(1)
        self.generator = nn.Sequential(
            nn.Linear(74, 1024, bias=False, rng=rng),
            nn.BatchNorm1d(1024, negative_slope=0.0),
            nn.Linear(1024, 7 * 7 * 128, bias=False, rng=rng),
            nn.BatchNorm1d(7 * 7 * 128, negative_slope=0.0),
            nn.Reshape(128, 7, 7),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False, rng=rng),
            nn.BatchNorm2d(64, negative_slope=0.0),
            nn.ConvTranspose2d(64, 1, 4, 2, 1, rng=rng),
            nn.Tanh(),
        )
        self.body = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1, rng=rng),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False, rng=rng),
            nn.BatchNorm2d(128, negative_slope=0.1),
            nn.Flatten(),
            nn.Linear(7 * 7 * 128, 1024, bias=False, rng=rng),
            nn.BatchNorm1d(1024, negative_slope=0.1),
        )
        self.judge = nn.Linear(1024, 1, rng=rng)
        self.recognise = nn.Sequential(
            nn.Linear(1024, 128, bias=False, rng=rng),
            nn.BatchNorm1d(128, negative_slope=0.1),
            nn.Linear(128, 12, rng=rng),
        )
        self.d_side = nn.ModuleList([self.body, self.judge])
        self.g_side = nn.ModuleList([self.generator, self.recognise])
        self.d_optimizer = optim.Adam(self.d_side, lr=2e-4, betas=(0.5, 0.999))
        self.g_optimizer = optim.Adam(self.g_side, lr=1e-3, betas=(0.5, 0.999))
        self.inputs = (images(batch, 1, 28, 28),)

    def train(self, real, rng):
        real = mg.asarray(real)
        noise, labels, codes = self._draw(rng)
        category = mg.one_hot(labels, 10).astype(noise.dtype)
        fake = self.generator(mg.concatenate([noise, category, codes], axis=1))

        def d_loss_of(real, fake):
            return LOSS.discriminator(self.judge(self.body(real)), self.judge(self.body(fake)))

        d_loss, grads = mg.value_and_grad(d_loss_of, self.d_side)(real, fake.detach())
        self.d_optimizer.step(grads)

        features = self.body(fake)
        guess = self.recognise(features)
        missed = mg.cross_entropy(guess[:, :10], labels)
        missed = missed + 0.5 * ((guess[:, 10:] - codes) ** 2).sum(1).mean()
        g_loss = LOSS.generator(self.judge(features))
        grads = mg.grad(g_loss + missed, self.g_side.parameters(), retain_graph=False)
        self.g_optimizer.step(grads)
        return d_loss, g_loss.detach(), missed.detach()

    def _draw(self, rng):
        n = len(self.inputs[0])
        return rng.normal((n, 62)), rng.integers(10, shape=(n,)), rng.uniform((n, 2), -1, 1)

    def draw(self, rng):
        return tuple(each.numpy() for each in self._draw(rng))

    def peer(self, how):
        from peers import InfoGANStep
        from twins import to_torch

        parts = (self.generator, self.body, self.judge, self.recognise)
        return InfoGANStep(*(to_torch(part, how) for part in parts), how)


class Critic(Workload):
    """The critic's step of WGAN-GP at 32x32: 32 base channels, penalty weight 10, Adam(1e-4, 0,
    0.9).
    """

    compiles = False  # torch.compile cannot differentiate twice

    def __init__(self, batch=64):
        super().__init__()
        options = DCGANOptions(batch_size=batch, channels=32)
        self.generator = DCGAN(options, (3, 32, 32), rng=mg.Generator(1)).generator
        rng = mg.Generator(2)
        layers, width = [nn.Conv2d(3, 32, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2)], 32
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2)]
            width *= 2
        self.critic = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, rng=rng), nn.Flatten())
        self.optimizer = optim.Adam(self.critic, lr=1e-4, betas=(0.0, 0.9))
        self.inputs = (images(batch, 3, 32, 32),)

    def loss(self, real, fake, rng):
        penalty = gradient_penalty(self.critic, real, fake, rng=rng)
        return self.critic(fake).mean() - self.critic(real).mean() + 10 * penalty

    def train(self, real, rng):
        real = mg.asarray(real)
        with mg.no_grad():
            fake = self.generator(rng.normal((len(real), 100)))
        loss, grads = mg.value_and_grad(self.loss, self.critic)(real, fake, rng)
        self.optimizer.step(grads)
        return (loss,)

    def draw(self, rng):
        n = len(self.inputs[0])
        mixing = rng.normal((n, 100)), rng.uniform((n, 1, 1, 1), dtype=self.dtype)
        return tuple(each.numpy() for each in mixing)

    def peer(self, how):
        from peers import CriticStep
        from twins import to_torch

        critic, generator = (to_torch(m, how) for m in (self.critic, self.generator))
        return CriticStep(critic, generator, 1e-4, (0.0, 0.9), 10, how)
