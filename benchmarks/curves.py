"""Training curves with the fast convolutions and with the direct ones, over several seeds.

    python benchmarks/curves.py [--model conv-vae] [--steps 500] [--seeds 4] [--out curves.png]

Both train on the embedded Fashion-MNIST; a seed fixes weights, batches and noise. The curves are
means over windows of 20 steps. Fast and direct differ by rounding, which training amplifies, so
what is asked is whether the mean of the fast curves lies as near to that of the direct ones as the
means of as many other seeds would: the distance must stay below twice its standard error, as root
mean squares over the windows. Exits with 1 otherwise. --out saves a plot.
"""

import sys

import measure
import numpy as np

WINDOW = 20
STYLES = {"direct": "-", "fast": "--"}
LIMIT = 2.0  # standard errors


def main():
    parser = measure.parser(__doc__)
    parser.add_argument("--model", choices=["dcgan", "conv-vae"], default="dcgan")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--channels", type=int, default=32, help="of dcgan")
    parser.add_argument("--out", help="a picture of the curves")
    args = parser.parse_args()
    if args.seeds < 2 or args.steps < WINDOW:
        sys.exit(f"curves: {args.seeds} seeds of {args.steps} steps, expected 2 of {WINDOW}")
    measure.start(args)
    from minigen import kernels

    kernels.set_num_threads(args.threads)
    curves = {}
    for label, convolution in (("fast", None), ("direct", "direct")):
        with kernels.use(convolution=convolution):
            curves[label] = np.stack([train(args, seed) for seed in range(args.seeds)])
    rows = [distance(curves, i, name) for i, name in enumerate(LOSSES[args.model])]
    result = {**measure.header(), "model": args.model, "steps": args.steps, "seeds": args.seeds,
              "limit": LIMIT, "losses": rows}  # fmt: skip
    measure.show(result, args, table)
    if args.out:
        plot(curves, LOSSES[args.model], args.out)
    sys.exit(any(row["standard_errors"] > LIMIT for row in rows))


LOSSES = {"dcgan": ("discriminator", "generator"), "conv-vae": ("loss",)}


def train(args, seed):
    """(windows, losses): the losses of a run, averaged over windows of steps."""
    import minigen as mg
    from minigen import data

    dataset, order = data.load("fashion-mnist"), np.random.default_rng(seed)
    step, size, scale = _model(args, seed)
    rng, rows = mg.Generator(seed), []
    for _ in range(args.steps):
        images, _ = dataset.batch(order.integers(len(dataset), size=size))
        rows.append([loss.item() for loss in step(scale(images), rng)])
    whole = len(rows) // WINDOW * WINDOW
    return np.reshape(rows[:whole], (-1, WINDOW, len(LOSSES[args.model]))).mean(1)


def _model(args, seed):
    """(step of images and a generator, batch size, what turns [0, 1] to the model's range)."""
    import minigen as mg

    if args.model == "dcgan":
        from minigen.gan.dcgan import DCGAN, DCGANOptions

        options = DCGANOptions(batch_size=64, channels=args.channels, ema=0.0)
        model = DCGAN(options, (1, 28, 28), rng=mg.Generator(seed))
        return (lambda x, rng: model.step(x, None, rng).values()), 64, lambda x: 2 * x - 1
    from workloads.latent import ConvVAE

    model = ConvVAE(seed=seed)
    pad = ((0, 0), (0, 0), (2, 2), (2, 2))
    return model.train, 64, lambda x: np.repeat(np.pad(x, pad), 3, axis=1)


def distance(curves, i, name):
    """How far the mean curves are apart, in standard errors of such a distance between seeds."""
    fast, direct = curves["fast"][..., i], curves["direct"][..., i]
    gap = fast.mean(0) - direct.mean(0)
    spread = (fast.var(0, ddof=1) + direct.var(0, ddof=1)) / len(fast)
    return {
        "loss": name,
        "rms_distance": float(np.sqrt(np.mean(gap**2))),
        "rms_standard_error": float(np.sqrt(spread.mean())),
        "standard_errors": float(np.sqrt(np.mean(gap**2) / spread.mean())),
        "fast_end": float(fast[:, -1].mean()),
        "direct_end": float(direct[:, -1].mean()),
    }


def table(result):
    yield f"{result['model']}, {result['steps']} steps, {result['seeds']} seeds"
    for r in result["losses"]:
        if r["rms_distance"] == 0:
            yield f"{r['loss']}: the same bits, so no shape of this model takes a fast algorithm"
            continue
        verdict = "within" if r["standard_errors"] <= result["limit"] else "OUTSIDE"
        yield (
            f"{r['loss']}: means of fast and direct curves {r['rms_distance']:.4g} apart, "
            f"{r['standard_errors']:.2f} standard errors between seeds: {verdict} the noise; "
            f"at the end {r['fast_end']:.4g} and {r['direct_end']:.4g}"
        )


def plot(curves, names, path):
    """Each loss in a panel: thin lines the runs, thick ones their means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 3.2), layout="constrained")
    panels = np.ravel(figure.subplots(1, len(names)))
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        for label, line in (("direct", "#2b6cb0"), ("fast", "#c1440e")):
            runs = curves[label][..., i]
            steps = (np.arange(runs.shape[1]) + 0.5) * WINDOW
            axes.plot(steps, runs.T, color=line, alpha=0.3, linewidth=0.8)
            axes.plot(steps, runs.mean(0), STYLES[label], color=line, linewidth=2, label=label)
        axes.set(title=name, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
