"""The losses of DCGAN's first steps in minigen and in PyTorch, from the same weights, batches and
noise.

    python benchmarks/dcgan_parity.py [--steps 20] [--size 28] [--json]

Exits with 1 if any loss differs by more than 1e-4 relative.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from peers import GANStep  # noqa: E402

import minigen as mg  # noqa: E402
from minigen import data  # noqa: E402
from minigen.gan.dcgan import DCGAN, DCGANOptions  # noqa: E402

TOLERANCE = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=28, choices=[28, 32, 64])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    options = DCGANOptions(channels=args.channels)
    model = DCGAN(options, (1, args.size, args.size), rng=mg.Generator(0))
    peer = GANStep(model)
    dataset = data.load("fashion-mnist")
    noise = np.random.default_rng(0)
    rows = []
    for step in range(args.steps):
        indices = np.arange(step * options.batch_size, (step + 1) * options.batch_size)
        images = _resized(dataset.batch(indices)[0] * 2 - 1, args.size)
        z = noise.standard_normal((options.batch_size, options.latent)).astype(np.float32)
        model.noise = lambda n, rng, z=z: mg.tensor(z)
        losses = model.step(images, None, None)
        ours = losses["discriminator"].item(), losses["generator"].item()
        theirs = peer(images, z)
        gaps = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
        rows.append({"step": step, "minigen": ours, "torch": theirs, "relative": max(gaps)})
    worst = max(row["relative"] for row in rows)
    if args.json:
        print(json.dumps({"worst_relative": worst, "tolerance": TOLERANCE, "steps": rows}, indent=2))
    else:
        for row in rows:
            (d, g), (pd, pg) = row["minigen"], row["torch"]
            print(
                f"step {row['step']:2d}  D {d:.6f} / {pd:.6f}  G {g:.6f} / {pg:.6f}"
                f"  relative {row['relative']:.1e}"
            )
        print(f"worst relative difference {worst:.1e} (tolerance {TOLERANCE:.0e})")
    sys.exit(worst > TOLERANCE)


def _resized(images, size):
    """Images (N, C, H, W) in the middle of a black square of `size` pixels."""
    extra = size - images.shape[-1]
    pad = (extra // 2, extra - extra // 2)
    images = np.pad(images, ((0, 0), (0, 0), pad, pad), constant_values=-1)
    return np.ascontiguousarray(images, np.float32)


if __name__ == "__main__":
    main()
