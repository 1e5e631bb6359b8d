"""What gan_table.py and vae_table.py share: every model of a family, trained on Fashion-MNIST by
one command each, in a process of its own, and measured.

A script says what its models are trained with (`Row`) and what is measured of them; the rest, from
the command line to the JSON that grows as each model ends, is `Table`. Models that are in the JSON
already, of the same command, are left as they are, and a run that was interrupted goes on.
"""

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import measure

FEATURES = "lenet-fashion"
GRID = 6, 10  # rows and columns of the pictures; a conditional model has a class in each column
REAL = "held-out"
SEED = 0
RESULTS = measure.ROOT / "benchmarks" / "results"


class Row(NamedTuple):
    """What one model is trained with: steps, and options for --set."""

    steps: int
    settings: str


@dataclass
class Table:
    """One family's table; its name is that of the script, the JSON and the folder of pictures."""

    name: str
    rows: dict[str, Row]
    measured: Callable  # (model, args) -> a row of the JSON; it begins with `trained`
    page: str  # the module that makes a page of the JSON
    metrics: Callable  # model -> words for `minigen evaluate`
    head: dict = field(default_factory=dict)  # what else the JSON begins with
    times: tuple[str, ...] = ()  # options that count steps, so that a short timing shrinks them

    def main(self, description):
        """The script: what the command line asks for."""
        args = self.arguments(description)
        measure.start(args)
        if args.one:
            print(json.dumps(self.measured(args.one, args)))
            return
        if args.time:
            self.time_all(args)
        elif not args.table_only:
            self.train_all(args)
        path = self.json_path(args)
        if not path.exists():
            sys.exit(
                f"{self.name}: there is no {path} yet; run {self.name}.py without --table-only"
            )
        print(importlib.import_module(self.page).write(json.loads(path.read_text()), args.results))

    def arguments(self, description):
        parser = measure.parser(description)
        parser.add_argument("--models", default=",".join(self.rows), help="names with commas")
        parser.add_argument("--jobs", type=int, default=1,
                            help="models at once; --threads are of each")  # fmt: skip
        parser.add_argument("--samples", type=int, default=10_000, help="of each model, at most")
        parser.add_argument("--steps", type=int, help="instead of each model's own")
        parser.add_argument("--runs", type=Path, default=measure.ROOT / "runs" / self.name,
                            help="where the runs lie")  # fmt: skip
        parser.add_argument(
            "--results", type=Path, default=RESULTS, help="where JSON, table, pictures go"
        )
        parser.add_argument("--table-only", action="store_true", help="train nothing")
        parser.add_argument("--time", action="store_true", help="time steps of models in the JSON")
        parser.add_argument(
            "--one", metavar="MODEL", help="do one model here and print what was found"
        )
        args = parser.parse_args()
        args.models = args.models.split(",")
        wrong = [model for model in args.models if model not in self.rows]
        if wrong:
            sys.exit(f"{self.name}: no {', '.join(wrong)}; expected some of {', '.join(self.rows)}")
        return args

    def json_path(self, args):
        return args.results / f"{self.name}.json"

    def picture(self, args, name):
        return args.results / self.name / f"{name}.png"

    # ------------------------------------------------------------------------------ all models

    def train_all(self, args):
        """Each model in a process of its own; those that are done already, by the same command,
        not.
        """
        there = measure.read_json(self.json_path(args)).get("models", {})

        def do(model):
            words = ["--threads", args.threads, "--samples", args.samples, "--runs", args.runs]
            words += ["--results", args.results, *(["--steps", args.steps] if args.steps else [])]
            try:
                row = measure.fresh("--one", model, *words)
            except subprocess.CalledProcessError:  # it has said why; the other models still count
                print(f"{self.name}: {model} failed", file=sys.stderr, flush=True)
                return
            measure.update_json(self.json_path(args), partial(self.with_row, model, row))
            distance = row["metrics"]["frechet-lenet"]["value"]
            text = f"{model}: frechet-lenet {distance:.2f} after {row['minutes']:.1f} minutes"
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)

        wanted = [m for m in args.models if not self.is_done(there.get(m), m, args)]
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(do, wanted))

    def with_row(self, model, row, document):
        """The document with a model's row, all rows in the order of the script's."""
        found = {**document.get("models", {}), model: row}
        rows = {name: found[name] for name in self.rows if name in found}
        return {**measure.header(), "features": FEATURES, **self.head, "models": rows}

    def is_done(self, row, model, args):
        same = row and (row["command"], row["samples"]) == (
            self.command(model, args),
            args.samples,
        )
        return same and self.picture(args, model).exists()

    # ------------------------------------------------------------------------------- one model

    def command(self, model, args):
        """The command that trains a model, but for where its run lies."""
        row = self.rows[model]
        chosen = " ".join(f"--set {each}" for each in row.settings.split())
        steps = args.steps or row.steps
        return f"minigen train {model} --data {data_name()} --steps {steps} {chosen}".rstrip()

    def trained(self, model, args):
        """Train a model, or go on with its run, and measure and draw what all models have: the
        run, the held-out images, and the beginning of the row.
        """
        from models_page import draw

        from minigen.random import Generator
        from minigen.train.build import load_run, open_data

        text = self.command(model, args)
        folder = args.runs / f"{model}-{zlib.crc32(text.encode()):08x}"
        used = self.train(text, folder, args.threads)
        out = self.run("evaluate", folder, *self.metrics(model), "--json", "-n", args.samples,
                       "--threads", args.threads)  # fmt: skip
        run = load_run(folder)
        held_out = open_data(run.config, "test")
        rows, columns = GRID
        images = run.model.sample(
            rows * columns, Generator(SEED).spawn(self.name.replace("_", "-"))
        )
        draw(images, columns, self.picture(args, model))
        draw(by_class(held_out, rows), columns, self.picture(args, REAL))
        return run, held_out, {
            "command": text,
            "minutes": run.directory.read_metrics()[-1]["seconds"] / 60,
            "cpu_minutes": used["cpu_seconds"] / 60,
            "load": used["load"],
            "threads": args.threads,
            "machine": measure.machine(),
            "commit": measure.commit(),
            "images_seen": run.step * run.model.images_per_step,
            "samples": args.samples,
            "held_out": len(held_out),
            "metrics": json.loads(out),
            "alarms": alarms(run.directory),
        }  # fmt: skip

    def train(self, text, folder, threads):
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
            self.run(*words, "--threads", threads, "--quiet")
        finally:
            used["cpu_seconds"] += children_seconds() - before
            measure.update_json(ledger, lambda _: used)
        return used

    def run(self, *words):
        """What the command prints on standard output; exits with its last word where it fails."""
        code, out = run_minigen(*words)
        if code:
            sys.exit(f"{self.name}: minigen {words[0]}: exit status {code}")
        return out

    # ------------------------------------------------------------------------------------ time

    def time_all(self, args):
        """Add to each model of the JSON the time of a step, and so of all its steps, on a machine
        that does nothing else.
        """
        path = self.json_path(args)
        for model in json.loads(path.read_text())["models"]:
            seconds = self.step_seconds(model, args.threads)
            minutes = seconds * (args.steps or self.rows[model].steps) / 60
            idle = {"ms_a_step": 1000 * seconds, "minutes": minutes, "threads": args.threads}
            measure.update_json(path, partial(with_idle, model, idle))
            print(f"{self.name}: {model}: {minutes:.1f} minutes", file=sys.stderr)

    def step_seconds(self, model, threads):
        """The mean time of a step over a fiftieth of a model's training, without what warming up,
        grids and checkpoints take.
        """
        steps, settings = self.rows[model].steps // 50, []
        for each in self.rows[model].settings.split():
            key, value = each.split("=")
            short = int(value) // 50 if key in self.times else value
            settings += ["--set", f"{key}={short}"]
        with tempfile.TemporaryDirectory() as folder:
            self.run(
                "train", model, "--data", data_name(), "--steps", steps, *settings,
                "--threads", threads, "--out", Path(folder) / "run", "--quiet",
            )  # fmt: skip
            lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        ends = [json.loads(line)["seconds"] for line in lines][steps // 10 :]
        each = [b - a for a, b in pairwise(ends)]
        usual = statistics.median(each)
        return statistics.mean(seconds for seconds in each if seconds < 3 * usual)


def with_idle(model, idle, document):
    document["models"][model]["idle"] = idle
    return document


def run_minigen(*words):
    """(exit status, standard output) of the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "minigen", *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    return done.returncode, done.stdout


def children_seconds():
    """CPU time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def data_name():
    """The full Fashion-MNIST where it is installed, else the embedded one."""
    from minigen.data.catalogue import FASHION_FOLDER

    return "fashion-mnist-full" if FASHION_FOLDER.is_dir() else "fashion-mnist"


def by_class(dataset, rows):
    """The first images of each class, (rows * classes, C, H, W), a column a class."""
    import numpy as np

    firsts = [np.flatnonzero(dataset.labels == k)[:rows] for k in np.unique(dataset.labels)]
    return dataset.batch(np.stack(firsts, 1).ravel())[0]


def alarms(directory):
    """What the doctor has said in a run: {"step", "name", "text"} of each finding."""
    records = directory.read_metrics()
    return [finding for record in records for finding in record.get("findings", ())]
