"""A conditional GAN of Fashion-MNIST: a row of samples for each class that one asks for.

    python examples/cgan.py [--steps 2000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.gan.cgan import CGAN, CGANOptions
from minigen.train.samples import grid, save_picture

STEPS = 2000
BATCH = 64
CHANNELS = 32
CONDITIONAL = "projection"  # or "embedding"
SEED = 0


def main(steps: int, out: str) -> None:
    dataset = load("fashion-mnist")
    options = CGANOptions(batch_size=BATCH, channels=CHANNELS, conditional=CONDITIONAL)
    rng = mg.Generator(SEED)
    model = CGAN(options, dataset.image_shape, rng=rng.spawn("weights"))

    with Batches(dataset, BATCH, seed=SEED) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    labels = np.repeat(np.arange(model.classes), 8)
    save_picture(out, grid(model.sample(len(labels), rng, labels=labels), columns=8))
    print(f"{', '.join(dataset.classes)}: a row each in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="cgan.png")
    main(**vars(parser.parse_args()))
