"""Every GAN of `minigen list`, trained on Fashion-MNIST by one command each and measured.

    python benchmarks/gan_table.py [--models dcgan,wgan-gp] [--jobs 1] [--samples 10000]
    python benchmarks/gan_table.py --table-only      the table and the pictures from the JSON

Trains with `minigen train` and the settings in ROWS, then compares samples with the held-out images
in the features of lenet-fashion: Frechet distance with its interval, kernel distance, precision and
recall, density and coverage, and of conditional models how many samples are of the class that was
asked for. CPU minutes are those that a run's process used.

    python benchmarks/gan_table.py --time --threads 2

on a machine that does nothing else runs a fiftieth of each command again and adds the minutes that
the whole takes on two cores, so that training itself may share the machine.

For `biggan` the curve of truncation is measured as well. What was found is written into
results/gan_table.json as each model ends, with results/gan_table.md and pictures beside it. Models
that are there already, of the same command, are left as they are, and a run that was interrupted
goes on.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import measure


class Row(NamedTuple):
    """What one model is trained with: steps of its generator, and options for --set."""

    steps: int
    settings: str


# About two minutes each on two cores. The networks are half as wide as the papers', for images of
# this size, and most have the same widths, so that what differs is how they are trained. Where the
# paper's learning rate is for ten and more times as many steps it is raised.
SAME = "channels=32 batch_size=64"
ROWS = {
    "gan": Row(5000, SAME),
    "dcgan": Row(10_000, SAME),
    "lsgan": Row(8000, SAME),
    "wgan": Row(2400, f"{SAME} lr=3e-4"),
    "wgan-gp": Row(1600, f"{SAME} lr=5e-4"),
    "hinge": Row(9000, SAME),
    "r1": Row(6000, f"{SAME} lr=2e-4"),
    "began": Row(4500, "batch_size=16 channels=16 gain=0.1 gamma=0.7 lr=5e-4"),
    "pacgan": Row(8000, SAME),
    "cgan": Row(9000, SAME),
    "pggan": Row(2400, "phase_steps=600"),
    "biggan": Row(1400, "batch_size=64"),
}
FEATURES = "lenet-fashion"
METRICS = "frechet,kernel-distance,precision-recall,density-coverage,classes,ms-ssim"
EVALUATED = ("--features", FEATURES, "--metrics", METRICS, "--json")
TRUNCATED = "biggan"
TRUNCATIONS = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, None)
GRID = 6, 10  # rows and columns of the pictures; a conditional model has a class in each column
SEED = 0
RESULTS = measure.ROOT / "benchmarks" / "results"


def main():
    args = _arguments()
    measure.start(args)
    if args.one:
        print(json.dumps(measured(args.one, args)))
        return
    if args.time:
        time_all(args)
    elif not args.table_only:
        _train_all(args)
    import gan_page

    path = args.results / "gan_table.json"
    if not path.exists():
        sys.exit(f"gan_table: there is no {path} yet; run gan_table.py without --table-only")
    print(gan_page.write(json.loads(path.read_text()), args.results))


def _arguments():
    parser = measure.parser(__doc__)
    parser.add_argument("--models", default=",".join(ROWS), help="names with commas")
    parser.add_argument("--jobs", type=int, default=1, help="models at once; --threads are of each")
    parser.add_argument("--samples", type=int, default=10_000, help="of each generator, at most")
    parser.add_argument("--steps", type=int, help="instead of each model's own")
    parser.add_argument("--runs", type=Path, default=measure.ROOT / "runs" / "gan_table",
                        help="where the runs lie")  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where JSON, table, pictures go"
    )
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    parser.add_argument("--time", action="store_true", help="time steps of models in the JSON")
    parser.add_argument("--one", metavar="MODEL", help="do one model here and print what was found")
    args = parser.parse_args()
    args.models = args.models.split(",")
    wrong = [model for model in args.models if model not in ROWS]
    if wrong:
        sys.exit(f"gan_table: no {', '.join(wrong)}; expected some of {', '.join(ROWS)}")
    return args


def _train_all(args):
    """Each model in a process of its own; those that are done already, by the same command, not."""
    path = args.results / "gan_table.json"
    there = measure.read_json(path).get("models", {})

    def do(model):
        words = ["--threads", args.threads, "--samples", args.samples, "--runs", args.runs]
        words += ["--results", args.results, *(["--steps", args.steps] if args.steps else [])]
        try:
            row = measure.fresh("--one", model, *words)
        except subprocess.CalledProcessError:  # it has said why; the other models still count
            print(f"gan_table: {model} failed", file=sys.stderr, flush=True)
            return

        def with_row(document):
            found = {**document.get("models", {}), model: row}
            return {**measure.header(), "features": FEATURES, "models": in_order(found)}

        measure.update_json(path, with_row)
        print(f"gan_table: {line(model, row)}", file=sys.stderr, flush=True)

    wanted = [m for m in args.models if not _is_done(there.get(m), m, args)]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(do, wanted))


def _is_done(row, model, args):
    same = row and (row["command"], row["samples"]) == (command(model, args), args.samples)
    return same and (args.results / "gan_table" / f"{model}.png").exists()


def in_order(found):
    return {model: found[model] for model in ROWS if model in found}


def line(model, row):
    distance = row["metrics"]["frechet-lenet"]["value"]
    return f"{model}: frechet-lenet {distance:.2f} after {row['minutes']:.1f} minutes"


# -------------------------------------------------------------------------------------- one model


def command(model, args):
    """The command that trains a model, but for where its run lies."""
    row = ROWS[model]
    chosen = " ".join(f"--set {each}" for each in row.settings.split())
    return f"minigen train {model} --data {data_name()} --steps {args.steps or row.steps} {chosen}"


def data_name():
    """The full Fashion-MNIST where it is installed, else the embedded one."""
    from minigen.data.catalogue import FASHION_FOLDER

    return "fashion-mnist-full" if FASHION_FOLDER.is_dir() else "fashion-mnist"


def measured(model, args):
    """Train a model, or go on with its run, measure it and draw its grid: a row of the JSON."""
    from gan_page import REAL, draw

    from minigen.random import Generator
    from minigen.train.build import load_run, open_data

    text = command(model, args)
    folder = args.runs / f"{model}-{zlib.crc32(text.encode()):08x}"
    used = _train(text, folder, args.threads)
    out = run_minigen("evaluate", folder, *EVALUATED, "-n", args.samples, "--threads", args.threads)
    trained = load_run(folder)
    held_out = open_data(trained.config, "test")
    rows, columns = GRID
    images = trained.model.sample(rows * columns, Generator(SEED).spawn("gan-table"))
    draw(images, columns, args.results / "gan_table" / f"{model}.png")
    draw(by_class(held_out, rows), columns, args.results / "gan_table" / f"{REAL}.png")
    row = {
        "command": text,
        "minutes": trained.directory.read_metrics()[-1]["seconds"] / 60,
        "cpu_minutes": used["cpu_seconds"] / 60,
        "load": used["load"],
        "threads": args.threads,
        "machine": measure.machine(),
        "commit": measure.commit(),
        "images_seen": trained.step * trained.model.images_per_step,
        "samples": args.samples,
        "held_out": len(held_out),
        "metrics": json.loads(out),
        "alarms": alarms(trained.directory),
    }
    if model == TRUNCATED:
        row["truncation"] = truncation_curve(trained.model, held_out, args.samples)
    return row


def _train(text, folder, threads):
    """Run the command in `folder`, or go on with what is there; {"load", "cpu_seconds"}: of the
    machine as it began, and of all the processes that worked on it.
    """
    ledger = folder.with_name(f"{folder.name}.json")  # beside the run, whose folder is its own
    used = {"load": round(os.getloadavg()[0], 2), "cpu_seconds": 0.0}
    if ledger.exists():
        used = json.loads(ledger.read_text())
    begun = (folder / "config.toml").exists()
    words = ["train", "--resume", folder] if begun else [*text.split()[1:], "--out", folder]
    before = children_seconds()
    try:
        run_minigen(*words, "--threads", threads, "--quiet")
    finally:
        used["cpu_seconds"] += children_seconds() - before
        measure.update_json(ledger, lambda _: used)
    return used


def run_minigen(*words):
    """What the command prints on standard output; exits with its last word where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "minigen", *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"gan_table: minigen {words[0]}: exit status {done.returncode}")
    return done.stdout


