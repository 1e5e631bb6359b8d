"""BEGAN on the embedded Fashion-MNIST: watch k and the measure of convergence.

    python examples/began.py [--steps 4000]
"""

import argparse

import minigen as mg
from minigen.data import Batches, load
from minigen.gan.began import BEGAN, BEGANOptions
from minigen.train.samples import grid, save_picture

STEPS = 4000
BATCH = 16
GAMMA = 0.5  # lower: sharper, more alike
SEED = 0


def main(steps: int, out: str) -> None:
    dataset = load("fashion-mnist")
    options = BEGANOptions(batch_size=BATCH, gamma=GAMMA)
    rng = mg.Generator(SEED)
    model = BEGAN(options, dataset.image_shape, rng=rng.spawn("weights"))

    with Batches(dataset, BATCH, seed=SEED) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    save_picture(out, grid(model.sample(64, rng)))
    print(f"samples in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="began.png")
    main(**vars(parser.parse_args()))
