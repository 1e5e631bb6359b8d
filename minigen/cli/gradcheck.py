"""`minigen gradcheck`: the certificate of every op's gradients, as a table."""

import argparse
import contextlib
from typing import Any

from minigen.cli.output import Output
from minigen.train.errors import UsageError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (the default) or cuda")
    parser.add_argument("--op", action="append", metavar="NAME", help="only this; may be repeated")


def run(args: argparse.Namespace, output: Output) -> int:
    import minigen.ops  # noqa: F401  declares the ops
    from minigen.autograd import REGISTRY
    from minigen.ops.certificate import certificate
    from minigen.train.build import check_device

    check_device(args.device)
    for name in args.op or ():
        if name not in REGISTRY:
            raise UsageError(f"--op {name}: no such op{nearest(name, REGISTRY)}")
    rows = []
    with _status(output) as status:
        for row in certificate(args.op, device=args.device):
            rows.append(row._asdict())
            if status is not None:
                status.update(f"{row.op}, {row.dtype}, {row.target}")
    failed = [row for row in rows if not row["passed"]]
    if args.json:
        output.result(rows)
    else:
        shown = failed if output.quiet else rows
        if not shown:
            return 0
        columns = ("op", "case", "dtype", "target", "order1", "order2", "adjoint", "note")
        cells = [[*(_shown(row[name]) for name in columns), _passed(row)] for row in shown]
        right = ("order1", "order2", "adjoint")
        heads = [f"{name}>" if name in right else name for name in columns]
        output.table("", [*heads, "passed"], cells)
        output.say(f"{len(rows) - len(failed)} of {len(rows)} checks passed")
    return 1 if failed else 0


def _status(output: Output) -> Any:
    """On a terminal, a line that shows which op is being checked."""
    if output.console.is_terminal and not output.quiet:
        return output.console.status("starting")
    return contextlib.nullcontext()


def _passed(row: dict[str, Any]) -> str:
    return "yes" if row["passed"] else "NO"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if isinstance(value, float) else str(value)
