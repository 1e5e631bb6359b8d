"""Mode collapse and a cure in two minutes: 25 Gaussians, a GAN, and the same GAN with packing.

    python examples/pacgan.py [--steps 15000]

The discriminator of PacGAN (Lin et al. 2018) decides on pairs of points at once. The picture has
the points of the one beside those of the other; `benchmarks/modes.py` has many more.
"""

import argparse

import numpy as np

import minigen as mg
from minigen import metrics, nn, optim
from minigen.gan.losses import LOSSES
from minigen.train.samples import grid, save_picture

STEPS = 15_000
BATCH = 100  # decisions of the discriminator
LEARNING_RATE = 1e-3
BETAS = (0.8, 0.999)
STD = 0.05
CENTRES = np.array([(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)], np.float32)
SEED = 0


def dense(inputs, outputs, rng):
    """Units that bend at places spread over the data, so that narrow modes are seen soon."""
    layer = nn.Linear(inputs, outputs, rng=rng)
    nn.init.normal_(layer.weight, 0.0, (2 / inputs) ** 0.5, rng=rng)
    nn.init.normal_(layer.bias, 0.0, 0.5, rng=rng)
    return layer


def make_generator(rng):
    layers = []
    for inputs in (2, 128, 128):
        layers += [dense(inputs, 128, rng), nn.BatchNorm1d(128), nn.ReLU()]
    return nn.Sequential(*layers, dense(128, 2, rng))


def make_discriminator(inputs, rng):
    layers = []
    for width in (inputs, 256, 256):
        layers += [dense(width, 256, rng), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, dense(256, 1, rng))


def train(packing: int, steps: int):
    """2,500 points (2500, 2) of a GAN whose discriminator sees `packing` points at once."""
    rng, loss, batch = mg.Generator(SEED), LOSSES["non-saturating"], packing * BATCH
    generator, discriminator = make_generator(rng), make_discriminator(2 * packing, rng)
    g_optimizer = optim.Adam(generator, LEARNING_RATE, BETAS)
    d_optimizer = optim.Adam(discriminator, LEARNING_RATE, BETAS)

    def decide(points):
        return discriminator(points.reshape((-1, 2 * packing)))

    def d_loss(real, fake):
        return loss.discriminator(decide(real), decide(fake))

    def g_loss(z):
        return loss.generator(decide(generator(z)))

    @mg.capture  # many small ops: a replayed step takes half the time
    def step(real):
        with mg.no_grad():
            fake = generator(rng.normal((batch, 2)))
        d, grads = mg.value_and_grad(d_loss, discriminator)(real, fake)
        d_optimizer.step(grads)
        g, grads = mg.value_and_grad(g_loss, generator)(rng.normal((batch, 2)))
        g_optimizer.step(grads)
        return d, g

    numbers = np.random.default_rng(SEED)
    for count in range(1, steps + 1):
        real = CENTRES[numbers.integers(25, size=batch)] + STD * numbers.standard_normal((batch, 2))
        d, g = step(mg.asarray(real.astype(np.float32)))
        if count % 3000 == 0 or count == steps:
            text = f"discriminator {d.item():.3f}  generator {g.item():.3f}"
            print(f"packing {packing}, step {count}: {text}")
    generator.eval()
    with mg.no_grad():
        return generator(rng.normal((2500, 2))).numpy()


def picture(points, size=280):
    """How many points fall into each pixel of a square around the modes, (1, size, size)."""
    counts, _, _ = np.histogram2d(*points.T, bins=size, range=[(-5, 5)] * 2)
    return np.minimum(counts, 1)[None]


def main(steps: int, out: str) -> None:
    pictures = []
    for packing in (1, 2):
        points = train(packing, steps)
        found = metrics.points_covered(points, CENTRES, STD)
        print(f"packing {packing}: {found.modes} of 25 modes, {found.good_share:.0%} good points")
        pictures.append(picture(points))
    save_picture(out, grid(np.stack(pictures), columns=2))
    print(f"points in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="pacgan.png")
    main(**vars(parser.parse_args()))
