"""Mode collapse, measured: the GAN family on a ring of 8 Gaussians, a grid of 25, stacked MNIST.

    python benchmarks/modes.py [--tasks ring grid stacked] [--seeds 3] [--jobs 2] [--mnist FOLDER]
    python benchmarks/modes.py --table               the table from the JSON

Every run is a process of one thread, `--jobs` of them at a time. Counted are the modes reached (of
8, 25, 1,000), the share of good samples (within 3 standard deviations of a centre) and KL(samples
over the modes || uniform) in nats, as mean and standard error over the seeds, beside the published
figures. A mode counts as reached from one good sample on, so a cloud that has learned nothing yet
reaches some: read it with the share.

Noise, batches, losses and optimisers are those of PacGAN's code (github.com/fjxmlzn/PacGAN), and
the networks for stacked MNIST too. What makes a run take a minute instead of hours: networks for
points are a third as wide, their layers begun so that they see fine detail soon (mode_models.py),
and all learning rates are ten times the papers', for a twentieth of the steps or fewer. Critics of
five updates a step get two fifths of the steps. Runs that are in the JSON already, with the same
settings, are kept: a command that was interrupted goes on where it was.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import measure
from modes_published import PUBLISHED, SOURCES

RESULTS = measure.ROOT / "benchmarks" / "results"
CRITIC = {"loss": "wasserstein", "critic_steps": 5}
CLIPPED = {**CRITIC, "regularizer": "weight-clipping", "optimizer": "rmsprop", "lr": 5e-4}
# The penalty's weight on points is that of the authors' code for toys, 0.1 instead of 10.
PENALTY = {**CRITIC, "regularizer": "gradient-penalty", "beta1": 0.5, "beta2": 0.9}
ONE_THREAD = dict.fromkeys(("MINIGEN_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Task(NamedTuple):
    """What is learned, for how long, and by whom: options of PointGAN or StackedGAN by name."""

    modes: int
    steps: int  # of the generator
    samples: int  # in which modes are counted; the papers' number
    variants: dict[str, dict]


def packed(m, batch):
    """`batch` decisions a step, of m images each, as in PacGAN's code."""
    return {"packing": m, "batch_size": m * batch}


POINTS = {
    "gan": {},
    "pacgan2": packed(2, 100),
    "pacgan3": packed(3, 100),
    "pacgan4": packed(4, 100),
    "lsgan": {"loss": "least-squares"},
    "hinge-sn": {"loss": "hinge", "spectral_norm": True},
    "r1": {"regularizer": "r1"},
    "stddev": {"minibatch_stddev": True},
    "wgan": CLIPPED,
    "wgan-gp": {**PENALTY, "regularizer_weight": 0.1},
}
IMAGES = {
    "dcgan": packed(1, 64),
    "pacdcgan2": packed(2, 64),
    "pacdcgan3": packed(3, 64),
    "wgan-gp": {**PENALTY, "normalization": "layer", "discriminator_lr": 1e-3, **packed(1, 64)},
}
TASKS = {
    "ring": Task(8, 15_000, 2500, POINTS),
    "grid": Task(25, 20_000, 2500, POINTS),
    "stacked": Task(1000, 8000, 26_000, IMAGES),
}
DRAWN = 1000  # points of the first seed that the JSON keeps, for the chart


def main():
    args = parse()
    if args.one:
        print(json.dumps(run(args.one[0], args.one[1], int(args.one[2]), args)))
        return
    failed = [] if args.table else fill(args)
    document = read(args.out)
    if args.json:
        print(json.dumps(document, indent=1))
    else:
        print("\n".join(table(document)))
    if failed:
        sys.exit(f"modes: {len(failed)} runs failed: {', '.join(failed)}")


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices={**POINTS, **IMAGES}, help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of the generator; default: the task's")
    parser.add_argument("--samples", type=int, help="to count modes in; default: the papers'")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--mnist", help="folder of MNIST's IDX files, for stacked")
    parser.add_argument("--out", type=Path, default=RESULTS / "modes.json")
    parser.add_argument("--table", action="store_true", help="train nothing: print what is there")
    parser.add_argument("--json", action="store_true", help="print the JSON document")
    parser.add_argument(
        "--one", nargs=3, metavar=("TASK", "VARIANT", "SEED"), help="one run, as JSON"
    )
    args = parser.parse_args(argv)
    if not args.table and "stacked" in args.tasks and not args.mnist:
        parser.error("--tasks stacked: needs --mnist FOLDER, with the four IDX files of MNIST")
    return args


# one run ----------------------------------------------------------------------------------------


def settings(task, variant, args):
    """What a run's result depends on besides its seed; a kept run must have the same."""
    of = TASKS[task]
    options = of.variants[variant]
    share = 2 / 5 if options.get("critic_steps") else 1  # each has five updates of the critic
    return {
        "steps": args.steps or int(share * of.steps),
        "samples": args.samples or of.samples,
        "options": options,
    }


def run(task, variant, seed, args):
    """Train and count; the figures of one run."""
    import mode_models

    chosen = settings(task, variant, args)
    named = {"steps": chosen["steps"], "samples": chosen["samples"], "seed": seed}
    begin = time.process_time()
    if task == "stacked":
        report, _ = mode_models.train_stacked(args.mnist, chosen["options"], **named)
        points = []
    else:
        report, points = mode_models.train_points(task, chosen["options"], **named)
    found = {
        "task": task, "variant": variant, "seed": seed, **chosen,
        "modes": report.modes, "good": report.good_share, "kl": report.kl,
        "cpu_seconds": round(time.process_time() - begin, 1),
    }  # fmt: skip
    if seed == 0 and len(points):
        found["points"] = [[round(float(c), 3) for c in point] for point in points[:DRAWN]]
    return found


