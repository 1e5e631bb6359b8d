"""`minigen evaluate`: a trained model on images that it was not trained on."""

import argparse
import json
import math
from collections.abc import Iterator
from typing import Any

from minigen.cli.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--device", metavar="DEVICE", help="cpu or cuda (default: the run's)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="of the model's random numbers (default: 0)")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen import files
    from minigen.random import Generator
    from minigen.train import report
    from minigen.train.build import load_run, open_data
    from minigen.train.config import check_seed
    from minigen.train.errors import RunError

    check_seed(args.seed)
    trained = load_run(args.run, args.device)
    data = open_data(trained.config, "test")
    rng = Generator(args.seed, trained.config.device).spawn("evaluate")
    output.say(f"{len(data)} images of {data.name}, not trained on; step {trained.step}")
    found = trained.model.evaluate(_batches(trained, data), rng)
    metrics = {
        name: {key: _finite(each[key]) for key in ("value", "low", "high")}
        for name, each in found.items()
    }
    if args.json:
        output.result(metrics)
    else:
        rows = [(name, *map(_shown, each.values())) for name, each in metrics.items()]
        output.table("", ["metric", "value>", "low>", "high>"], rows)
    # Shown first: the folder may be somebody else's, where nothing can be written.
    record = {"step": trained.step, "images": len(data), "data": data.name, "metrics": metrics}
    directory = trained.directory
    try:
        files.write_text_atomic(directory.evaluation, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise RunError(str(error)) from error
    report.write_report(directory, trained.config, trained.step)
    output.say(f"low to high: 95% confidence interval; kept in {directory.evaluation}")
    return 0


def _batches(trained: Any, data: Any) -> Iterator[tuple[Any, Any]]:
    """Each image once, in the model's range of values and on its device."""
    from minigen import backend

    device = trained.config.device
    low, high = trained.model.value_range
    size = getattr(trained.config.options, "batch_size", 64)
    for start in range(0, len(data), size):
        images, labels = data.batch(range(start, min(start + size, len(data))))
        labels = None if labels is None else backend.to_device(labels, device)
        yield backend.to_device(images * (high - low) + low, device), labels


def _finite(value: float) -> float | None:
    """JSON has no NaN; an interval that one image alone cannot give is null."""
    return float(value) if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
