"""A VAE that compares features of a discriminator, beside one of the same networks that compares
pixels: reconstructions of both, and samples of both.

    python examples/vae_gan.py [--steps 4000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.conv_vae import ConvVAE
from minigen.vae.vae_gan import VAEGAN

STEPS = 4000
BATCH = 32
LATENT = 32
CHANNELS = 32
GAMMA = 0.01  # what features weigh for the decoder, against decisions
SEED = 0


def main(steps: int, out: str) -> None:
    dataset, test = load("fashion-mnist"), load("fashion-mnist", "test")
    common = {"batch_size": BATCH, "latent": LATENT, "channels": CHANNELS}
    pixels = ConvVAE(ConvVAE.Options(**common), dataset.image_shape, rng=mg.Generator(SEED))
    features = VAEGAN(
        VAEGAN.Options(**common, gamma=GAMMA), dataset.image_shape, rng=mg.Generator(SEED)
    )

    models, rng = (pixels, features), mg.Generator(SEED + 1)
    with Batches(dataset, BATCH, seed=SEED, value_range=(0, 1)) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = [model.step(images, labels, rng) for model in models][1]
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.2f}" for name, value in losses.items())
                print(f"step {step}: {text}  (nats an image)")

    images = test.batch(np.arange(12))[0]
    rows = [images, *(model.reconstruct(images) for model in models)]
    save_picture(f"{out}-reconstructions.png", grid(np.concatenate(rows), columns=12))
    for name, model in zip(("pixels", "features"), models, strict=True):
        save_picture(f"{out}-{name}.png", grid(model.sample(60, mg.Generator(2)), columns=12))
    print(f"held-out images, of pixels, of features: {out}-reconstructions.png; samples beside it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="vae-gan")
    main(**vars(parser.parse_args()))
