"""Train the dense VAE on Fashion-MNIST; write its reconstructions and its latent plane.

    python examples/vae.py [--steps 6000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.vae import VAE, VAEOptions

STEPS = 6000
BATCH = 32
LATENT = 2
LEARNING_RATE = 1e-3
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test")
    rng = mg.Generator(SEED)
    options = VAEOptions(batch_size=BATCH, latent=LATENT, lr=LEARNING_RATE)
    model = VAE(options, train.image_shape, rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=(0, 1)) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 500 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.2f}" for name, value in losses.items())
                print(f"step {step}: {text}  (the first three in nats an image)")

    images = test.batch(np.arange(32))[0]
    pairs = np.stack([images, model.reconstruct(images)], 1).reshape(-1, *train.image_shape)
    save_picture(f"{out}-reconstructions.png", grid(pairs, columns=8))

    line = np.linspace(-2.0, 2.0, 12, dtype=np.float32)
    codes = np.stack(np.meshgrid(line, -line), -1).reshape(-1, LATENT)
    save_picture(f"{out}-plane.png", grid(model.decode(mg.tensor(codes)), columns=12))
    print(f"pictures in {out}-reconstructions.png and {out}-plane.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="vae")
    main(**vars(parser.parse_args()))
