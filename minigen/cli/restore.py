"""`minigen restore`: photographs denoised, brightened, enlarged or given another's tone; on request
how sure the model is of every pixel.
"""

import argparse
import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from minigen.cli.output import Output
from minigen.train.errors import RunError, UsageError
from minigen.train.progress import stages
from minigen.train.restorations import METHODS, TASKS

SAMPLES, TILE, LEAST_TILE = 8, 512, 32
QUANTILE = 0.999  # of the deviations: what is white in the picture of them
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="photos, or folders of them")
    parser.add_argument("--task", required=True, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--method", metavar="METHOD", help=", ".join(METHODS) + " (default: vae)")
    parser.add_argument("--run", metavar="RUN", help="folder of a run of enhance-vae; it undoes all"
                        " that it was trained for (default: the weights that ship)")  # fmt: skip
    parser.add_argument("--style", metavar="IMAGE", help="of restyle: the picture with the tone")
    parser.add_argument("--samples", type=int, default=SAMPLES, metavar="K",
                        help="draws whose mean is the result (default: 8)")  # fmt: skip
    parser.add_argument("--uncertainty", action="store_true", help="also a picture of the standard"
                        " deviation of every pixel: OUT-uncertainty.png")  # fmt: skip
    parser.add_argument("--save-samples", action="store_true", help="also each draw: OUT-sample1"
                        " and so on")  # fmt: skip
    parser.add_argument("--tile", type=int, default=TILE, metavar="N", help="pixels a side that are"
                        " worked on at a time; the result is the same (default: 512)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--device", metavar="DEVICE", help="cpu or cuda (default: the run's, or"
                        " cpu)")  # fmt: skip
    parser.add_argument("-o", "--out", metavar="OUT", help="file, or folder for several photos"
                        " (default: IMAGE-TASK.png beside each)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace files that are in the"
                        " way, though -o does not name them")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen.data import DataError
    from minigen.data.photo_file import read_photo
    from minigen.train import restorations
    from minigen.train.config import check_seed

    task = restorations.task(args.task)
    method = restorations.method(args.method, task)
    check_seed(args.seed)
    for flag, value, least in (("samples", args.samples, 1), ("tile", args.tile, LEAST_TILE)):
        if value < least:
            raise UsageError(f"--{flag} is {value}, expected at least {least}")
    if (args.style is None) == (task.name == "restyle"):
        raise UsageError(
            "--task restyle: give the picture whose tone is wanted, with --style IMAGE"
            if args.style is None
            else f"--style goes with --task restyle, not with {task.name}"
        )
    jobs = _jobs(args)
    style = None if args.style is None else _seen(read_photo(args.style))[0]
    model = restorations.open_model(task, method, args.run, args.device)
    if style is not None:
        _check_colours(args.style, style, model)
    images: list[dict[str, Any]] = []
    with nullcontext() if output.quiet else stages(output.console) as progress:
        for source, target in jobs:
            try:
                record, said = _restore(source, target, model, style, args, progress)
                output.say(said)
            except DataError as error:
                if len(jobs) == 1:
                    raise
                log.warning("%s", error)  # the others can be restored all the same
                record = {"input": str(source), "error": str(error)}
            images.append(record)
    if args.json:
        output.result({
            "task": task.name, "method": method, "run": args.run, "seed": args.seed,
            "samples": args.samples, "device": model.device, "images": images,
        })  # fmt: skip
    if failed := sum("error" in each for each in images):
        raise RunError(f"{failed} of {len(jobs)} images were not restored")
    return 0


def _restore(
    source: Path, target: Path, model: Any, style: Any, args: argparse.Namespace, progress: Any
) -> tuple[dict[str, Any], str]:
    """Restore one file into another: what is known of it for JSON, and a line for people."""
    from minigen.data.photo_file import check_photo_path, read_photo, write_photo
    from minigen.random import Generator
    from minigen.vae.restoring import restore_photo

    photo = read_photo(source)
    check_photo_path(target, photo)
    _check_colours(source, photo.pixels, model)
    pixels, hidden = _seen(photo)
    start = time.monotonic()
    result = restore_photo(
        model, pixels, rng=Generator(args.seed, model.device).spawn("restore"),
        samples=args.samples, style=style, tile=args.tile, keep_samples=args.save_samples,
        progress=progress and (lambda done, total: progress(source.name, done, total)),
    )  # fmt: skip
    seconds = time.monotonic() - start
    if model.scale == 1:  # what nobody sees stays as it was
        for made in (result.mean, *(() if result.samples is None else result.samples)):
            made[:, hidden] = photo.pixels[:, hidden]
    write_photo(target, result.mean, like=photo)
    height, width = result.mean.shape[1:]
    deviation = 255 * np.sqrt(np.square(result.deviation).mean(0))
    record: dict[str, Any] = {
        "input": str(source), "file": str(target), "width": width, "height": height,
        "channels": len(photo.pixels), "alpha": photo.alpha is not None, "depth": photo.depth,
        "seconds": round(seconds, 3), "mean_deviation_255": float(deviation.mean()),
    }  # fmt: skip
    said = f"{target}: {width}x{height}, {seconds:.1f} s, mean deviation {deviation.mean():.1f}/255"
    if args.uncertainty:
        path = _uncertainty_path(target)
        white = _write_deviation(path, deviation)
        record |= {"uncertainty": str(path), "uncertainty_white_255": white}
        said += f"\n{path}: black is a deviation of 0, white of {white:.1f}/255"
    if result.samples is not None:
        paths = _sample_paths(target, args.samples)
        for path, pixels in zip(paths, result.samples, strict=True):
            write_photo(path, pixels, like=photo)
        record["sample_files"] = [str(path) for path in paths]
    return record, said


def _seen(photo: Any) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a photo, wholly transparent ones of the mean colour of the others, as they are
    not to tell its tone; and which those are, (H, W).
    """
    hidden = np.zeros(photo.pixels.shape[1:], bool) if photo.alpha is None else photo.alpha == 0
    if not hidden.any() or hidden.all():
        return photo.pixels, hidden
    mean = photo.pixels[:, ~hidden].mean(1)
    return np.where(hidden, mean[:, None, None], photo.pixels), hidden


def _check_colours(path: str | Path, pixels: np.ndarray, model: Any) -> None:
    """DataError for colours that the model does not know."""
    from minigen.data import DataError

    if len(pixels) > model.image_shape[0]:
        raise DataError(
            f"{path}: has {len(pixels)} channels, the model knows {model.image_shape[0]}: it was"
            " trained on grey images; give a grey photo, or a run with --set data.channels=3"
        )


def _write_deviation(path: Path, deviation: np.ndarray) -> float:
    """Write deviations (H, W) in 1/255 as a grey picture that tells its scale in words (EXIF's
    description); what is white is returned.
    """
    from minigen.data import exif
    from minigen.data.photo_file import Photo, write_photo

    white = max(1.0, float(np.quantile(deviation, QUANTILE)))
    pixels = (deviation / white)[None].astype(np.float32)
    text = f"standard deviation of each pixel: black is 0, white is {white:.2f}/255 or more"
    write_photo(path, pixels, like=Photo(pixels, exif=exif.description(text)))
    return white


def _jobs(args: argparse.Namespace) -> list[tuple[Path, Path]]:
    """(photo, file to make of it) for all; UsageError where a file is missing, or in the way."""
    from minigen.data.photo_file import check_photo_path

    if "" in args.images:
        raise UsageError("IMAGE is an empty text, expected a photo or a folder of them")
    named = [photo for name in args.images for photo in _photos(Path(name))]
    sources = list({each.resolve(): each for each in named}.values())  # each once
    out = None if args.out is None else Path(args.out)
    several = len(sources) > 1 or any(Path(name).is_dir() for name in args.images)
    folder = out is not None and (several or out.is_dir() or args.out.endswith(("/", "\\")))
    if out is None and (folders := [name for name in args.images if Path(name).is_dir()]):
        raise UsageError(f"{folders[0]}: is a folder; name another for the results: -o OUT")
    if several and out is not None and (out.is_file() or (not out.is_dir() and out.suffix)):
        raise UsageError(f"-o {out}: {len(sources)} photos are written to a folder, not to a file")
    read = [*sources, *([] if args.style is None else [Path(args.style)])]
    given = {each.resolve() for each in read}
    jobs: list[tuple[Path, Path]] = []
    made: dict[Path, Path] = {}
    for source in sources:
        if out is None or folder:
            beside = source.parent if out is None else out
            target = beside / f"{source.stem}-{args.task}.png"
        else:
            target = out
        check_photo_path(target)
        for path in _targets(target, args):
            if path.resolve() in given:
                raise UsageError(f"{path}: is one of the pictures given; choose another -o")
            if path in made:
                raise UsageError(
                    f"{path}: would be made of both {made[path]} and {source}; restore them apart"
                )
            told = args.overwrite or (path == out and not folder)
            if path.exists() and not told:
                raise UsageError(f"{path}: exists; --overwrite replaces it, or choose another -o")
            made[path] = source
        jobs.append((source, target))
    return jobs


def _photos(path: Path) -> list[Path]:
    """A file, or the photos in a folder by name; UsageError where there are none."""
    from minigen.data.folder import EXTENSIONS

    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        return [path]
    found = sorted(
        each for each in path.iterdir()
        if each.suffix.lower() in EXTENSIONS and each.is_file() and not each.name.startswith(".")
    )  # fmt: skip
    if not found:
        raise UsageError(
            f"{path}: no photos there; expected files ending in {', '.join(sorted(EXTENSIONS))}"
        )
    return found


def _targets(target: Path, args: argparse.Namespace) -> list[Path]:
    """All the files that will be made of one photo."""
    paths = [target]
    if args.uncertainty:
        paths.append(_uncertainty_path(target))
    return paths + (_sample_paths(target, args.samples) if args.save_samples else [])


def _uncertainty_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}-uncertainty.png")


def _sample_paths(target: Path, samples: int) -> list[Path]:
    return [
        target.with_name(f"{target.stem}-sample{k}{target.suffix}") for k in range(1, samples + 1)
    ]
