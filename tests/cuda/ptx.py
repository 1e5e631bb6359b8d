"""What the assembler says of each kernel: registers, shared memory, spills, float64 arithmetic.

    python -m tests.cuda.ptx [name ...] [--arch sm_80]
"""

import argparse

from minigen.kernels.cuda import build, compile

WIDE = 128  # registers of kernels on float64, whose values take two each; they need not be fast


def complaints(made: build.Made) -> list[str]:
    """What is wrong with a kernel's code."""
    kernel, report, found = compile.declared(made.name), made.report, []
    if report.spilled or report.stack:
        found.append(f"{report.spilled} bytes spilled, {report.stack} bytes of stack")
    wide = any(kind == "float64*" for kind in kernel.arguments(made.variant))
    most = max(kernel.registers, WIDE) if wide else kernel.registers
    if report.registers > most:
        found.append(f"{report.registers} registers, at most {most} were declared")
    if made.doubles and not wide and not kernel.doubles:
        found.append(f"{made.doubles} instructions in float64")
    return [f"{made.entry}: {each}" for each in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names: matmul, norm.batch")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    wanted = tuple(args.names) or ("",)
    kernels = [each for each in compile.all_kernels() if each[0].startswith(wanted)]
    print(f"{'registers':>9}{'shared':>8}{'spilled':>8}{'stack':>7}{'f64':>5}  {args.arch}")
    wrong = []
    for made in build.make_all(args.arch, kernels, args.jobs):
        r = made.report
        print(f"{r.registers:9}{r.shared:8}{r.spilled:8}{r.stack:7}{made.doubles:5}  {made.entry}")
        wrong += complaints(made)
    print(*wrong, sep="\n")


if __name__ == "__main__":
    main()
