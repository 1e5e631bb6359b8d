"""Goodfellow's GAN, written out with the library's parts, on the embedded Fashion-MNIST.

    python examples/gan.py [--steps 10000]

Both networks are dense here, which is quick; `minigen train gan` has a convolutional discriminator.
"""

import argparse

import minigen as mg
from minigen import nn, optim
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture

STEPS = 10000
BATCH = 100
LATENT = 100
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
SEED = 0


def main(steps: int, out: str) -> None:
    rng = mg.Generator(SEED)
    generator = nn.Sequential(
        nn.Linear(LATENT, 256, rng=rng), nn.LeakyReLU(0.2),
        nn.Linear(256, 512, rng=rng), nn.LeakyReLU(0.2),
        nn.Linear(512, 784, rng=rng), nn.Tanh(),
        nn.Reshape(1, 28, 28),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512, rng=rng), nn.LeakyReLU(0.2),
        nn.Linear(512, 256, rng=rng), nn.LeakyReLU(0.2),
        nn.Linear(256, 1, rng=rng),
    )  # fmt: skip
    g_optimizer = optim.Adam(generator, LEARNING_RATE, BETAS)
    d_optimizer = optim.Adam(discriminator, LEARNING_RATE, BETAS)

    def d_loss(real, fake):  # -log D(x) - log(1 - D(G(z))), from logits
        return mg.softplus(-discriminator(real)).mean() + mg.softplus(discriminator(fake)).mean()

    def g_loss(z):  # -log D(G(z))
        return mg.softplus(-discriminator(generator(z))).mean()

    d_step = mg.value_and_grad(d_loss, discriminator)
    g_step = mg.value_and_grad(g_loss, generator)
    with Batches(load("fashion-mnist"), BATCH, seed=SEED) as batches:
        for step, (images, _) in zip(range(1, steps + 1), batches, strict=False):
            with mg.no_grad():
                fake = generator(rng.normal((BATCH, LATENT)))
            d, grads = d_step(mg.asarray(images), fake)
            d_optimizer.step(grads)
            g, grads = g_step(rng.normal((BATCH, LATENT)))
            g_optimizer.step(grads)
            if step % 500 == 0 or step == steps:
                print(f"step {step}: discriminator {d.item():.3f}  generator {g.item():.3f}")

    with mg.no_grad():
        images = generator(rng.normal((64, LATENT))).numpy()
    save_picture(out, grid(images / 2 + 0.5))
    print(f"samples in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="gan.png")
    main(**vars(parser.parse_args()))
