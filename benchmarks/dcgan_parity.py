"""The losses of DCGAN's first steps in minigen and in PyTorch: same weights, batches and noise.

    python benchmarks/dcgan_parity.py [--steps 20] [--size 28] [--json]

In float64, where rounding cannot hide a difference, the two must agree to 1e-4 relative, or the
script exits with 1. In float32 Adam divides tiny gradients by tiny gradients and blows rounding up;
how far is shown by a control: PyTorch against itself in its other memory format.
"""

import argparse
import json
import sys

import measure
import numpy as np
from workloads.gan import gan_peer

import minigen as mg
from minigen import data
from minigen.gan.dcgan import DCGAN, DCGANOptions

TOLERANCE = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=28, choices=[28, 32, 64])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    single, control = compare(args, np.float32), compare(args, np.float32, control=True)
    double = compare(args, np.float64)
    worst = max(row["relative"] for row in double)
    if args.json:
        rows = {"float64": double, "float32": single, "float32_control": control}
        summary = {**measure.header(), "worst_relative": worst, "tolerance": TOLERANCE}
        print(json.dumps({**summary, **rows}, indent=2))
    else:
        print("step   D (minigen, float64)  G          float64   float32   torch against itself")
        for row, s, c in zip(double, single, control, strict=True):
            d, g = row["minigen"]
            print(
                f"{row['step']:4d}   {d:<21.12f}  {g:<9.6f}  {row['relative']:.1e}"
                f"   {s['relative']:.1e}   {c['relative']:.1e}"
            )
        print(f"worst relative difference in float64: {worst:.1e} (tolerance {TOLERANCE:.0e})")
    sys.exit(worst > TOLERANCE)


def compare(args, dtype, control=False):
    """A row a step: both libraries' losses and their largest relative difference."""
    options = DCGANOptions(channels=args.channels, ema=0.0)
    model = DCGAN(options, (1, args.size, args.size), rng=mg.Generator(0)).to(dtype=dtype)
    peer = gan_peer(model, measure.How())
    first = gan_peer(model, measure.How(channels_last=True)) if control else _minigen_step(model)
    dataset, noise = data.load("fashion-mnist"), np.random.default_rng(0)
    rows = []
    for step in range(args.steps):
        start = step * options.batch_size
        images = dataset.batch(np.arange(start, start + options.batch_size))[0]
        images = _framed(images * 2 - 1, args.size).astype(dtype)
        z = noise.standard_normal((options.batch_size, options.latent)).astype(dtype)
        ours, theirs = first(images, z), peer(images, z)
        gaps = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
        rows.append({"step": step, "minigen": ours, "torch": theirs, "relative": max(gaps)})
    return rows


def _minigen_step(model):
    def step(images, z):
        model.noise = lambda n, rng: mg.asarray(z)
        losses = model.step(images, None, None)
        return losses["discriminator"].item(), losses["generator"].item()

    return step


def _framed(images, size):
    """Images (N, C, H, W) in the middle of a black square of `size` pixels."""
    extra = size - images.shape[-1]
    pad = (extra // 2, extra - extra // 2)
    images = np.pad(images, ((0, 0), (0, 0), pad, pad), constant_values=-1)
    return np.ascontiguousarray(images)


if __name__ == "__main__":
    main()
