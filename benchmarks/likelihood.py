"""The log-likelihood of MNIST under the published network, beside the papers' numbers.

    python benchmarks/likelihood.py --data mnist:FOLDER --model vae --stages 6
    python benchmarks/likelihood.py --data mnist:FOLDER --model iwae --samples 50 --stages 4

Burda, Grosse & Salakhutdinov 2016, table 1, one stochastic layer: 784-200-200-50 and back, tanh,
pixels drawn 0 or 1 anew in every epoch, batches of 20, Adam (epsilon 1e-4) at the learning rate
0.001 * 10^(-i/7) for 3^i epochs in stage i = 0 ... 7, 3280 epochs in all. Weights begin as in
Glorot & Bengio 2010, the last biases at the pixels' mean. `--stages S` stops after stage S - 1.
After each stage from the fourth on the negative log-likelihood of the 10,000 test images is
estimated with 5,000 codes an image. A run that was interrupted goes on where its last epoch ended.
Results are added to results/likelihood.json.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import measure

PUBLISHED = {"vae": 86.76, "iwae-5": 85.54, "iwae-50": 84.78}  # nats, after 3280 epochs
NETWORK = {
    "batch_size": 20, "latent": 50, "encoder": (200, 200), "decoder": (200, 200),
    "activation": "tanh", "binarize": "stochastic", "epsilon": 1e-4,
}  # fmt: skip
STAGES, FIRST_MEASURED = 8, 3
RESULTS = measure.ROOT / "benchmarks" / "results" / "likelihood.json"


def main():
    args = _arguments()
    measure.start(args)
    name = args.model if args.model == "vae" else f"iwae-{args.samples}"
    run = Run(name, args)
    for stage in range(args.stages):
        trained = run.train(stage)
        if trained and (stage >= FIRST_MEASURED or stage == args.stages - 1):
            row = run.measured(stage)
            print(f"likelihood: {name} {json.dumps(row)}", file=sys.stderr, flush=True)
            measure.update_json(args.results, partial(_with, name=name, row=row))
    if args.json:
        print(args.results.read_text())


def _arguments():
    parser = measure.parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--model", choices=["vae", "iwae"], default="vae")
    parser.add_argument("--samples", type=int, default=50, help="codes an image of iwae, k")
    parser.add_argument("--data", default="fashion-mnist", help="mnist:FOLDER for the paper's")
    parser.add_argument("--stages", type=int, default=6, help="of the paper's 8")
    parser.add_argument("--codes", type=int, default=5000, help="codes an image of the estimate")
    parser.add_argument("--images", type=int, default=10_000, help="test images of the estimate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=measure.ROOT / "runs" / "likelihood")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not 1 <= args.stages <= STAGES:
        sys.exit(f"likelihood: --stages is {args.stages}, expected 1 to {STAGES}")
    return args


class Run:
    """One model on its way through the schedule, and its checkpoint after every epoch."""

    def __init__(self, name, args):
        import minigen as mg
        from minigen import io
        from minigen.data import Batches, load

        self.name, self.args = name, args
        train, self.test = load(args.data), load(args.data, "test")
        self.model = published(name, train, args)
        self.batches = Batches(train, NETWORK["batch_size"], seed=args.seed, value_range=(0, 1))
        self.rng = mg.Generator(args.seed).spawn("steps")
        self.step = mg.capture(self.model.step)
        self.epoch, self.seconds = 0, 0.0
        self.folder = args.runs / f"{name}-seed{args.seed}"
        last = io.latest_checkpoint(self.folder) if self.folder.exists() else None
        if last is not None:
            state = io.load_checkpoint(last)
            self.model.load_state_dict(state["model"])
            self.rng.load_state_dict(state["rng"])
            self.batches.load_state_dict(state["batches"])
            self.epoch, self.seconds = state["epoch"], state["seconds"]

    def train(self, stage):
        """The epochs of a stage that have not been trained yet; whether the model is at its end,
        and not beyond it, as a run that goes on may be.
        """
        end = sum(3**i for i in range(stage + 1))
        self.model.optimizer.lr = 1e-3 * 10 ** (-stage / 7)
        while self.epoch < end:
            begun, losses = time.process_time(), None
            for _ in range(self.batches.batches_per_epoch):
                losses = self.step(*next(self.batches), self.rng)
            self.epoch += 1
            self.seconds += time.process_time() - begun
            self._save()
            if self.epoch % 10 == 0 or self.epoch == end:
                text = "  ".join(f"{key} {value.item():.2f}" for key, value in losses.items())
                print(f"{self.name} epoch {self.epoch}: {text}", file=sys.stderr, flush=True)
        return self.epoch == end

    def _save(self):
        import shutil

        from minigen import io

        state = {
            "epoch": self.epoch, "seconds": self.seconds, "model": self.model.state_dict(),
            "rng": self.rng.state_dict(), "batches": self.batches.state_dict(),
        }  # fmt: skip
        io.save_checkpoint(self.folder / f"step-{self.epoch:08d}", state)
        for old in sorted(self.folder.glob("step-*"))[:-2]:
            shutil.rmtree(old)

    def measured(self, stage):
        """The likelihood of test images and what else is known of the model after a stage."""
        import numpy as np

        import minigen as mg
        from minigen import nn

        args = self.args
        count = min(args.images, len(self.test))
        images, _ = self.test.batch(range(count))
        batches = [(images[i : i + 100], None) for i in range(0, count, 100)]
        rng = mg.Generator(args.seed).spawn("evaluation")
        found = self.model.evaluate(batches, rng.spawn("bound"))
        logs, errors = self.model.log_likelihood(images, None, rng.spawn("weights"), k=args.codes)
        gaps = np.nanmean(errors) if args.codes > 1 else None
        return {
            "stages": stage + 1,
            "epochs": self.epoch,
            "cpu_minutes": round(self.seconds / 60, 1),
            "nll": _rounded(nn.mean_interval(-logs)),
            "codes": args.codes,
            "images": count,
            "mean_error_of_an_image": None if gaps is None else round(float(gaps), 3),
            **{key: _rounded(value) for key, value in found.items()},
            "data": args.data.partition(":")[0],
            "seed": args.seed,
        }


def published(name, train, args):
    """The paper's network and its initial weights."""
    import numpy as np

    import minigen as mg
    from minigen import nn
    from minigen.vae.iwae import IWAE, IWAEOptions
    from minigen.vae.options import VAEOptions
    from minigen.vae.vae import VAE

    rng = mg.Generator(args.seed).spawn("weights")
    if name == "vae":
        model = VAE(VAEOptions(**NETWORK), train.image_shape, rng=rng)
    else:
        options = IWAEOptions(**NETWORK, samples=args.samples)
        model = IWAE(options, train.image_shape, rng=rng)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, rng=rng)
        nn.init.zeros_(layer.bias)
    some = train.batch(range(0, len(train), max(1, len(train) // 10_000)))[0]
    mean = np.clip(some.mean(0).ravel(), 0.001, 0.999)
    layers[-1].bias.data[...] = np.log(mean / (1 - mean))
    return model


def _with(document, *, name, row):
    rows = [
        each for each in document.get("models", {}).get(name, [])
        if (each["stages"], each["seed"], each["data"]) != (row["stages"], row["seed"], row["data"])
    ]  # fmt: skip
    rows = sorted([*rows, row], key=lambda each: (each["seed"], each["stages"]))
    models = {**document.get("models", {}), name: rows}
    return {**measure.header(), "published": PUBLISHED, "models": models}


def _rounded(interval):
    return {key: round(float(value), 4) for key, value in interval.items() if value == value}


if __name__ == "__main__":
    main()
