"""DCGAN and WGAN-GP trained by minigen and by PyTorch with equal settings: their Frechet distances.

    python benchmarks/gan_parity.py [--models dcgan,wgan-gp] [--seeds 3] [--jobs 2] [--json]

A seed fixes the weights that both begin with, the batches, the noise and the mixing of images that
the penalty takes; Adam, batch norm and the averaged generator follow the same rules. Rounding still
drives two runs apart, as another seed would, so what is compared are means over seeds: of the
Frechet distance, in the features of lenet-fashion, between samples of the averaged generator and
held-out images of Fashion-MNIST. Exits with 1 where the means of a model are more than 5 % apart,
or where the first steps in float64 are not the same to 1e-6.

Each run is a process of one thread; what it found is written into --out as it ends. Runs that are
there already, of the same settings, are not done again; runs of other settings stay there, and do
not count. --control adds runs of PyTorch in its other
memory format: how far the means of one library lie apart from each other.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure

LIMIT = 0.05  # between the means
TOLERANCE = 1e-6  # of the losses of the first steps in float64
FEATURES = "lenet-fashion"
SETTINGS = {
    "wgan-gp": {"steps": 1000, "batch_size": 64, "channels": 16},
    "dcgan": {"steps": 3000, "batch_size": 64, "channels": 32},
}
CONTROL = "torch-channels-last"
LIBRARIES = ("minigen", "torch", CONTROL)
MOMENTS = 2  # of a run, evenly spaced, at which distances are taken
CURVE = 50  # points that are kept of a curve of losses
OUT = measure.ROOT / "benchmarks" / "results" / "gan_parity.json"


def main():
    args = _arguments()
    measure.start(args)
    if args.one:
        model, library, seed = args.one
        print(json.dumps(train(model, library, int(seed), _settings(args, model), args.samples)))
        return
    from gan_pair import first_steps

    checks = {model: first_steps(model, _options(_settings(args, model))) for model in args.models}
    _all_runs(args)
    result = keep(args, checks)
    measure.show(result, args, lines)
    sys.exit(not result["agree"])


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(SETTINGS), help="names with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, of one thread each")
    parser.add_argument("--samples", type=int, default=10_000, help="of each generator")
    parser.add_argument("--steps", type=int, help="of the generator, instead of the model's own")
    parser.add_argument("--control", action="store_true", help=f"train {CONTROL} too")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON document, kept as runs end")
    parser.add_argument("--json", action="store_true", help="print it")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "LIBRARY", "SEED"),
                        help="do one run in this process and print it")  # fmt: skip
    parser.set_defaults(threads=1, clock="cpu")
    args = parser.parse_args()
    args.models = args.models.split(",")
    wrong = [model for model in args.models if model not in SETTINGS]
    if wrong:
        sys.exit(f"gan_parity: no {', '.join(wrong)}; expected some of {', '.join(SETTINGS)}")
    return args


def _settings(args, model):
    return SETTINGS[model] | ({"steps": args.steps} if args.steps else {})


def _options(settings):
    """Those of the settings that are the model's."""
    return {name: value for name, value in settings.items() if name != "steps"}


# ---------------------------------------------------------------------------------------- one run


def train(model, library, seed, settings, samples):
    """Train one GAN in this process; its distances, losses and milliseconds a step."""
    import numpy as np
    from gan_pair import Numbers, Ours, Theirs, make

    from minigen import data
    from minigen.metrics.features import feature_network

    made = make(model, _options(settings), seed)
    if library == "minigen":
        gan = Ours(made)
    else:
        measure.same_threads(1)
        gan = Theirs(made, measure.How(channels_last=library == CONTROL))
    dataset, held_out = data.load(*source("train")), data.load(*source("test"))
    network = feature_network(FEATURES)
    real = network.features(held_out.batch(range(min(samples, len(held_out))))[0])
    order, numbers = np.random.default_rng([seed, 0]), Numbers(seed)
    z = Numbers(seed + 1000).noise(samples, made.options.latent)
    steps, losses, found = settings["steps"], [], []
    seconds = dict.fromkeys(("wall", "cpu"), 0.0)
    for step in range(1, steps + 1):
        images = dataset.batch(order.integers(len(dataset), size=made.images_per_step))[0] * 2 - 1
        wall, cpu = time.perf_counter(), time.process_time()
        losses.append(gan.step(np.ascontiguousarray(images), numbers))
        seconds["wall"] += time.perf_counter() - wall
        seconds["cpu"] += time.process_time() - cpu
        if step * MOMENTS % steps < MOMENTS:
            found.append({"step": step, **_distances(gan, z, network, real)})
    names = {"model": model, "library": library, "seed": seed, "settings": settings}
    return {
        **names,
        "version": _version(library.partition("-")[0]),
        "data": dataset.name,
        "images": {"train": len(dataset), "held_out": len(real)},
        "samples": samples,
        "ms_a_step": {clock: 1000 * each / steps for clock, each in seconds.items()},
        "distances": found,
        "losses": thinned(losses),
    }


def _version(library):
    """minigen may run from a checkout that is not installed."""
    import minigen as mg

    return f"minigen {mg.__version__}" if library == "minigen" else measure.version(library)


def source(split):
    """What data.load takes: the full Fashion-MNIST where it is installed, else the embedded one."""
    from minigen.data.catalogue import FASHION_FOLDER

    return "fashion-mnist-full" if FASHION_FOLDER.is_dir() else "fashion-mnist", split


