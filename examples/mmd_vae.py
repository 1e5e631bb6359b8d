"""A VAE whose codes are drawn to the prior by the maximum mean discrepancy: it keeps using its code
where a decoder that is strong enough would learn to ignore it. Reconstructions above samples.

    python examples/mmd_vae.py [--steps 2000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.mmd_vae import MMDVAE, MMDVAEOptions

STEPS = 2000
BATCH = 64
LATENT = 10
MMD = 500.0
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test")
    options = MMDVAEOptions(batch_size=BATCH, latent=LATENT, mmd=MMD)
    rng = mg.Generator(SEED)
    model = MMDVAE(options, train.image_shape, rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=model.value_range) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
                print(f"step {step}: {text}")

    codes = model.codes(test.batch(range(1000))[0])
    print(f"deviations of the units' means: {codes.std(0).round(2)}, about 1 under the prior")
    images = test.batch(range(12))[0]
    rows = np.concatenate([images, model.reconstruct(images), model.sample(24, rng)])
    save_picture(out, grid(rows, columns=12))
    print(f"images, their reconstructions and two rows of samples in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="mmd_vae.png")
    main(**vars(parser.parse_args()))
