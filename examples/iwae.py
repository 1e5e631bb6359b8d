"""The bound of the importance-weighted autoencoder for more and more codes an image: it rises
towards the likelihood that no code can reach alone.

    python examples/iwae.py [--steps 3000]
"""

import argparse

import minigen as mg
from minigen.data import Batches, load
from minigen.train.samples import grid, save_picture
from minigen.vae.iwae import IWAE, IWAEOptions

STEPS = 3000
SAMPLES = 20  # codes an image, k
CODES = (1, 5, 50, 500)  # of the bounds that are measured
IMAGES = 100
SEED = 0


def main(steps: int, out: str) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test")
    options, rng = IWAEOptions(samples=SAMPLES), mg.Generator(SEED)
    model = IWAE(options, train.image_shape, rng=rng.spawn("weights"))

    step_ = mg.capture(model.step)  # many small ops: recorded, they take 2/3 of the time
    with Batches(train, options.batch_size, seed=SEED, value_range=(0, 1)) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = step_(images, labels, rng)
            if step % 200 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.2f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    images, _ = test.batch(range(IMAGES))
    for k in CODES:
        logs, errors = model.log_likelihood(images, None, rng, k=k)
        print(f"k = {k}: -log p(x) <= {-logs.mean():.2f} nats an image of 0 and 1")
    print(f"the last is known to {(errors**2).mean() ** 0.5:.2f} nats an image")
    save_picture(out, grid(model.sample(64, rng)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="iwae.png")
    main(**vars(parser.parse_args()))