def children_seconds():
    """CPU time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_all(args):
    """Add to each model of the JSON the time of a step, and so of all its steps, on a machine that
    does nothing else.
    """
    path = args.results / "gan_table.json"
    for model in json.loads(path.read_text())["models"]:
        seconds = step_seconds(model, args.threads)
        minutes = seconds * (args.steps or ROWS[model].steps) / 60
        idle = {"ms_a_step": 1000 * seconds, "minutes": minutes, "threads": args.threads}
        measure.update_json(path, partial(with_idle, model, idle))
        print(f"gan_table: {model}: {minutes:.1f} minutes", file=sys.stderr)


def with_idle(model, idle, document):
    document["models"][model]["idle"] = idle
    return document


def step_seconds(model, threads):
    """The mean time of a step over a fiftieth of a model's training, without what warming up,
    grids and checkpoints take.
    """
    steps, settings = ROWS[model].steps // 50, []
    for each in ROWS[model].settings.split():
        key, value = each.split("=")
        settings += ["--set", f"{key}={int(value) // 50 if key == 'phase_steps' else value}"]
    with tempfile.TemporaryDirectory() as folder:
        run_minigen(
            "train", model, "--data", data_name(), "--steps", steps, *settings,
            "--threads", threads, "--out", Path(folder) / "run", "--quiet",
        )  # fmt: skip
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    ends = [json.loads(line)["seconds"] for line in lines][steps // 10 :]
    each = [b - a for a, b in pairwise(ends)]
    usual = statistics.median(each)
    return statistics.mean(seconds for seconds in each if seconds < 3 * usual)


def by_class(dataset, rows):
    """The first images of each class, (rows * classes, C, H, W), a column a class."""
    import numpy as np

    firsts = [np.flatnonzero(dataset.labels == k)[:rows] for k in np.unique(dataset.labels)]
    return dataset.batch(np.stack(firsts, 1).ravel())[0]


def alarms(directory):
    """What the doctor has said in a run: {"step", "name", "text"} of each finding."""
    records = directory.read_metrics()
    return [finding for record in records for finding in record.get("findings", ())]


# ------------------------------------------------------------------------------------- truncation


def truncation_curve(model, held_out, samples):
    """Quality and variety of samples whose noise is redrawn beyond each limit."""
    from minigen.metrics import density_coverage, frechet_distance, precision_recall
    from minigen.metrics.features import feature_network
    from minigen.random import Generator

    network = feature_network(FEATURES)
    real = network.features(held_out.batch(range(min(samples, len(held_out))))[0])
    points = []
    for limit in TRUNCATIONS:
        rng = Generator(SEED).spawn("truncation")
        fake = network.features(model.sample(len(real), rng, truncation=limit))
        precision, recall = precision_recall(real, fake)
        density, coverage = density_coverage(real, fake)
        points.append(
            {"truncation": limit, "frechet": frechet_distance(fake, real), "precision": precision,
             "recall": recall, "density": density, "coverage": coverage}
        )  # fmt: skip
    return points


if __name__ == "__main__":
    main()
