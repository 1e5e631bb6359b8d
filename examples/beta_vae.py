"""A beta-VAE of generated shapes: a row of images for each unit of the code, all else left alone.

    python examples/beta_vae.py [--steps 3000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.beta_vae import BetaVAE, BetaVAEOptions

STEPS = 3000
BATCH = 64
LATENT = 6
BETA = 4.0
COLUMNS = 11
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("shapes"), load("shapes", "test")
    options = BetaVAEOptions(batch_size=BATCH, latent=LATENT, beta=BETA)
    rng = mg.Generator(SEED)
    model = BetaVAE(options, train.image_shape, rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=model.value_range) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.2f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    images = test.batch(range(256))[0]
    code = model.codes(images[:1])[0]
    spread = model.codes(images).std(0)
    rows = np.tile(code, (LATENT, COLUMNS, 1))
    for unit in range(LATENT):  # the units that vary most from image to image first
        rows[unit, :, np.argsort(-spread)[unit]] = np.linspace(-2, 2, COLUMNS)
    save_picture(out, grid(model.decode(rows.reshape(-1, LATENT)), columns=COLUMNS))
    print(f"a row a unit in {out}; deviations {np.sort(spread)[::-1].round(2)}, 0 is not in use")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="beta_vae.png")
    main(**vars(parser.parse_args()))
