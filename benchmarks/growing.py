"""`pggan` growing and not growing at the same budget: sliced Wasserstein distances.

    python benchmarks/growing.py [--size 64] [--steps 2400] [--seeds 3] [--jobs 2] [--json]

On Fashion-MNIST, resized. The two differ in one option, grow: first weights, batches and noise are
the same. Sets of --samples images of the averaged generator and of held-out images are compared
MOMENTS times a run, at each level of the Laplacian pyramid (Karras et al. 2017, section 5 and table
1). The budget is counted twice: in seconds of computing, where the one that does not grow is
measured when it has used as many as the other in all, and in images, where both have seen as many.

Each run is a process of one thread; what it found is written into --out as it ends. Runs that are
there already, of the same settings, are not done again; runs of other settings stay there, and do
not count. Exits with 1 where growing is not better for equal seconds. What growing saves are steps
at full size, so little is to be gained at 28 pixels, where the networks begin at 7.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure

MOMENTS = 12  # of a run, evenly spaced, at which distances are taken
PATCHES = 32  # of an image
REPEATS = 2  # projections onto random directions, four times fewer than in the paper
OUT = measure.ROOT / "benchmarks" / "results" / "growing.json"


def main():
    args = _arguments()
    measure.start(args)
    if args.one:
        grow, seed = args.one
        print(json.dumps(train(grow == "grow", int(seed), settings(args))))
        return
    _all_runs(args)
    result = keep(args)
    measure.show(result, args, lines)
    sys.exit(not result["better"])


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2400, help="of either")
    parser.add_argument("--phase-steps", type=int, help="default: a share of the steps")
    parser.add_argument("--size", type=int, default=64, choices=[28, 32, 64], help="pixels")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--samples", type=int, default=2000, help="images of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, of one thread each")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON document, kept as runs end")
    parser.add_argument("--json", action="store_true", help="print it")
    parser.add_argument("--one", nargs=2, metavar=("GROW", "SEED"),
                        help="print one run ('grow' or 'full') done in this process")  # fmt: skip
    parser.set_defaults(threads=1, clock="cpu")
    return parser.parse_args()


def settings(args):
    """What all runs have in common."""
    sizes = {28: 3, 32: 4, 64: 5}[args.size]
    return {
        "size": args.size,
        "steps": args.steps,
        "phase_steps": args.phase_steps or args.steps // (sizes + 1),  # the last size counts twice
        "channels": args.channels,
        "batch_size": args.batch_size,
        "samples": args.samples,
    }


# ---------------------------------------------------------------------------------------- one run


def train(grow, seed, wanted):
    """Train one pggan in this process; its distances as it goes, and the seconds that it took."""
    from gan_parity import source

    import minigen as mg
    from minigen import data
    from minigen.gan.pggan import PGGAN

    sets = [data.load(*source(split), image_size=wanted["size"]) for split in ("train", "test")]
    names = "phase_steps", "channels", "batch_size"
    options = PGGAN.Options(grow=grow, **{name: wanted[name] for name in names})
    start = mg.Generator(seed)
    model = PGGAN(options, sets[0].image_shape, rng=start.spawn("init"))
    rng, steps, found = start.spawn("steps"), wanted["steps"], []
    real, other = (_first(each, wanted["samples"]) for each in reversed(sets))
    seconds = dict.fromkeys(("wall", "cpu"), 0.0)
    with data.Batches(sets[0], model.images_per_step, seed=seed) as batches:
        for step in range(1, steps + 1):
            images, labels = next(batches)
            wall, cpu = time.perf_counter(), time.process_time()
            model.step(images, labels, rng)
            seconds["wall"] += time.perf_counter() - wall
            seconds["cpu"] += time.process_time() - cpu
            if step * MOMENTS % steps < MOMENTS:
                fake = model.sample(len(real), start.spawn("samples"))
                moment = {"step": step, "level": model.growth.sizes[model.growth.level]}
                found.append({**moment, **seconds, "distances": distances(real, fake)})
    return {
        "grow": grow,
        "seed": seed,
        "settings": wanted,
        "data": sets[0].name,
        "images": len(sets[0]),
        "seconds": seconds,
        "moments": found,
        "real": distances(real, other),  # of the training images: as near as can be
    }


def _first(dataset, n):
    return dataset.batch(range(min(n, len(dataset))))[0]


def distances(real, fake):
    """{level: sliced Wasserstein distance x 1000, "mean": of all levels}."""
    import minigen as mg
    from minigen.metrics.sliced_wasserstein import sliced_wasserstein

    n = min(len(real), len(fake))
    found = sliced_wasserstein(
        real[:n], fake[:n], rng=mg.Generator(0), patches_per_image=PATCHES, repeats=REPEATS
    )
    return {**{str(level): value for level, value in found.items()},
            "mean": statistics.fmean(found.values())}  # fmt: skip


# ----------------------------------------------------------------------------------- all the runs


KEY = ("grow", "seed", "settings")  # what determines a run


def _all_runs(args):
    """Do the runs that were asked for and that --out does not have."""
    there = measure.keyed(KEY, measure.read_json(args.out).get("runs", []))
    missing = [run for key, run in measure.keyed(KEY, _asked(args)).items() if key not in there]

    def do(wanted):
        way = "grow" if wanted["grow"] else "full"
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings(args).items()]
        run = measure.fresh("--one", way, wanted["seed"], *words)
        keep(args, run)
        print(f"growing: {_line(run)}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(do, missing))


def _asked(args):
    """What determines each of the runs that were asked for."""
    return [
        dict(zip(KEY, (grow, seed, settings(args)), strict=True))
        for seed in range(args.seeds)
        for grow in (True, False)
    ]


def keep(args, *new):
    """Add new runs to all that --out has, and judge those that were asked for; the document."""

    def change(known):
        runs = measure.keyed(KEY, [*known.get("runs", []), *new])
        judged = [runs[key] for key in measure.keyed(KEY, _asked(args)) if key in runs]
        return {**document(judged, settings(args)), "runs": list(runs.values())}

    return measure.update_json(args.out, change)


# ------------------------------------------------------------------------------------ the verdict


def document(runs, wanted):
    """What is kept as JSON: the runs, and what follows from them."""
    budgets = compared(runs)
    return {
        **measure.header(),
        "settings": wanted,
        "better": bool(budgets) and budgets["seconds"]["ratio"] < 1,
        "budgets": budgets,
        "runs": runs,
    }


def compared(runs):
    """By budget, both ways' distances over the seeds that have both; {} until one has."""
    ways = [{run["seed"]: run for run in runs if run["grow"] is grow} for grow in (True, False)]
    pairs = [(ways[0][seed], ways[1][seed]) for seed in sorted(ways[0].keys() & ways[1].keys())]
    if not pairs:
        return {}
    ends = [grown["moments"][-1] for grown, _ in pairs]
    taken = {
        "seconds": [_after(full, grown["seconds"]["cpu"]) for grown, full in pairs],
        "images": [full["moments"][-1] for _, full in pairs],
    }
    return {budget: _budget(ends, moments) for budget, moments in taken.items()}


