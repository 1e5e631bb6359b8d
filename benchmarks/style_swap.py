"""`style-vae` where content and style are known: the style of one image on the content of another.

    python benchmarks/style_swap.py [--size 28] [--colours 3] [--steps 4000] [--threads 2] [--json]

Images are of the data set `shapes` (content), each re-toned by a function of its index (style): a
darkest and a brightest value for each colour. So the true image of any content in any tone is
known, also of shapes that no network was trained on. Compared with it, in PSNR (dB), are the swaps;
their limit ("reconstruct": an image's own content and style); the two images that they were made
of; and the content's image brought to the means and deviations of the style's ("statistics",
Reinhard et al. 2001), which is all but exact here, as these tones are linear and the shapes of
nearly one area. The variant "seeing" lacks what keeps style out of the content: its encoder's input
is not normalised.
"""

import time
from pathlib import Path

import measure

PAIRED = 64  # held-out images: all contents in all styles
SHOWN = 6
OUT = measure.ROOT / "benchmarks" / "results"
VARIANTS = ("style-vae", "seeing")


def main():
    parser = measure.parser(__doc__)
    parser.add_argument("--size", type=int, default=28, help="pixels, at least 28")
    parser.add_argument("--colours", type=int, default=3, choices=[1, 3])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="*", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON and the picture")
    args = parser.parse_args()
    measure.start(args)
    path = args.out / "style_swap.json"
    for variant in args.variants:
        run = trained(variant, args)
        result = measure.update_json(path, lambda kept, run=run: added(kept, run))
    measure.show(result, args, table)


def added(kept, run):
    """The document with one run more, which replaces one of the same settings."""
    names = ("variant", "size", "colours", "steps", "seed")
    runs = measure.keyed(names, [*kept.get("runs", []), run])
    return {**measure.header(), "runs": list(runs.values())}


def trained(variant, args):
    """What a training has led to, a dictionary; the picture of swaps is saved."""
    import numpy as np

    import minigen as mg
    from minigen import nn
    from minigen.data.shapes import shapes
    from minigen.train.samples import grid, save_picture
    from minigen.vae.style_vae import StyleVAE

    train, test = (Toned(shapes(split, args.size), args.colours) for split in ("train", "test"))
    rng = mg.Generator(args.seed)
    shape = (args.colours, args.size, args.size)
    model = StyleVAE(StyleVAE.Options(), shape, rng=rng.spawn("weights"))
    if variant == "seeing":
        model.encoder.content[0] = nn.Identity()
    draw, size, start = np.random.default_rng(args.seed), model.options.batch_size, time.time()
    for _ in range(args.steps):
        losses = model.step(train(draw.integers(0, len(train), size)), None, rng)
    seconds = time.time() - start

    chosen = np.random.default_rng(1).choice(len(test), PAIRED, replace=False)
    seen = test(chosen)
    truth = np.stack([test(np.full(PAIRED, i), tones=chosen) for i in chosen])
    swapped = model.swap(seen, seen)
    if variant == "style-vae":
        rows = [np.concatenate([np.ones_like(seen[:1]), seen[:SHOWN]])]
        for i in range(SHOWN, 2 * SHOWN):
            rows.append(np.concatenate([seen[i : i + 1], swapped[i, :SHOWN]]))
        name = f"style_swap-{args.size}x{args.colours}.png"
        save_picture(args.out / name, grid(np.concatenate(rows), SHOWN + 1))
    return {
        "variant": variant,
        **{name: getattr(args, name) for name in ("size", "colours", "steps", "seed")},
        "seconds": round(seconds),
        **{name: round(loss.item(), 2) for name, loss in losses.items() if name.startswith("kl")},
        **compared(seen, truth, swapped),
    }


def compared(seen, truth, swapped):
    """Mean PSNR (dB) to the true images (n, n, C, H, W) of all swaps of n images."""
    import numpy as np

    from minigen.metrics.psnr import psnr_each

    n = len(seen)
    mean, deviation = (f(seen, (2, 3), keepdims=True) for f in (np.mean, np.std))
    moved = (seen - mean)[:, None] / deviation[:, None] * deviation + mean
    other = ~np.eye(n, dtype=bool)
    near = {
        name: psnr_each(np.broadcast_to(each, truth.shape)[other], truth[other], data_range=1)
        for name, each in (
            ("swap", swapped), ("content", seen[:, None]), ("style", seen[None]),
            ("statistics", np.clip(moved, 0, 1)),
        )
    }  # fmt: skip
    own = np.arange(n)
    near["reconstruct"] = psnr_each(swapped[own, own], truth[own, own], data_range=1)
    better = near["swap"] > np.maximum(near["content"], near["style"])
    return {
        "psnr": {name: float(each.mean()) for name, each in near.items()},
        "nearer_than_both": round(float(better.mean()), 4),
    }


class Toned:
    """Images (n, colours, H, W) in [0, 1] of a data set, each in the tone of its index."""

    def __init__(self, dataset, colours):
        self.dataset, self.colours = dataset, colours

    def __len__(self):
        return len(self.dataset)

    def __call__(self, indices, tones=None):
        dark, bright = tone(indices if tones is None else tones, self.colours)
        return (dark + (bright - dark) * self.dataset.batch(indices)[0]).astype("float32")


def tone(indices, colours):
    """(darkest, brightest) value of each colour, (n, colours, 1, 1) each: a fraction of the index's
    multiples of irrational numbers, so that they fill the range evenly.
    """
    import numpy as np

    steps = np.sqrt([2, 3, 5, 7, 11, 13])[: 2 * colours]
    low, span = np.split((np.asarray(indices)[:, None] + 1) * steps % 1, 2, axis=1)
    dark = 0.5 * low
    bright = dark + (1 - dark) * (0.4 + 0.6 * span)
    return dark[..., None, None], bright[..., None, None]


def table(result):
    """Lines of a table of all runs."""
    names = ("swap", "reconstruct", "content", "style", "statistics")
    yield "| model | images | steps | " + " | ".join(names) + " | nearer than both | KL (nats) |"
    yield "| --- " * (len(names) + 5) + "|"
    for run in result["runs"]:
        cells = [run["variant"], f"{run['size']}x{run['size']}x{run['colours']}", run["steps"]]
        cells += [f"{run['psnr'][name]:.1f}" for name in names]
        cells += [f"{run['nearer_than_both']:.1%}"]
        cells += [f"{run['kl_content']:.1f} content, {run['kl_style']:.1f} style"]
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
