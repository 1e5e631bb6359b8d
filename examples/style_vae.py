"""Train a VAE with a content and a style on toned shapes; put the style of some on others.

python examples/style_vae.py [--steps 4000]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, load
from minigen.metrics.psnr import psnr
from minigen.train.samples import grid, save_picture
from minigen.vae.style_vae import StyleVAE, StyleVAEOptions

STEPS = 4000
BATCH = 32
CONTENT, STYLE = 16, 8  # numbers in each half of the code
LEARNING_RATE = 2e-3
SIGMA = 0.05  # how exactly pixels are to be told
SEED = 0
SHOWN = 8


def toned(masks, draw):
    """Colour images of masks (n, 1, H, W): a dark and a bright colour each, and those colours."""
    dark = draw.uniform(0.0, 0.5, (len(masks), 3, 1, 1))
    bright = dark + (1 - dark) * draw.uniform(0.4, 1.0, dark.shape)
    return (dark + (bright - dark) * masks).astype(np.float32), (dark, bright)


def main(steps: int, out: str) -> None:
    train, test = load("shapes"), load("shapes", "test")
    rng, draw = mg.Generator(SEED), np.random.default_rng(SEED)
    options = StyleVAEOptions(
        batch_size=BATCH, latent=CONTENT + STYLE, style=STYLE, lr=LEARNING_RATE, sigma=SIGMA
    )
    model = StyleVAE(options, (3, *train.image_shape[1:]), rng=rng.spawn("weights"))

    with Batches(train, BATCH, seed=SEED, value_range=(0, 1)) as batches:
        for step, (masks, _) in zip(range(1, steps + 1), batches, strict=False):
            images, _ = toned(masks, draw)
            losses = model.step(images, None, rng)
            if step % 500 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.1f}" for name, value in losses.items())
                print(f"step {step}: {text}")

    masks = test.batch(draw.choice(len(test), 2 * SHOWN, replace=False))[0]
    contents, _ = toned(masks[:SHOWN], draw)
    styles, (dark, bright) = toned(masks[SHOWN:], draw)
    swapped = model.swap(contents, styles)  # (contents, styles, 3, H, W)

    # The shapes are known, and so is what each would look like in the colours of another.
    truth = dark + (bright - dark) * masks[:SHOWN, None]
    for name, found in (("swaps", swapped), ("contents", contents[:, None]), ("styles", styles)):
        there = np.broadcast_to(found, truth.shape).reshape(-1, *contents.shape[1:])
        print(f"{name}: {psnr(there, truth.reshape(there.shape), data_range=1):.1f} dB")

    rows = [np.concatenate([np.ones_like(styles[:1]), styles])]
    rows += [np.concatenate([contents[i : i + 1], swapped[i]]) for i in range(SHOWN)]
    save_picture(f"{out}-swaps.png", grid(np.concatenate(rows), columns=SHOWN + 1))
    print(f"contents (left) in the styles of others (top): {out}-swaps.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="style_vae")
    main(**vars(parser.parse_args()))
