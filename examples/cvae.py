"""A conditional VAE of Fashion-MNIST: each class in the styles of other images.

    python examples/cvae.py [--steps 3000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.cvae import CVAE, CVAEOptions

STEPS = 3000
BATCH = 64
LATENT = 16
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test")
    options = CVAEOptions(batch_size=BATCH, latent=LATENT)
    rng = mg.Generator(SEED)
    model = CVAE(options, train.image_shape, rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=model.value_range) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.2f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    styles, kinds = test.batch(range(10))
    contents = np.array([np.flatnonzero(test.labels == kind)[0] for kind in range(10)])
    images, labels = test.batch(contents)
    swapped = model.swap(images, styles, labels, kinds)
    picture = np.concatenate([styles, swapped.reshape(-1, *train.image_shape)])
    save_picture(out, grid(picture, columns=len(styles)))
    print(f"the first row of {out} is real; below it, a row a class in the styles of those")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="cvae.png")
    main(**vars(parser.parse_args()))
