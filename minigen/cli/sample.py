"""`minigen sample`: a grid of new images from a run."""

import argparse
from typing import Any

from minigen.cli.output import Output
from minigen.train.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    parser.add_argument("-o", "--out", metavar="FILE", help="picture (default: in RUN/samples)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--device", metavar="DEVICE", help="cpu or cuda (default: the run's)")
    parser.add_argument("--interpolate", action="store_true",
                        help="N steps from one image to another instead")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    if args.n < 1:
        raise UsageError(f"-n is {args.n}, expected at least 1")
    from minigen.random import Generator
    from minigen.train.build import load_run
    from minigen.train.config import check_seed
    from minigen.train.samples import check_picture_path, grid, save_picture

    check_seed(args.seed)
    if args.out is not None:
        check_picture_path(args.out)
    trained = load_run(args.run, args.device)
    rng = Generator(args.seed, trained.config.device).spawn("sample")
    kind = "interpolation" if args.interpolate else "sample"
    if args.interpolate:
        images = _interpolate(trained, args.n, rng)
    else:
        images = trained.model.sample(args.n, rng)
    name = f"{kind}-seed{args.seed}-step{trained.step:08d}.png"
    path = save_picture(args.out or trained.directory.samples / name, grid(images))
    if args.json:
        document = {"run": args.run, "step": trained.step, "n": args.n, "seed": args.seed}
        output.result({**document, "file": str(path)})
    else:
        what = f"{args.n} samples" if args.n > 1 else "a sample"
        if args.interpolate:
            what = f"an interpolation in {args.n} steps"
        output.say(f"{what} of {trained.config.model} at step {trained.step}: {path}")
    return 0


def _interpolate(trained: Any, n: int, rng: Any) -> Any:
    if not hasattr(trained.model, "interpolate"):
        raise UsageError(f"--interpolate: {trained.config.model} has no latent codes to go between")
    if n < 2:
        raise UsageError(f"-n is {n}; an interpolation needs at least 2 images")
    return trained.model.interpolate(n, rng)
