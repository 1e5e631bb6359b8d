"""`beta-vae` with several weights, and a capacity, of the KL on `shapes`: is each unit a factor?

    python benchmarks/disentanglement.py [--models beta-1,beta-4] [--seeds 3] [--jobs 1]
    python benchmarks/disentanglement.py --table-only      the table from the JSON

Each run is a process of one thread that trains on `shapes` (1,000 steps of 64 images take about 10
seconds of computing) and scores the mean codes of its test images: MIG, DCI (scikit-learn) and the
FactorVAE score, beside the two terms of the bound. `untrained` is the same network at step 0, whose
units all count as dead for the FactorVAE score; chance is 1/5 there. The best unit's share of a
factor is its mutual information with it by the factor's entropy. Intervals are of the mean over
seeds (Student's t, 95%).

What a run found is added to results/disentanglement.json as it ends, with the table in
results/disentanglement.md, and for the first seed a traversal in results/disentanglement. Runs that
are there already, of the same settings, are not done again; those of other settings stay.
"""

import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure

# What each model sets beside --latent, --channels and --batch-size.
MODELS = {
    "untrained": {"beta": 1.0},
    "beta-1": {"beta": 1.0},
    "beta-2": {"beta": 2.0},
    "beta-4": {"beta": 4.0},
    "beta-8": {"beta": 8.0},
    "capacity": {"beta": 20.0, "capacity": 12.0},  # Burgess et al. 2018: the KL is let out slowly
}
RISE = 0.75  # of the steps, in which the capacity rises
SCORES = {
    "MIG": "mig",
    "DCI disentanglement": "dci-disentanglement",
    "DCI completeness": "dci-completeness",
    "DCI informativeness": "dci-informativeness",
    "FactorVAE score": "factor-vae",
    "reconstruction, nats": "reconstruction",
    "KL, nats": "kl",
    "active units": "active_units",
}
KEY = ("model", "seed", "settings")  # what determines a run
ROWS, REACH = 9, 2.5  # images of a unit in a traversal, and how far from 0 they go
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 1 to 9 degrees
RESULTS = measure.ROOT / "benchmarks" / "results"


def main():
    args = _arguments()
    measure.start(args)
    if args.one:
        model, seed = args.one
        print(json.dumps(run(model, int(seed), settings(args, model), args.results)))
        return
    if not args.table_only:
        _all_runs(args)
    text = keep(args)
    print(json.dumps(measure.read_json(_json(args)), indent=1) if args.json else text)


def _arguments():
    parser = measure.parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10_000, help="of a model")
    parser.add_argument("--channels", type=int, default=16, help="maps of the first convolution")
    parser.add_argument("--latent", type=int, default=10, help="units")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once; --threads are of each")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where all that is found goes"
    )
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SEED"),
                        help="print one run done in this process")  # fmt: skip
    args = parser.parse_args()
    args.models = args.models.split(",")
    wrong = [model for model in args.models if model not in MODELS]
    if wrong:
        sys.exit(f"disentanglement: no {', '.join(wrong)}; expected some of {', '.join(MODELS)}")
    return args


def settings(args, model):
    """What a run does, but for its seed."""
    names = "latent", "channels", "batch_size"
    own = dict(MODELS[model])
    if "capacity" in own:
        own["capacity_steps"] = max(1, int(RISE * args.steps))
    steps = 0 if model == "untrained" else args.steps
    return {"steps": steps, **{name: getattr(args, name) for name in names}, **own}


# ---------------------------------------------------------------------------------------- one run


def run(name, seed, wanted, results):
    """Train a model in this process and score it; the first seed's traversal goes to `results`."""
    from minigen import data
    from minigen.metrics import disentanglement
    from minigen.metrics.disentanglement import has_trees
    from minigen.random import Generator

    if not has_trees():
        sys.exit("disentanglement: needs scikit-learn; pip install 'minigen[metrics]'")
    model, seconds = trained(seed, wanted)
    test = data.load("shapes", "test")
    images = test.batch(range(len(test)))[0]
    found = model.evaluate([(images, None)], Generator(seed).spawn("evaluate"))
    found |= disentanglement(model.codes, test, rng=Generator(0))
    if seed == 0:
        _picture(model, images, results / "disentanglement" / f"{name}.png")
    return {
        "model": name,
        "seed": seed,
        "settings": wanted,
        "cpu_seconds": seconds,
        "found": {each: found[each]["value"] for each in SCORES.values()},
        "shares": shares(model.codes(images), test),
        "commit": measure.commit(),
        "machine": measure.machine(),
    }


def trained(seed, wanted):
    """(the model, seconds of computing that its steps took)."""
    from minigen import data
    from minigen.random import Generator
    from minigen.vae.beta_vae import BetaVAE

    wanted, seconds = dict(wanted), 0.0
    steps, train = wanted.pop("steps"), data.load("shapes")
    start = Generator(seed)
    model = BetaVAE(BetaVAE.Options(**wanted), train.image_shape, rng=start.spawn("init"))
    rng, low_high = start.spawn("steps"), model.value_range
    with data.Batches(train, model.images_per_step, seed=seed, value_range=low_high) as batches:
        for _ in range(steps):
            images, _ = next(batches)
            begin = time.process_time()
            model.step(images, None, rng)
            seconds += time.process_time() - begin
    return model, seconds


