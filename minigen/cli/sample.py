"""`minigen sample`: pictures from a run: a grid, interpolations, a row a class, or its training as
an animation.
"""

import argparse
import inspect
import math
from typing import Any
from zlib import crc32

import numpy as np

from minigen.cli.output import Output
from minigen.train.errors import UsageError

GRID, A_ROW, ROWS = 64, 8, 8  # images in a grid and in a row, and rows, unless told otherwise

# What an option does that leaves others nothing to do.
_ALONE = (
    ("gif", "shows the grids made while training",
     ("n", "seed", "device", "interpolate", "rows", "classes", "truncation")),
    ("interpolate", "goes through noise as it is drawn", ("truncation",)),
    ("classes", "makes a row a class", ("rows",)),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("-n", type=int, metavar="N", help="how many images (default: 64); of each"
                        " class, or in each interpolation (default: 8)")  # fmt: skip
    parser.add_argument("-o", "--out", metavar="FILE", help="picture (default: in RUN/samples)")
    parser.add_argument("--seed", type=int, metavar="S", help="default: 0")
    parser.add_argument("--device", metavar="DEVICE", help="cpu or cuda (default: the run's)")
    parser.add_argument("--interpolate", action="store_true",
                        help="N steps from one image to another, a row each")  # fmt: skip
    parser.add_argument("--rows", type=int, metavar="R",
                        help="interpolations (default: 8, or one a class)")  # fmt: skip
    parser.add_argument("--classes", metavar="C", help="a row a class of a conditional model:"
                        " numbers as 0,3,5, or all")  # fmt: skip
    parser.add_argument("--truncation", type=float, metavar="PSI", help="draw noise beyond PSI"
                        " again: images less varied and nearer to the mean (GANs)")  # fmt: skip
    parser.add_argument("--gif", action="store_true",
                        help="the grids made while training, as an animation")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    _check(args)
    said, document = _animate(args) if args.gif else _draw(args)
    if args.json:
        output.result({"run": args.run, **document})
    else:
        output.say(f"{said}: {document['file']}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """UsageError for what is out of range, and for options that do not go together."""
    from minigen.train.config import check_seed
    from minigen.train.samples import check_picture_path

    for one, does, others in _ALONE:
        for other in others if getattr(args, one) else ():
            if getattr(args, other) not in (None, False):
                flag = "-n" if other == "n" else f"--{other}"
                raise UsageError(f"--{one} with {flag}: --{one} {does}; give one of the two")
    if args.rows is not None and not args.interpolate:
        raise UsageError("--rows is how many interpolations: give it with --interpolate")
    least = 2 if args.interpolate else 1
    if args.n is not None and args.n < least:
        raise UsageError(f"-n is {args.n}, expected at least {least}")
    if args.rows is not None and args.rows < 1:
        raise UsageError(f"--rows is {args.rows}, expected at least 1")
    if args.truncation is not None and not 0 < args.truncation < math.inf:
        raise UsageError(f"--truncation is {args.truncation:g}, expected more than 0, as 0.7")
    check_seed(args.seed or 0)
    if args.out is not None:
        check_picture_path(args.out)
        if args.gif and not args.out.lower().endswith(".gif"):
            raise UsageError(f"{args.out}: the animation of --gif is a .gif")


def _animate(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A sentence and the JSON of the animation of a run's training."""
    from minigen.train.run_directory import RunDirectory
    from minigen.train.samples import animation, save_bytes

    directory = RunDirectory.open(args.run)
    grids = directory.grids()
    if len(grids) < 2:
        raise UsageError(
            f"{directory.samples}: {len(grids)} grids made while training, an animation needs 2;"
            " train on, or with a smaller --sample-every"
        )
    content, frames = animation(grids)
    path = save_bytes(args.out or directory.samples / "training.gif", content)
    return f"an animation of {frames} grids", {"frames": frames, "file": str(path)}


def _draw(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A sentence and the JSON of a picture that the trained model made."""
    from minigen.random import Generator
    from minigen.train.build import load_run
    from minigen.train.samples import grid, save_picture

    seed = args.seed or 0
    trained = load_run(args.run, args.device)
    rng = Generator(seed, trained.config.device).spawn("sample")
    kind, said, images, columns = _images(args, trained, rng)
    name = f"{kind}{_named(args)}-seed{seed}-step{trained.step:08d}.png"
    path = save_picture(args.out or trained.directory.samples / name, grid(images, columns))
    return (
        f"{said} of {trained.config.model} at step {trained.step}",
        {"step": trained.step, "n": len(images), "seed": seed, "file": str(path)},
    )


def _images(args: argparse.Namespace, trained: Any, rng: Any) -> tuple[str, str, Any, int | None]:
    """(kind for the file's name, what it is in words, images, columns of the grid or None)."""
    model, name = trained.model, trained.config.model
    known = getattr(model, "classes", 0)
    labels = None if args.classes is None else _classes(args.classes, known, name)
    if args.interpolate:
        if not hasattr(model, "interpolate"):
            raise UsageError(f"--interpolate: {name} has no latent codes to go between")
        n = args.n or A_ROW
        rows = range(args.rows or ROWS) if labels is None else labels
        chosen = [{"label": row % known} if known else {} for row in rows]
        images = np.concatenate([model.interpolate(n, rng, **row) for row in chosen])
        said = f"{len(rows)} interpolations" if len(rows) > 1 else "an interpolation"
        return "interpolation", f"{said} in {n} steps", images, n
    options: dict[str, Any] = {}
    if args.truncation is not None:
        if "truncation" not in inspect.signature(model.sample).parameters:
            raise UsageError(f"--truncation: {name} cannot truncate its noise; GANs can")
        options["truncation"] = args.truncation
    if labels is None:
        n, columns = args.n or GRID, None
        said = f"{n} samples" if n > 1 else "a sample"
    else:
        n, columns = (args.n or A_ROW) * len(labels), args.n or A_ROW
        options["labels"] = np.repeat(labels, columns)
        said = f"{columns} samples of each of {len(labels)} classes"
    try:
        return "sample", said, model.sample(n, rng, **options), columns
    except ValueError as error:
        if args.truncation is None:
            raise
        raise UsageError(str(error)) from error  # too small to draw noise within


def _named(args: argparse.Namespace) -> str:
    """The options that tell a picture from others of the same seed and step, for its file's name.

    The numbers of more classes than a name can hold (255 letters) become one number, their CRC.
    """
    classes = args.classes and args.classes.replace(",", "_").replace(" ", "")
    if classes and len(classes) > 100:
        classes = f"{crc32(classes.encode()):08x}"
    told = {"n": args.n, "rows": args.rows, "classes": classes, "truncation": args.truncation}
    return "".join(f"-{option}{value}" for option, value in told.items() if value is not None)


def _classes(text: str, known: int, model: str) -> list[int]:
    """The labels that --classes names; UsageError for those that the model does not know."""
    if not known:
        raise UsageError(
            f"--classes: {model} is not conditional, as --set conditional=... makes it"
        )
    if text == "all":
        return list(range(known))
    labels = []
    for word in text.split(","):
        if not word.strip().isdecimal() or not int(word) < known:
            raise UsageError(
                f"--classes: got {word!r}, expected numbers from 0 to {known - 1}, or all"
            )
        labels.append(int(word))
    return labels
