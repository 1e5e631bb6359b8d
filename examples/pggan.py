"""Progressive growing on the embedded Fashion-MNIST: samples at 7, 14 and 28 pixels.

    python examples/pggan.py [--steps 1500]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.gan.pggan import PGGAN, PGGANOptions
from minigen.train.samples import grid, save_picture

STEPS = 1500
BATCH = 64
SEED = 0


def main(steps: int, out: str) -> None:
    dataset = load("fashion-mnist")
    phase = max(1, steps // 4)  # 7 pixels, 14 pixels, and two phases of 28: fading in, and whole
    options = PGGANOptions(batch_size=BATCH, phase_steps=phase)
    rng = mg.Generator(SEED)
    model = PGGAN(options, dataset.image_shape, rng=rng.spawn("weights"))

    rows = []
    with Batches(dataset, BATCH, seed=SEED) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(f"step {step}: {text}")
            if step % phase == 0 or step == steps:
                rows.append(model.sample(10, mg.Generator(SEED)))  # the same noise in each row

    save_picture(out, grid(np.concatenate(rows), columns=10))
    print(f"samples after each phase in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="pggan.png")
    main(**vars(parser.parse_args()))
