"""`minigen sample`: pictures from a run: a grid, interpolations, a row a class, its training as an
animation; and those that codes of held-out images make, which are in latents.py.
"""

import argparse
import inspect
import math
from typing import Any
from zlib import crc32

import numpy as np

from minigen.cli import latents
from minigen.cli.latents import A_ROW, ROWS, SIDE, Latents, Picture, check_conditional, numbers
from minigen.cli.output import Output
from minigen.train.errors import UsageError

GRID = 64  # images in a grid unless told otherwise
MOST_SIDE = 100  # of a plane

_OPTIONS = {"n", "seed", "device", "rows", "classes", "truncation", "between", "units", "start"}
# Pictures other than samples: the option that asks for one, what it does, the options it takes.
_PICTURES = (
    ("gif", "shows the grids made while training", ()),
    ("interpolate", "goes through codes as they are drawn",
     ("n", "seed", "device", "rows", "classes", "between")),
    ("manifold", "is a plane of codes", ("device", "classes", "units", "start")),
    ("traverse", "varies one code", ("n", "seed", "device", "classes", "start")),
    ("reconstruct", "is of codes as the encoder makes them", ("n", "seed", "device")),
    ("swap", "mixes held-out images", ("n", "seed", "device")),
)  # fmt: skip
# Options that leave others nothing to do.
_ALONE = (
    ("between", "names the images to go between", ("seed", "rows", "classes")),
    ("start", "names the image to start from", ("seed",)),
    ("classes", "makes a row a class", ("rows",)),
)
# Options that a picture needs that is not made of samples.
_PART_OF = (
    ("rows", "how many interpolations", "interpolate"),
    ("between", "which images to go between", "interpolate"),
    ("units", "which plane", "manifold"),
    ("start", "where to start from", "manifold or --traverse"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a run")
    add("-n", type=int, metavar="N", help="how many images (default: 64); of each class, in each"
        " interpolation or traversal (default: 8); to reconstruct (default: 32); to swap (default:"
        " 8 contents, 8 styles)")  # fmt: skip
    add("-o", "--out", metavar="FILE", help="picture (default: in RUN/samples)")
    add("--seed", type=int, metavar="S",
        help="of the noise, and of which held-out images are shown (default: 0)")  # fmt: skip
    add("--device", metavar="DEVICE", help="cpu or cuda (default: the run's)")
    add("--interpolate", action="store_true", help="N steps from one image to another, a row each")
    add("--rows", type=int, metavar="R", help="interpolations (default: 8, or one a class)")
    add("--between", metavar="I,J",
        help="one interpolation, between two held-out images by their numbers")  # fmt: skip
    add("--classes", metavar="C", help="a row a class of a conditional model: numbers as 0,3,5, or"
        " all; the class of a plane or a traversal")  # fmt: skip
    add("--truncation", type=float, metavar="PSI", help="draw noise beyond PSI again: images less"
        " varied and nearer to the mean (GANs)")  # fmt: skip
    add("--gif", action="store_true", help="the grids made while training, as an animation")

    group = parser.add_argument_group("of models with codes, as VAEs")
    add = group.add_argument
    add("--manifold", nargs="?", type=int, const=SIDE, metavar="N", help="N x N images of a plane"
        " of codes, at quantiles of N(0, 1) (default: 20)")  # fmt: skip
    add("--units", metavar="A,B", help="the plane's units: to the right and upwards (default: those"
        " with the largest KL)")  # fmt: skip
    add("--traverse", nargs="?", const="", metavar="UNITS", help="a row a latent unit, which goes"
        " from -3 to 3 while the others stay: numbers as 3,7, or all (default: the 8 with the"
        " largest KL, that one first)")  # fmt: skip
    add("--start", metavar="I", help="the other units: the code of held-out image I, or prior for"
        " 0 (default: of a plane prior, of a traversal an image that the seed draws)")  # fmt: skip
    add("--reconstruct", action="store_true",
        help="held-out images, and below each what comes back from its code")  # fmt: skip
    add("--swap", action="store_true",
        help="what held-out images show (left) in the style of others (top)")  # fmt: skip


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

    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    every = _OPTIONS | {one for one, _, _ in _PICTURES}
    _refuse(given, [(one, does, every - {one, *takes}) for one, does, takes in _PICTURES])
    _refuse(given, _ALONE)
    for option, what, flags in _PART_OF:
        if option in given and not given & {*flags.split(" or --")}:
            raise UsageError(f"--{option} is {what}: give it with --{flags}")
    for name, flag, least, most in (
        ("n", "-n", 2 if {"interpolate", "traverse"} & given else 1, math.inf),
        ("rows", "--rows", 1, math.inf),
        ("manifold", "--manifold", 2, MOST_SIDE),
    ):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            upto = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise UsageError(f"{flag} is {value}, expected {upto}")
    if args.truncation is not None and not 0 < args.truncation < math.inf:
        raise UsageError(f"--truncation is {args.truncation:g}, expected more than 0, as 0.7")
    check_seed(args.seed or 0)
    if args.out is not None:
        check_picture_path(args.out)
        if args.gif and not args.out.lower().endswith(".gif"):
            raise UsageError(f"{args.out}: the animation of --gif is a .gif")


def _refuse(given: set[str], alone: Any) -> None:
    """UsageError for an option given beside one that leaves it nothing to do."""
    for one, does, others in alone:
        for other in sorted(given & {*others}) if one in given else ():
            flag = "-n" if other == "n" else f"--{other}"
            raise UsageError(f"--{one} with {flag}: --{one} {does}; give one of the two")


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

    trained = load_run(args.run, args.device)
    rng = Generator(args.seed or 0, trained.config.device).spawn("sample")
    picture = _latents(args, trained, rng) or _samples(args, trained, rng)
    name = f"{picture.kind}{_named(args)}-step{trained.step:08d}.png"
    image = grid(picture.images, picture.columns)
    path = save_picture(args.out or trained.directory.samples / name, image)
    facts = {"step": trained.step, "n": len(picture.images), **picture.facts}
    if _seeded(args):
        facts["seed"] = args.seed or 0
    said = f"{picture.said} of {trained.config.model} at step {trained.step}"
    return said, {**facts, "file": str(path)}


def _latents(args: argparse.Namespace, trained: Any, rng: Any) -> Picture | None:
    """The picture of codes of held-out images that is asked for; None if none is."""
    if args.between is not None:
        between = Latents(trained, "--between", "codes")
        return latents.way_between(between, args.between, args.n or A_ROW)
    if args.manifold is not None:
        model = Latents(trained, "--manifold", "codes")
        return latents.plane(model, args.manifold, args.units, args.start, args.classes)
    if args.traverse is not None:
        model, n = Latents(trained, "--traverse", "codes"), args.n or A_ROW
        return latents.traversal(model, n, args.traverse, args.start, args.classes, rng)
    if args.reconstruct:
        return latents.reconstructions(
            Latents(trained, "--reconstruct", "reconstruct"), args.n, rng
        )
    if args.swap:
        return latents.swaps(Latents(trained, "--swap", "swap"), args.n, rng)
    return None


def _samples(args: argparse.Namespace, trained: Any, rng: Any) -> Picture:
    """New images, or interpolations between some."""
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
        return Picture("interpolation", f"{said} in {n} steps", images, n)
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
        return Picture("sample", said, model.sample(n, rng, **options), columns)
    except ValueError as error:
        if args.truncation is None:
            raise
        raise UsageError(str(error)) from error  # too small to draw noise within


def _seeded(args: argparse.Namespace) -> bool:
    """Whether the picture depends on the seed."""
    return args.start is None and args.between is None and args.manifold is None


def _named(args: argparse.Namespace) -> str:
    """The options that tell a picture from others of the same step, for its file's name.

    More numbers than a name can hold (255 letters) become one, their CRC.
    """
    told = {"side": args.manifold, "n": args.n, "rows": args.rows, "between": args.between,
            "units": args.units or args.traverse or None, "start": args.start,
            "classes": args.classes, "truncation": args.truncation,
            "seed": (args.seed or 0) if _seeded(args) else None}  # fmt: skip
    return "".join(f"-{option}{_short(str(v))}" for option, v in told.items() if v is not None)


def _short(text: str) -> str:
    text = text.replace(",", "_").replace(" ", "")
    return text if len(text) <= 50 else f"{crc32(text.encode()):08x}"


def _classes(text: str, known: int, model: str) -> list[int]:
    """The labels that --classes names; UsageError for those that the model does not know."""
    check_conditional(model, known)
    if text == "all":
        return list(range(known))
    return numbers("--classes", text, known, otherwise=", or all")