def _distances(gan, z, network, real):
    from minigen.metrics.frechet import frechet_distance

    return {
        label: float(frechet_distance(network.features(gan.images(z, averaged)), real))
        for label, averaged in (("averaged", True), ("raw", False))
    }


def thinned(losses):
    """{name: at most CURVE means over equal stretches} of a list of losses by name."""
    width = -(-len(losses) // CURVE)
    parts = [losses[i : i + width] for i in range(0, len(losses), width)]
    return {
        name: [round(statistics.fmean(step[name] for step in part), 4) for part in parts]
        for name in losses[0]
    }


# ----------------------------------------------------------------------------------- all the runs


KEY = ("model", "library", "seed", "settings", "samples")  # what determines a run


def _all_runs(args):
    """Do the runs that were asked for and that --out does not have."""
    there = measure.keyed(KEY, measure.read_json(args.out).get("runs", []))
    missing = [run for key, run in measure.keyed(KEY, _asked(args)).items() if key not in there]

    def do(wanted):
        words = ["--samples", args.samples, *(["--steps", args.steps] if args.steps else [])]
        run = measure.fresh("--one", *(wanted[name] for name in KEY[:3]), *words)
        keep(args, {}, run)
        print(f"gan_parity: {_line(run)}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(do, missing))


def _asked(args):
    """What determines each of the runs that were asked for."""
    return [
        dict(zip(KEY, (model, library, seed, _settings(args, model), args.samples), strict=True))
        for model in args.models
        for seed in range(args.seeds)
        for library in (LIBRARIES if args.control else LIBRARIES[:2])
    ]


def keep(args, checks, *new):
    """Add new runs to all that --out has, and judge those that were asked for; the document."""

    def change(known):
        runs = measure.keyed(KEY, [*known.get("runs", []), *new])
        judged = [runs[key] for key in measure.keyed(KEY, _asked(args)) if key in runs]
        return {**document(judged, checks, args.samples), "runs": list(runs.values())}

    return measure.update_json(args.out, change)


# ------------------------------------------------------------------------------------ the verdict


def document(runs, checks, samples):
    """What is kept as JSON: the runs, and what follows from them."""
    models = [row for name in SETTINGS if (row := compared(name, runs))]
    return {
        **measure.header(),
        "features": FEATURES,
        "samples": samples,
        "limit": LIMIT,
        "agree": all(row["apart"] <= LIMIT for row in models)
        and all(check <= TOLERANCE for check in checks.values()),
        "first_steps_apart": checks,
        "models": models,
        "runs": runs,
    }


def compared(model, runs):
    """A model's distances at the end, by library, over the seeds that all libraries have done.

    None while PyTorch or minigen has none.
    """
    by_library = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        if run["model"] == model:
            by_library.setdefault(run["library"], {})[run["seed"]] = run
    seeds = set.intersection(*map(set, by_library.values())) if by_library else set()
    if not {"minigen", "torch"} <= set(by_library) or not seeds:
        return None
    found = {
        library: _spread([run for seed, run in by_library[library].items() if seed in seeds])
        for library in LIBRARIES
        if library in by_library
    }
    row = {"model": model, "apart": _apart(found["minigen"], found["torch"]), "libraries": found}
    if CONTROL in found:
        row["control_apart"] = _apart(found[CONTROL], found["torch"])
    return row


def _apart(one, other):
    return abs(one["averaged"]["mean"] / other["averaged"]["mean"] - 1)


def _spread(runs):
    """Means over seeds and, of the distances, the standard deviation and each."""
    made = {"ms_a_step": statistics.fmean(run["ms_a_step"]["cpu"] for run in runs)}
    for label in ("averaged", "raw"):
        each = [run["distances"][-1][label] for run in runs]
        deviation = statistics.stdev(each) if len(each) > 1 else None
        made[label] = {"mean": statistics.fmean(each), "deviation": deviation, "each": each}
    return made


def lines(result):
    """The document for people."""
    for model, check in result["first_steps_apart"].items():
        yield f"{model}: first steps in float64 {check:.1e} apart (tolerance {TOLERANCE:.0e})"
    for row in result["models"]:
        yield f"{row['model']}: Frechet distances in the features of {result['features']}"
        for library, found in row["libraries"].items():
            yield (
                f"  {library:20s} averaged {_shown(found['averaged'])}, raw {_shown(found['raw'])};"
                f" {found['ms_a_step']:.1f} ms a step (CPU time)"
            )
        verdict = "within" if row["apart"] <= result["limit"] else "NOT within"
        yield f"  the means are {row['apart']:.2%} apart: {verdict} {result['limit']:.0%}" + (
            f"; the control {row['control_apart']:.2%}" if "control_apart" in row else ""
        )


def _shown(found):
    each = ", ".join(f"{value:.2f}" for value in found["each"])
    return f"{found['mean']:.2f} +- {found['deviation'] or 0:.2f} ({each})"


def _line(run):
    last = run["distances"][-1]
    return (
        f"{run['model']} by {run['library']}, seed {run['seed']}: {last['averaged']:.2f} averaged, "
        f"{last['raw']:.2f} raw after {last['step']} steps of {run['ms_a_step']['cpu']:.1f} ms"
    )


if __name__ == "__main__":
    main()