def _after(run, cpu):
    """The first moment of a run at which it had computed for as long; the last if it never had."""
    return next((m for m in run["moments"] if m["cpu"] >= cpu), run["moments"][-1])


def _budget(grown, full):
    row = {"growing": _spread(grown), "not growing": _spread(full)}
    return {**row, "ratio": row["growing"]["mean"]["mean"] / row["not growing"]["mean"]["mean"]}


def _spread(moments):
    """{level: mean and each seed's distance}, with the steps and seconds that went before."""
    made = {"steps": [m["step"] for m in moments], "cpu": [round(m["cpu"], 1) for m in moments]}
    for level in moments[0]["distances"]:
        each = [m["distances"][level] for m in moments]
        made[level] = {"mean": statistics.fmean(each), "each": each}
    return made


def lines(result):
    """The document for people."""
    wanted = result["settings"]
    yield f"sliced Wasserstein distance x 1000 at {wanted['size']} pixels, {wanted['steps']} steps"
    for budget, row in result["budgets"].items():
        yield f"equal {budget}:"
        for way in ("growing", "not growing"):
            found = row[way]
            levels = [name for name in found if name not in ("steps", "cpu")]
            shown = ", ".join(f"{name} {found[name]['mean']:.1f}" for name in levels)
            each = " ".join(f"{value:.1f}" for value in found["mean"]["each"])
            yield f"  {way:12s} {shown} (means of the seeds {each}); CPU seconds {found['cpu']}"
        yield f"  growing / not growing: {row['ratio']:.2f}"
    real = next(run["real"] for run in result["runs"] if run["settings"] == wanted)
    yield "training images themselves: " + ", ".join(f"{k} {v:.1f}" for k, v in real.items())


def _line(run):
    last = run["moments"][-1]
    way = "growing" if run["grow"] else "not growing"
    return (
        f"{way}, seed {run['seed']}: {last['distances']['mean']:.1f} after {last['step']} steps"
        f" in {last['cpu']:.0f} s of computing"
    )


if __name__ == "__main__":
    main()
