"""WGAN-GP written out: a critic under a gradient penalty, which is differentiated twice.

    python examples/wgan_gp.py [--steps 2000]

Gulrajani et al. 2017, algorithm 1. `minigen train wgan-gp` does the same with larger networks.
"""

import argparse

import minigen as mg
from minigen import nn, optim
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture

STEPS = 2000  # of the generator
CRITIC_STEPS = 5
BATCH = 64
LATENT = 100
WIDTH = 32
PENALTY = 10.0
LEARNING_RATE = 1e-4
BETAS = (0.0, 0.9)
SEED = 0


def make_networks(rng):
    generator = nn.Sequential(
        nn.Linear(LATENT, 2 * WIDTH * 7 * 7, bias=False, rng=rng),
        nn.Reshape(2 * WIDTH, 7, 7),
        nn.BatchNorm2d(2 * WIDTH), nn.ReLU(),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1, bias=False, rng=rng),
        nn.BatchNorm2d(WIDTH), nn.ReLU(),
        nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1, rng=rng), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(  # no batch norm: the penalty is on each image's slope by itself
        nn.Conv2d(1, WIDTH, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1, rng=rng),
        nn.GroupNorm(1, 2 * WIDTH), nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * WIDTH * 7 * 7, 1, rng=rng),
    )  # fmt: skip
    return generator, critic


def main(steps: int, out: str) -> None:
    rng = mg.Generator(SEED)
    generator, critic = make_networks(rng)
    g_optimizer = optim.Adam(generator, LEARNING_RATE, BETAS)
    c_optimizer = optim.Adam(critic, LEARNING_RATE, BETAS)

    def penalty(real, fake):
        """E[(|d critic / d x| - 1)^2] on random mixes of real and generated images (eq. 3)."""
        mix = mg.lerp(fake, real, rng.uniform((BATCH, 1, 1, 1)))
        mix.requires_grad = True
        (slope,) = mg.grad(critic(mix).sum(), [mix], create_graph=True)
        return ((mg.sqrt((slope**2).sum((1, 2, 3))) - 1) ** 2).mean()

    def critic_loss(real, fake):
        distance = critic(real).mean() - critic(fake).mean()
        return PENALTY * penalty(real, fake) - distance, distance

    def generator_loss(z):
        return -critic(generator(z)).mean()

    critic_step = mg.value_and_grad(critic_loss, critic)
    generator_step = mg.value_and_grad(generator_loss, generator)
    with Batches(load("fashion-mnist"), BATCH, seed=SEED) as batches:
        for step in range(1, steps + 1):
            for _ in range(CRITIC_STEPS):
                images, _ = next(batches)
                with mg.no_grad():
                    fake = generator(rng.normal((BATCH, LATENT)))
                (_, distance), grads = critic_step(mg.asarray(images), fake)
                c_optimizer.step(grads)
            _, grads = generator_step(rng.normal((BATCH, LATENT)))
            g_optimizer.step(grads)
            if step % 100 == 0 or step == steps:
                print(f"step {step}: the critic estimates a distance of {distance.item():.3f}")

    with mg.no_grad():
        images = generator(rng.normal((64, LATENT))).numpy()
    save_picture(out, grid(images / 2 + 0.5))
    print(f"samples in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="wgan_gp.png")
    main(**vars(parser.parse_args()))