# all runs ---------------------------------------------------------------------------------------


def read(path):
    """The document so far."""
    return {"runs": []} | measure.read_json(path)


def key(found):
    return found["task"], found["variant"], found["seed"]


def missing(document, args):
    """(task, variant, seed) of the runs asked for that are not there with these settings."""
    there = {key(found): found for found in document["runs"]}
    for seed in range(args.seeds):  # all variants first, so that an early stop leaves a table
        for task in args.tasks:
            for variant in TASKS[task].variants:
                if args.variants and variant not in args.variants:
                    continue
                found = there.get((task, variant, seed), {})
                wanted = settings(task, variant, args)
                if any(found.get(name) != value for name, value in wanted.items()):
                    yield task, variant, seed


def fill(args):
    """Do what is missing, the file written anew after every run; names of the runs that failed."""
    failed = []
    asked = []
    for name in ("steps", "samples", "mnist"):
        value = getattr(args, name)
        asked += [f"--{name}", value] if value else []
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {
            pool.submit(measure.fresh, "--tasks", one[0], "--one", *one, *asked,
                        environment=ONE_THREAD): one
            for one in missing(read(args.out), args)
        }  # fmt: skip
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                name = " ".join(map(str, jobs[job]))
                try:
                    found = job.result()
                except subprocess.CalledProcessError:  # its own message has been printed
                    failed.append(name)
                    continue
                keep(found, args.out)
                figures = f"modes {found['modes']}, good {found['good']:.0%}, KL {found['kl']:.2f}"
                cost = f"{found['cpu_seconds']:.0f} s"
                print(f"{done}/{len(jobs)} {name}: {figures}, {cost}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def in_order(found):
    task, variant, seed = key(found)
    return list(TASKS).index(task), list(TASKS[task].variants).index(variant), seed


def keep(found, path):
    """Put a run into the file, in place of one of the same name."""

    def change(known):
        others = [each for each in known.get("runs", []) if key(each) != key(found)]
        return whole(sorted([*others, found], key=in_order))

    measure.update_json(path, change, text=a_run_a_line)


def whole(runs):
    """The document of some runs."""
    document = measure.header()
    document["command"] = re.sub(r"--mnist \S+", "--mnist FOLDER", document["command"])
    document |= {"published": PUBLISHED, "sources": SOURCES, "load": round(os.getloadavg()[0], 1)}
    return {**document, "summary": summary(runs), "runs": runs}


def a_run_a_line(document):
    rest = {name: value for name, value in document.items() if name != "runs"}
    lines = ",\n".join(json.dumps(found) for found in document["runs"])
    return json.dumps(rest, indent=1)[:-2] + f',\n "runs": [\n{lines}\n ]\n}}\n'


def summary(runs):
    """Mean and standard error over the seeds, a row for each task and variant."""
    rows = {}
    for found in runs:
        rows.setdefault((found["task"], found["variant"]), []).append(found)
    return [
        {
            "task": task, "variant": variant, "seeds": len(each), "steps": each[0]["steps"],
            **{name: spread([found[name] for found in each]) for name in ("modes", "good", "kl")},
            "cpu_seconds": statistics.mean(found["cpu_seconds"] for found in each),
        }
        for (task, variant), each in rows.items()
    ]  # fmt: skip


def spread(values):
    """[mean, standard error]; the error None where there is one value."""
    if len(values) < 2:
        return [statistics.mean(values), None]
    return [statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))]


# the table --------------------------------------------------------------------------------------


def table(document):
    """Markdown: a table a task, ours beside the published."""
    if not document["runs"]:
        yield "no runs yet"
        return
    yield f"{document['machine']}; commit {document['commit']}; {document['date']}"
    for task in TASKS:
        rows = [row for row in document["summary"] if row["task"] == task]
        if not rows:
            continue
        yield from ("", f"{task}: modes of {TASKS[task].modes}, mean and standard error", "")
        yield "| model | steps | seeds | modes | good | KL | published | good | KL | s a run |"
        yield "| --- |" + " ---: |" * 9
        for row in rows:
            theirs = PUBLISHED[task].get(row["variant"], {})
            ours = [cell(row["modes"], 1), cell(row["good"], 1, 100), cell(row["kl"], 2)]
            known = [
                cell(theirs.get("modes"), 1), cell(theirs.get("good"), 1, 100),
                cell(theirs.get("kl"), 2),
            ]  # fmt: skip
            first = [row["variant"], str(row["steps"]), str(row["seeds"])]
            yield f"| {' | '.join([*first, *ours, *known, format(row['cpu_seconds'], '.0f')])} |"
        others = [name for name in PUBLISHED[task] if name not in TASKS[task].variants]
        for name in others:
            theirs = PUBLISHED[task][name]
            known = [cell(theirs["modes"], 1), cell(theirs.get("good"), 1, 100)]
            yield f"| {name} | | | | | | {' | '.join(known)} | {cell(theirs.get('kl'), 2)} | |"
        yield ""
        yield f"Published: {SOURCES[task]}"


def cell(pair, digits, factor=1):
    """A mean and its standard error, in per cent for a factor of 100."""
    if pair is None:
        return ""
    sign = "%" if factor == 100 else ""
    mean = f"{factor * pair[0]:.{digits}f}"
    return mean + (f" ± {factor * pair[1]:.{digits}f}" if pair[1] is not None else "") + sign


if __name__ == "__main__":
    main()
