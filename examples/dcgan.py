"""Train a DCGAN on the embedded Fashion-MNIST and write a grid of samples.

    python examples/dcgan.py [--steps 2000]
"""

import argparse

import minigen as mg
from minigen.data import Batches, load
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.train.samples import grid, save_picture

STEPS = 2000
BATCH = 64
CHANNELS = 64  # at the highest resolution
LEARNING_RATE = 2e-4
SEED = 0


def main(steps: int, out: str) -> None:
    dataset = load("fashion-mnist")
    options = DCGANOptions(batch_size=BATCH, channels=CHANNELS, lr=LEARNING_RATE)
    rng = mg.Generator(SEED)
    model = DCGAN(options, dataset.image_shape, rng=rng.spawn("weights"))

    with Batches(dataset, BATCH, seed=SEED) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    save_picture(out, grid(model.sample(64, rng)))
    print(f"samples in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="dcgan.png")
    main(**vars(parser.parse_args()))