def shares(codes, dataset):
    """{factor: the part of it that the best unit tells}, 0 to 1."""
    import numpy as np

    from minigen.metrics.disentanglement import mutual_information

    told = mutual_information(codes.astype(np.float64), dataset.factors).max(0)
    # I(v; v) = H(v)
    entropies = mutual_information(dataset.factors.astype(np.float64), dataset.factors).diagonal()
    return dict(zip(dataset.factor_names, (told / entropies).tolist(), strict=True))


def _picture(model, images, path):
    """A row a unit, the one with the largest KL first: from -REACH to REACH, of the same image."""
    import numpy as np

    from minigen.train.samples import grid, save_picture

    mu, log_var = (each.numpy() for each in model.encode(images[:1000]))
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).mean(0)
    z = np.tile(mu[0], (len(kl), ROWS, 1))
    for row, unit in enumerate(np.argsort(-kl)):
        z[row, :, unit] = np.linspace(-REACH, REACH, ROWS)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(path, grid(model.decode(z.reshape(len(kl) * ROWS, -1)), ROWS))


# ----------------------------------------------------------------------------------- all the runs


def _json(args):
    return args.results / "disentanglement.json"


def _all_runs(args):
    """Do the runs that were asked for and that the JSON does not have."""
    there = measure.keyed(KEY, measure.read_json(_json(args)).get("runs", []))
    asked = measure.keyed(KEY, _asked(args))
    words = [f"--{name}={getattr(args, name.replace('-', '_'))}" for name in
             ("steps", "channels", "latent", "batch-size", "threads", "results")]  # fmt: skip

    def do(wanted):
        try:
            found = measure.fresh("--one", wanted["model"], wanted["seed"], *words)
        except subprocess.CalledProcessError:  # it has said why; the other runs still count
            sys.stderr.write(f"disentanglement: {wanted['model']} failed\n")
            return
        keep(args, found)
        scores = ", ".join(f"{name} {found['found'][key]:.3f}" for name, key in SCORES.items())
        line = f"{found['model']}, seed {found['seed']}: {scores}"
        print(f"disentanglement: {line}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(do, [wanted for key, wanted in asked.items() if key not in there]))


def _asked(args):
    return [
        dict(zip(KEY, (model, seed, settings(args, model)), strict=True))
        for seed in range(args.seeds)
        for model in args.models
    ]


def keep(args, *new):
    """Add new runs to the JSON, and write the table of those that were asked for; its text."""
    from minigen import files

    asked = measure.keyed(KEY, _asked(args))

    def change(known):
        runs = measure.keyed(KEY, [*known.get("runs", []), *new])
        return {**measure.header(), "models": summary([runs[k] for k in asked if k in runs]),
                "runs": list(runs.values())}  # fmt: skip

    text = markdown(measure.update_json(_json(args), change), args)
    files.write_text_atomic(args.results / "disentanglement.md", text)
    return text


def summary(runs):
    """{model: its seeds, and of each number the mean over them with its interval}."""
    models = {}
    for name in dict.fromkeys(each["model"] for each in runs):
        mine = [each for each in runs if each["model"] == name]
        models[name] = {
            "seeds": [each["seed"] for each in mine],
            "settings": mine[0]["settings"],
            "cpu_seconds": statistics.fmean(each["cpu_seconds"] for each in mine),
            "found": {key: over_seeds([e["found"][key] for e in mine]) for key in SCORES.values()},
            "shares": {
                key: statistics.fmean(e["shares"][key] for e in mine) for key in mine[0]["shares"]
            },
        }
    return models


def over_seeds(values):
    """{"value", "low", "high"}: the mean and its 95% interval by Student's t; none of one value."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return {"value": mean, "low": None, "high": None}
    t = T95[n - 2] if n - 2 < len(T95) else 1.96 + 2.7 / (n - 1)
    half = t * statistics.stdev(values) / n**0.5
    return {"value": mean, "low": mean - half, "high": mean + half}


# -------------------------------------------------------------------------------------- the table


def markdown(document, args):
    """The scores, what is told of each factor, and the traversals."""
    models = document["models"]
    parts = [
        "# Disentanglement of `beta-vae` on `shapes`",
        f"Measured on {document['date']} on {document['machine']}: `{document['command']}`. Means"
        " over seeds with 95% intervals (Student's t). Chance is 1/5 of the FactorVAE score; the"
        " units of `untrained` count as dead there.",
    ]
    if not models:
        return "\n\n".join([*parts, "No run of these settings has ended yet.", ""])
    first = next(reversed(models.values()))["settings"]
    parts += [
        f"{first['steps']} steps of {first['batch_size']} images, {first['latent']} units,"
        f" {first['channels']} maps in the first convolution, one thread.",
        _table(
            ["model", "seeds", *SCORES, "CPU minutes"],
            [
                [name, len(row["seeds"]), *map(_shown, row["found"].values()),
                 f"{row['cpu_seconds'] / 60:.1f}"]
                for name, row in models.items()
            ],
        ),
        "How much of each factor the best unit tells (mutual information by entropy, mean over"
        " seeds):",
        _table(
            ["model", *next(iter(models.values()))["shares"]],
            [[name, *(f"{v:.2f}" for v in row["shares"].values())] for name, row in models.items()],
        ),
    ]  # fmt: skip
    drawn = [name for name in models if (args.results / "disentanglement" / f"{name}.png").exists()]
    if drawn:
        parts.append(f"A row a unit, by KL, from -{REACH} to {REACH}, seed 0:")
    parts += [f"{name}\n\n![{name}](disentanglement/{name}.png)" for name in drawn]
    return "\n\n".join(parts) + "\n"


def _shown(found):
    if found["low"] is None:
        return f"{found['value']:.3g}"
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
