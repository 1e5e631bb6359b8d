"""`minigen evaluate`: a trained model, the images that it makes, and what it makes of others,
against images that it was not trained on.
"""

import argparse
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from minigen.cli.output import Output
from minigen.train.errors import RunError, UsageError, nearest
from minigen.train.progress import stages

LOSSES = "losses"  # beside the metrics of samples and of codes: what the model itself evaluates
SAMPLES = 10_000  # at most, unless -n says otherwise
SET_BYTES = 1 << 30  # of the images of one set that are held in memory
BATCH = 1000  # samples, or images read, at a time
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("-n", type=int, metavar="N", help="samples to make (default: as many as"
                        " held-out images, at most 10,000)")  # fmt: skip
    parser.add_argument("--metrics", metavar="A,B", help="only these (default: all that fit,"
                        " without log-likelihood): frechet, reconstruction, ...")  # fmt: skip
    parser.add_argument("-k", type=int, metavar="K", help="of log-likelihood: codes drawn for each"
                        " image (default: 500; papers take 5,000)")  # fmt: skip
    parser.add_argument("--images", type=int, metavar="N", help="of log-likelihood: held-out images"
                        " (default: at most 1,000)")  # fmt: skip
    parser.add_argument("--features", metavar="NAME", help="network whose features are compared"
                        " (default: the one for the data)")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu or cuda (default: the run's)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="of all random numbers (default: 0)")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen.metrics.encoded import METRICS as OF_CODES
    from minigen.metrics.suite import METRICS
    from minigen.random import Generator
    from minigen.train import report
    from minigen.train.build import load_run, open_data
    from minigen.train.config import check_seed
    from minigen.train.evaluations import add_evaluation, jsonable, read_evaluations

    check_seed(args.seed)
    chosen = _chosen(args)
    trained = load_run(args.run, args.device)
    directory = trained.directory
    read_evaluations(directory.evaluation)  # what is damaged is told before the work, not after
    data = open_data(trained.config, "test")
    output.say(f"{len(data)} images of {data.name}, not trained on; step {trained.step}")
    rng = Generator(args.seed, trained.config.device)
    metrics: dict[str, dict[str, float]] = {}
    record: dict[str, Any] = {"step": trained.step, "data": data.name, "images": len(data),
                              "samples": None, "features": None, "seed": args.seed}  # fmt: skip
    with nullcontext() if output.quiet else stages(output.console) as progress:
        asked = _asked(chosen, METRICS)
        if not getattr(trained.model, "generates", True):
            if asked:
                raise UsageError(
                    f"--metrics {asked[0]}: is of new images, and {trained.config.model} makes"
                    f" none; expected {LOSSES}"
                )
            for flag, value in (("-n", args.n), ("--features", args.features)):
                if value is not None:
                    raise UsageError(
                        f"{flag}: is of new images, and {trained.config.model} makes none; leave"
                        " it out"
                    )
            asked = []
        if asked != []:
            record["samples"] = args.n or min(SAMPLES, len(data))
            network = _network(args, trained, data, asked)
            record["features"] = network and network.name
            metrics = _of_samples(trained, data, network, asked, record["samples"], rng, progress)
        asked = _asked(chosen, OF_CODES)
        if asked != []:
            metrics.update(_of_codes(args, trained, data, asked, progress))
        if chosen is None or LOSSES in chosen:
            batches = _batches(trained, data, progress)
            metrics.update(trained.model.evaluate(batches, rng.spawn("evaluate")))
    if args.json:
        output.result(jsonable(metrics))
    else:
        rows = [(name, *map(_shown, each.values())) for name, each in metrics.items()]
        output.table("", ["metric", "value>", "low>", "high>"], rows)
    # Shown first: the folder may be somebody else's, where nothing can be written.
    add_evaluation(directory.evaluation, {**record, "metrics": metrics})
    report.write_report(directory, trained.config, trained.step)
    output.say(f"low to high: 95% confidence interval; kept in {directory.evaluation}")
    return 0


def _chosen(args: argparse.Namespace) -> list[str] | None:
    """The names of --metrics, None for all; UsageError, with the nearest name, for a wrong one."""
    from minigen.metrics.encoded import METRICS as OF_CODES
    from minigen.metrics.encoded import SLOW
    from minigen.metrics.features import NAMES
    from minigen.metrics.suite import METRICS

    if args.n is not None and args.n < 2:
        raise UsageError(f"-n is {args.n}, expected at least 2")
    if args.features is not None and args.features not in NAMES:
        raise UsageError(f"--features: no network {args.features!r}{nearest(args.features, NAMES)}")
    known = [*METRICS, *OF_CODES, LOSSES]
    names = [] if args.metrics is None else [each.strip() for each in args.metrics.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"--metrics: no metric {name!r}{nearest(name, known)}")
    for flag, value, least in (("-k", args.k, 2), ("--images", args.images, 2)):
        if value is not None and value < least:
            raise UsageError(f"{flag} is {value}, expected at least {least}")
        if value is not None and SLOW not in names:
            raise UsageError(f"{flag} is of the likelihood: give it with --metrics {SLOW}")
    return names or None


def _asked(chosen: list[str] | None, known: Any) -> list[str] | None:
    """Those of the chosen names that are known; None for all."""
    return None if chosen is None else [each for each in chosen if each in known]


def _network(args: argparse.Namespace, trained: Any, data: Any, chosen: Any) -> Any:
    """The feature network for the data, or the one asked for; None where there is none."""
    from minigen.metrics.features import default_features, feature_network
    from minigen.metrics.suite import IN_FEATURES

    if chosen is not None and not set(chosen) & IN_FEATURES:
        return None
    name = args.features or default_features(data.name, data.image_shape)
    try:
        return feature_network(name, device=trained.config.device) if name else None
    except ValueError as error:
        raise UsageError(f"--features: {error}") from error


def _of_samples(
    trained: Any, data: Any, network: Any, chosen: Any, n: int, rng: Any, progress: Any
) -> dict[str, dict[str, float]]:
    """The metrics of n samples of the model; of all that can be computed if none are chosen."""
    from minigen.metrics.suite import Misfit, evaluate_samples
    from minigen.random import Generator
    from minigen.train.build import open_data

    fake, fake_labels = _draw(trained, n, rng.spawn("samples"), progress)
    real, real_labels = _held(data)
    train, _ = _held(open_data(trained.config, "train"))
    try:
        return evaluate_samples(
            fake, real, train, features=network, rng=Generator(rng.seed).spawn("metrics"),
            metrics=chosen, classify=network is not None and _tells_classes(network, data),
            fake_labels=fake_labels, real_labels=real_labels, progress=progress,
        )  # fmt: skip
    except Misfit as error:
        raise UsageError(f"--metrics {error}") from error


def _of_codes(
    args: argparse.Namespace, trained: Any, data: Any, chosen: Any, progress: Any
) -> dict[str, dict[str, float]]:
    """The metrics of what the model makes of held-out images, as a VAE does; none of another."""
    from minigen.metrics.encoded import CODES, LIKELIHOODS, evaluate_codes
    from minigen.metrics.suite import Misfit
    from minigen.random import Generator

    try:
        return evaluate_codes(
            trained.model, data, rng=Generator(args.seed, trained.config.device).spawn("codes"),
            metrics=chosen, codes=args.k or CODES, images=args.images or LIKELIHOODS,
            progress=progress,
        )  # fmt: skip
    except Misfit as error:
        raise UsageError(f"--metrics {error}") from error


def _tells_classes(network: Any, data: Any) -> bool:
    """Whether the classes that the network was taught are those of the data."""
    from minigen.data.catalogue import FASHION_CLASSES
    from minigen.data.stacked import CLASSES

    taught = {
        "lenet-fashion": (FASHION_CLASSES,), "lenet-mnist": (tuple("0123456789"), CLASSES)
    }  # fmt: skip
    return data.classes in taught.get(network.name, ())


def _draw(trained: Any, n: int, rng: Any, progress: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """n samples (n, C, H, W) and their labels, all classes in turn, or None without classes."""
    model = trained.model
    classes = getattr(model, "classes", 0)
    labels = np.arange(n) % classes if classes else None
    fake = np.empty((n, *model.image_shape), np.float32)
    for start in range(0, n, BATCH):
        part = slice(start, min(start + BATCH, n))
        given = {} if labels is None else {"labels": labels[part]}
        fake[part] = model.sample(part.stop - start, rng, **given)
        if progress is not None:
            progress("samples", part.stop, n)
    bad = n - int(np.isfinite(fake).all((1, 2, 3)).sum())
    if bad:
        raise RunError(
            f"{trained.directory}: {bad} of {n} samples of step {trained.step} hold NaN or"
            " infinity: the run has diverged; train again with a lower learning rate"
        )
    return fake, labels


def _held(data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """(images (N, C, H, W) in [0, 1], labels or None) of all the data, as far as SET_BYTES hold."""
    n = min(len(data), max(2, SET_BYTES // (4 * int(np.prod(data.image_shape)))))
    if n < len(data):
        log.info("%s: every %.3gth image is used", data.name, len(data) / n)
    chosen = np.linspace(0, len(data) - 1, n).astype(np.int64)
    images = np.empty((n, *data.image_shape), np.float32)
    for start in range(0, n, BATCH):
        images[start : start + BATCH] = data.batch(chosen[start : start + BATCH])[0]
    return images, None if data.labels is None else data.labels[chosen]


def _batches(trained: Any, data: Any, progress: Any) -> Iterator[tuple[Any, Any]]:
    """Each image once, in the model's range of values and on its device."""
    from minigen import backend
    from minigen.data.batches import in_range

    device, value_range = trained.config.device, trained.model.value_range
    size = getattr(trained.config.options, "batch_size", 64)
    for start in range(0, len(data), size):
        stop = min(start + size, len(data))
        images, labels = data.batch(range(start, stop))
        labels = None if labels is None else backend.to_device(labels, device)
        yield backend.to_device(in_range(images, value_range), device), labels
        if progress is not None:
            progress("losses on held-out images", stop, len(data))


def _shown(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "-"
