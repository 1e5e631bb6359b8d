"""Train a conditional VAE to denoise photographs; restore one that it has not seen, with how sure
it is of every pixel.

    python examples/enhance_vae.py [--steps 1500]
"""

import argparse

import numpy as np

import minigen as mg
from minigen.data import Batches, degradations, load, photo
from minigen.metrics import psnr, ssim
from minigen.train.samples import grid, save_picture
from minigen.vae.enhance_vae import EnhanceVAE, EnhanceVAEOptions
from minigen.vae.restoring import restore_photo

STEPS = 1500
PATCH = 48
BATCH = 16
CHANNELS = 32
LEARNING_RATE = 2e-3
DEGRADATION = "noise:25"
SAMPLES = 4  # draws from the posterior, whose mean is the restored photo
SEED = 0


def main(steps: int, out: str) -> None:
    patches = load("photos", patch_size=PATCH)  # a wall, a cameraman, a cup of coffee
    rng = mg.Generator(SEED)
    options = EnhanceVAEOptions(
        degradation=DEGRADATION, batch_size=BATCH, channels=CHANNELS, lr=LEARNING_RATE,
        decay_steps=steps, warmup=steps // 5,
    )  # fmt: skip
    model = EnhanceVAE(options, patches.image_shape, rng=rng.spawn("weights"))

    with Batches(
        patches, BATCH, seed=SEED, augment="flip,turn,colours", value_range=(0, 1)
    ) as batches:
        for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
            losses = model.step(images, labels, rng)
            if step % 100 == 0 or step == steps:
                text = "  ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
                print(f"step {step}: {text}  (nats; dB)")

    clean = photo("chelsea")[:, 60:188, 130:258].astype(np.float32) / 255  # a cat's face
    noisy = degradations.parse(DEGRADATION).image(clean, mg.Generator(SEED + 1))
    found = restore_photo(model, noisy, rng=rng, samples=SAMPLES, keep_samples=True)
    for name, image in (("noisy", noisy.clip(0, 1)), ("restored", found.mean)):
        pair = image[None], clean[None]
        print(f"{name}: {psnr(*pair, data_range=1):.2f} dB, SSIM {ssim(*pair, data_range=1):.3f}")

    spread = found.deviation / found.deviation.max()
    images = np.stack([clean, noisy, found.mean, found.samples[0], found.samples[1], spread])
    save_picture(out, grid(images, columns=3))
    print(f"{out}: clean, noisy, restored; two draws, and where the model is not sure (bright)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default="enhance.png")
    main(**vars(parser.parse_args()))
