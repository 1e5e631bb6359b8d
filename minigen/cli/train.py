"""`minigen train`: a new run, or one that goes on."""

import argparse
import signal
from typing import Any

from minigen.cli.output import Output
from minigen.train.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from minigen.train.registry import MODELS

    parser.add_argument(
        "model", nargs="?", metavar="MODEL",
        help=f"{', '.join(MODELS)}, or package.module:Class of your own",
    )  # fmt: skip
    parser.add_argument("--data", metavar="D", help="a dataset's name or a path, see `minigen list`"
                        " (default: fashion-mnist, embedded)")  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N", help="training steps in all")
    parser.add_argument("--batch-size", type=int, metavar="B", help="images in a step")
    parser.add_argument("--seed", type=int, metavar="S", help="of all random numbers (default: 0)")
    parser.add_argument("--device", metavar="DEVICE", help="cpu (the default) or cuda")
    parser.add_argument("--out", metavar="RUN", help="folder to make (default: one in runs/)")
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, as a run's config.toml")
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[],
                        help="an option of the model, or data.image_size, data.patch_size,"
                        " data.channels, data.augment; may be repeated")  # fmt: skip
    parser.add_argument("--resume", metavar="RUN", help="go on with a run; --steps may extend it")
    parser.add_argument("--checkpoint-every", type=int, metavar="N",
                        help="steps between checkpoints (default: one a minute)")  # fmt: skip
    parser.add_argument("--sample-every", type=int, metavar="N",
                        help="steps between grids of samples (default: 20 grids)")  # fmt: skip
    parser.add_argument("--on-collapse", metavar="WHAT",
                        help="when training goes wrong: warn (the default), stop, rollback to the"
                        " last good state and try again, or off")  # fmt: skip
    parser.add_argument("--options", action="store_true", help="show what --set takes for MODEL")


def run(args: argparse.Namespace, output: Output) -> int:
    if args.options:
        return _show_options(args, output)
    if args.model is None and args.resume is None and args.config is None:
        raise UsageError("train: which model? `minigen train MODEL`; `minigen list` names them")
    from minigen.train.loop import fit, resume
    from minigen.train.progress import Silent, watch_for

    watch = Silent() if output.quiet else watch_for(output.console)
    shared = {
        "steps": args.steps, "device": args.device, "threads": args.threads, "progress": watch,
        "checkpoint_every": args.checkpoint_every, "sample_every": args.sample_every,
        "on_collapse": args.on_collapse,
    }  # fmt: skip
    if args.resume is not None:
        _check_resume(args)
        done = resume(args.resume, **shared)
    else:
        done = fit(
            args.model, data=args.data, out=args.out, batch_size=args.batch_size, seed=args.seed,
            settings=args.settings, config=args.config, **shared,
        )  # fmt: skip
    _tell(done, args, output)
    return 0 if done.signal is None else 128 + done.signal


def _check_resume(args: argparse.Namespace) -> None:
    """UsageError when a flag says other than what the run was started with."""
    from minigen.train.config import make_config
    from minigen.train.run_directory import RunDirectory

    directory = RunDirectory.open(args.resume)
    config = directory.read_config()
    if args.config is not None:
        raise UsageError(f"--config with --resume: the run goes on with {directory.config_file}")
    if args.out is not None and RunDirectory(args.out).path.resolve() != directory.path.resolve():
        raise UsageError(f"--out {args.out} with --resume {args.resume}: a run stays in its folder")
    asked = make_config(
        args.model,
        file=directory.config_file,
        flags={"seed": args.seed, "batch_size": args.batch_size},
        data={"source": args.data},
        settings=args.settings,
    )
    for name, then, now in (
        ("model", config.model, asked.model),
        ("--data", config.data.source, asked.data.source),
        ("--seed", config.seed, asked.seed),
        *((f"--set data.{k}", v, getattr(asked.data, k)) for k, v in vars(config.data).items()),
        *((k, v, getattr(asked.options, k)) for k, v in vars(config.options).items()),
    ):
        if then != now:
            raise UsageError(
                f"{name} is {then!r} in {args.resume}, not {now!r}: a run goes on as it began;"
                " leave it out, or start a new run"
            )


def _tell(done: Any, args: argparse.Namespace, output: Output) -> None:
    directory = done.directory
    samples = directory.grids()
    if args.json:
        output.result(
            {
                "run": str(directory.path),
                "model": done.config.model,
                "step": done.step,
                "steps": done.config.steps,
                "losses": done.losses,
                "findings": directory.findings(),
                "samples": str(samples[-1]) if samples else None,
                "report": str(directory.report),
                "stopped_by": signal.Signals(done.signal).name if done.signal else None,
            }
        )
        return
    from minigen.train.progress import shown

    stopped = f" ({signal.Signals(done.signal).name})" if done.signal else ""
    verb = "stopped" if done.signal else "done"
    output.say(f"{verb} at step {done.step}/{done.config.steps}{stopped}  {shown(done.losses)}")
    if samples:
        output.say(f"samples  {samples[-1]}")
    output.say(f"report   {directory.report}")
    if done.signal:
        output.say(f"go on    {directory.resume_command()}")
    else:
        output.say(f"more     minigen sample {directory}")
        output.say(f"         {directory.resume_command(2 * done.config.steps)}")


def _show_options(args: argparse.Namespace, output: Output) -> int:
    import dataclasses

    from minigen.train.registry import model_class

    if args.model is None:
        raise UsageError("train --options: which model? `minigen list` names them")
    cls = model_class(args.model)
    rows = []
    for each in dataclasses.fields(cls.Options):
        choices = each.metadata.get("choices") or ()
        rows.append({"name": each.name, "default": each.default, "choices": list(choices),
                     "help": each.metadata.get("help", "")})  # fmt: skip
    if args.json:
        output.result({"model": args.model, "options": rows})
        return 0
    output.table(f"Options of {args.model} (--set name=value)", ["name", "default", "help"], [
        (r["name"], r["default"],
         ": ".join(filter(None, [r["help"], ", ".join(map(str, r["choices"]))])))
        for r in rows
    ])  # fmt: skip
    return 0
