"""`minigen kernels build`: the CUDA kernels compiled ahead of time, and what each of them takes."""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from minigen.cli.output import Output
from minigen.train.errors import RunError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compile all CUDA kernels for an architecture into a folder. No GPU is needed. A machine"
        " with NumPy and CuPy, but no Numba, runs from it with MINIGEN_CUDA_KERNELS=DIR."
    )
    parser.add_argument("action", choices=["build"], help="compile all CUDA kernels")
    parser.add_argument("--arch", default="sm_90", metavar="A",
                        help="sm_80, sm_86, sm_89, sm_90 (the default), sm_100 ...")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="the folder")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: all cores)")
    parser.add_argument("--only", metavar="NAME", help="kernels whose name begins so, for a report")
    parser.add_argument("--report", action="store_true",
                        help="what each takes, also without --out")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen.kernels.cuda import build, compile

    if args.out is None and not args.report:
        raise UsageError("kernels build: missing: --out DIR (or --report)")
    if args.only and args.out is not None:
        raise UsageError(f"kernels build: --only {args.only} is for --report; --out takes all")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"kernels build: --jobs is {args.jobs}, expected at least 1")
    try:
        build.check_arch(args.arch)
    except ValueError as error:
        raise UsageError(f"kernels build: {error}") from error
    jobs = args.jobs or os.cpu_count() or 1
    try:
        kernels = list(compile.all_kernels())
        if args.only:
            kernels = [each for each in kernels if each[0].startswith(args.only)]
            if not kernels:
                raise UsageError(f"kernels build: no kernel begins with {args.only!r}")
        if args.out is None:
            found = build.make_all(args.arch, kernels, jobs)
        else:
            found = build.build(args.arch, Path(args.out), kernels, jobs)
        made = _followed(found, len(kernels), output)
    except UsageError:
        raise
    except RuntimeError as error:  # no compiler, or it refuses a kernel
        raise RunError(str(error)) from error
    if compile.find_ptxas() is None:
        logging.getLogger("minigen").warning(
            "there is no ptxas, so that these are PTX, which a GPU's driver compiles as it loads"
            " them; pip install 'minigen[cuda-build]' brings one"
        )
    size = sum(len(each.code) for each in made)
    if args.json:
        rows = [_row(each) for each in made] if args.report else []
        document = {"arch": args.arch, "out": args.out, "count": len(made), "bytes": size}
        output.result({**document, "sources": compile.source_fingerprint(), "kernels": rows})
        return 0
    if args.report:
        columns = ["kernel", "registers>", "shared>", "spilled>", "stack>", "float64>"]
        output.table(args.arch, columns, [list(_row(each).values()) for each in made])
    if args.out is not None:
        output.say(f"{len(made)} kernels for {args.arch}, {size / 2**20:.1f} MiB, in {args.out}")
        output.say(f"MINIGEN_CUDA_KERNELS={args.out} makes minigen run from there")
    return 0


def _followed(found: Any, total: int, output: Output) -> list[Any]:
    """All that is being made, with a line that says how far it is."""
    made = []
    status = None
    if output.console.is_terminal and not output.quiet:
        status = output.console.status("starting")
        status.start()
    try:
        for each in found:
            made.append(each)
            if status is not None:
                status.update(f"{len(made)} of {total}: {each.entry}")
            elif len(made) % 100 == 0:
                output.say(f"{len(made)} of {total}")
    finally:
        if status is not None:
            status.stop()
    return made


def _row(made: Any) -> dict[str, Any]:
    report = made.report
    numbers = ("-",) * 4 if report is None else (report.registers, report.shared, report.spilled,
                                                 report.stack)  # fmt: skip
    names = ("registers", "shared", "spilled", "stack")
    return {"kernel": made.entry, **dict(zip(names, numbers, strict=True)), "float64": made.doubles}
