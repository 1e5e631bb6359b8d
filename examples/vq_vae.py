"""Train a VQ-VAE on Fashion-MNIST: an image becomes a 7x7 grid of codes, and a prior over such
grids draws new ones. Writes reconstructions, and samples, a row a class.

    python examples/vq_vae.py [--steps 4000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.vq_vae import VQVAE, VQVAEOptions

STEPS = 4000
BATCH = 32
CODES = 64
LEARNING_RATE = 1e-3
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test")
    rng = mg.Generator(SEED)
    options = VQVAEOptions(batch_size=BATCH, codes=CODES, lr=LEARNING_RATE, conditional="label")
    model = VQVAE(options, train.image_shape, rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=(0, 1)) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.1f}" for name, value in losses.items())
                print(f"step {step}: {text}  (nats an image; codes in use)")

    images, labels = test.batch(np.arange(32))
    pairs = np.stack([images, model.reconstruct(images)], 1).reshape(-1, *train.image_shape)
    save_picture(f"{out}-reconstructions.png", grid(pairs, columns=8))
    print("the codes of the first image:", *model.codes(images[:1])[0], sep="\n")

    classes = np.repeat(np.arange(model.classes), 8)
    save_picture(f"{out}-samples.png", grid(model.sample(80, rng, labels=classes), columns=8))
    print(f"pictures in {out}-reconstructions.png and {out}-samples.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="vq-vae")
    main(**vars(parser.parse_args()))
