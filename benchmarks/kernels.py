"""Every cpu kernel: its error against the reference in float64, its time, and how near that is to
this machine's limits.

    python benchmarks/kernels.py --threads 2 [--only conv2d,adam] [--json]

Errors are the largest deviation over the largest value, on a batch of 2. GFLOP/s counts the direct
algorithm's multiplications and additions; GB/s the bytes of all arguments and results, which must
move at least. The fraction is the time that the nearer of two limits, both measured just before,
would allow, over the time taken: multiply-adds in registers, and a copy of 256 MB. It can exceed 1
for an algorithm that saves multiplications, or arrays that stay in a cache. A convolution has a row
for each algorithm that can serve its shape. Exits with 1 if an error exceeds 1e-4, or a kernel or
algorithm has no row.
"""

import sys

import measure
import numpy as np

TOLERANCE = 1e-4
DRAWS = ("reparameterize", "philox_bits", "philox_uniform", "philox_normal")


def main():
    parser = measure.parser(__doc__, rounds=5)
    parser.add_argument("--only", default="", help="kernels' names, with commas")
    args = parser.parse_args()
    measure.start(args)
    from kernel_cases import CASES
    from limits import copy_gbs, peak_gflops

    from minigen import kernels

    kernels.set_num_threads(args.threads)
    names = [name for name in args.only.split(",") if name] or list(kernels.NAMES)
    missing = [name for name in names if name not in CASES]
    if missing:
        sys.exit(f"kernels: no case for {missing[0]!r} in kernel_cases.py; expected one a kernel")
    limits = {"gflops": peak_gflops(args.threads), "gbs": copy_gbs(args.threads)}
    rows = [row for name in names for make in CASES[name] for row in examine(name, make, args)]
    for row in rows:
        flops, moved = row["gflops"] or 0, row["gbs"]
        row["fraction"] = max(flops / limits["gflops"], moved / limits["gbs"])
    result = {**measure.header(), "threads": args.threads, "limits": limits, "rows": rows}
    measure.show(result, args, table)
    unseen = set() if args.only else _algorithms() - {row["algorithm"] for row in rows}
    if unseen:
        sys.exit(f"kernels: no shape in kernel_cases.py takes the algorithm {min(unseen)!r}")
    sys.exit(any(row["error"] > TOLERANCE for row in rows))


def examine(name, make, args):
    """A row for a call of a kernel; of a convolution, one for each algorithm."""
    from kernel_cases import BATCH

    from minigen import kernels

    if not name.startswith("conv"):
        yield measured(name, make, args)
        return
    algorithms = {None: None, "direct": None, "winograd": None}
    for wanted in algorithms:
        with kernels.use(convolution=wanted):
            full = make(BATCH)
            out = getattr(kernels, name)(*full)
            algorithms[wanted] = kernels.explain(name)["choices"][_problem(name, full, out)]
    chosen = algorithms.pop(None)
    for wanted, algorithm in algorithms.items():
        if wanted == "direct" or algorithm == "winograd":
            with kernels.use(convolution=wanted):
                yield measured(name, make, args, algorithm, algorithm == chosen)


def _problem(name, arguments, out):
    """The name under which a convolution's choice of algorithm is kept."""
    from minigen.kernels.cpu.conv_plan import Problem

    x, other, *rest = arguments
    gradient = name == "conv2d_weight_grad"
    made, kernel = (other, out) if gradient else (out, other)
    problem = Problem(
        *x.shape[:2], x.shape[2:], made.shape[1], made.shape[2:], kernel.shape[2:],
        *rest[-4:], transposed=name == "conv_transpose2d",
    )  # fmt: skip
    return f"{problem}, weight gradient" if gradient else str(problem)


def measured(name, make, args, algorithm=None, chosen=True):
    from kernel_cases import BATCH
    from tracing import PRODUCTS

    from minigen import kernels

    kernel, full = getattr(kernels, name), make(BATCH)
    out = _listed(kernel(*full))
    times = measure.alternate({"": lambda: kernel(*full)}, args.rounds, measure.clock(args), 0.02)
    ms = measure.medians(times)[""]
    flops = 2 * PRODUCTS[name](out[0], *full) if name in PRODUCTS else None
    moved = sum(a.nbytes for a in (*full, *out) if isinstance(a, np.ndarray))
    return {
        "kernel": name,
        "shapes": " ".join("x".join(map(str, a.shape)) for a in _arrays(full) if a.ndim > 1),
        "algorithm": algorithm,
        "chosen": chosen,
        "error": error(name, make(2), make(2)),
        "ms": ms,
        "gflops": flops / ms / 1e6 if flops else None,
        "gbs": moved / ms / 1e6,
    }


def error(name, arguments, same):
    """The largest deviation from the reference over its largest value; infinite for wrong ints.

    The reference runs in float64, but for kernels that draw numbers: other dtypes draw others.
    """
    from minigen import kernels

    if name not in DRAWS:
        same = [_double(value) for value in same]
    ours = _listed(getattr(kernels, name)(*arguments)) or _arrays(arguments)
    with kernels.use("reference"):
        right = _listed(getattr(kernels, name)(*same)) or _arrays(same)
    worst = 0.0
    for a, b in zip(ours, right, strict=True):
        if b.dtype.kind == "f":
            worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
        elif not np.array_equal(a, b):
            worst = float("inf")
    return worst


def _double(value):
    floats = isinstance(value, np.ndarray) and value.dtype == np.float32
    return value.astype(np.float64) if floats else value


def _listed(out):
    """What a kernel returned as a tuple, empty for one that works in place."""
    return () if out is None else out if isinstance(out, tuple) else (out,)


def _arrays(arguments):
    return [a for a in arguments if isinstance(a, np.ndarray)]


def _algorithms():
    from minigen.kernels.cpu.conv import ALGORITHMS

    return set(ALGORITHMS)


def table(result):
    limits = result["limits"]
    yield f"limits: {limits['gflops']:.0f} GFLOP/s, {limits['gbs']:.1f} GB/s copied"
    yield f"{'kernel':<22}{'ms':>9}{'GFLOP/s':>9}{'GB/s':>7}{'limit':>7}{'error':>9}  arrays"
    for r in result["rows"]:
        gflops = f"{r['gflops']:.0f}" if r["gflops"] else "-"
        algorithm = f" [{r['algorithm']}{'' if r['chosen'] else ', not chosen'}]"
        yield (
            f"{r['kernel']:<22}{r['ms']:9.3f}{gflops:>9}{r['gbs']:7.1f}{r['fraction']:7.0%}"
            f"{r['error']:9.0e}  {r['shapes']}{algorithm if r['algorithm'] else ''}"
        )


if __name__ == "__main__":
    main()
