"""A small BigGAN of the embedded Fashion-MNIST: truncation trades variety for quality.

    python examples/biggan.py [--steps 1200]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.gan.biggan import BigGAN, BigGANOptions
from minigen.train.samples import grid, save_picture

STEPS = 1200
BATCH = 64
TRUNCATIONS = (None, 1.0, 0.5)
SEED = 0


def main(steps: int, out: str) -> None:
    dataset = load("fashion-mnist")
    options = BigGANOptions(batch_size=BATCH)
    rng = mg.Generator(SEED)
    model = BigGAN(options, dataset.image_shape, rng=rng.spawn("weights"))

    with Batches(dataset, model.images_per_step, seed=SEED) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    labels = np.tile(np.arange(model.classes), 3)  # three images of each class
    blocks = [model.sample(len(labels), rng, labels=labels, truncation=t) for t in TRUNCATIONS]
    save_picture(out, grid(np.concatenate(blocks), columns=model.classes))
    print(f"three rows each with truncation {', '.join(map(str, TRUNCATIONS))} in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="biggan.png")
    main(**vars(parser.parse_args()))
