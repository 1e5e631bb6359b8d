"""`minigen list`: what there is to train and to train on."""

import argparse

from minigen.cli.output import Output
from minigen.train.registry import MODELS
from minigen.train.restorations import TASKS as RESTORATIONS

TASKS = (
    ("generate", "new images from a trained model: train, then sample"),
    ("evaluate", "a trained model's samples and losses against images not trained on"),
    *((each.name, f"restore photos: {each.help} ({', '.join(each.methods)})")
      for each in RESTORATIONS.values()),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen.data import names

    models = [{"name": m.name, "family": m.family, "help": m.help} for m in MODELS.values()]
    datasets = [{"name": name, "help": text} for name, text in names()]
    tasks = [{"name": name, "help": text} for name, text in TASKS]
    if args.json:
        output.result({"models": models, "datasets": datasets, "tasks": tasks})
        return 0
    output.table("Models", ["name", "family", "help"], [list(m.values()) for m in models])
    output.console.print()
    output.table("Datasets (--data)", ["name", "help"], [list(d.values()) for d in datasets])
    output.console.print()
    output.table("Tasks", ["name", "help"], [list(t.values()) for t in tasks])
    return 0
