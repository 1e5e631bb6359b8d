"""Every kernel: its error against the reference in float64, its time, and how near that is to this
machine's limits.

    python benchmarks/kernels.py --threads 2 [--only conv2d,adam] [--json]
    python benchmarks/kernels.py --device cuda

Errors are the largest deviation over the largest value, on a batch of 2. GFLOP/s counts the direct
algorithm's multiplications and additions; GB/s the bytes of all arguments and results, which must
move at least. The fraction is the time that the nearer of two limits, both measured just before,
would allow, over the time taken (the roofline): multiply-adds in registers, and a copy of 256 MB.
It can exceed 1 for an algorithm that saves multiplications, or arrays that stay in a cache. A
convolution has a row for each algorithm that can serve its shape. Exits with 1 if an error exceeds
1e-4, or a kernel or algorithm has no row.

On a GPU (see gpu.py) batches are 16 times as large, products have a row for each precision, and
the limits are the vendor's products in that precision and a copy of 1 GB; errors may reach 2e-3 in
TF32. The host's time is of a whole call, which launches so many kernels.
"""

import sys

import measure

TOLERANCE, TF32_TOLERANCE = 1e-4, 2e-3


def main():
    parser = measure.parser(__doc__, rounds=5)
    parser.add_argument("--only", default="", help="kernels' names, with commas")
    measure.add_device(parser)
    args = parser.parse_args()
    measure.start(args)
    measure.check_device(args.device)
    from kernel_cases import CASES

    from minigen import kernels

    kernels.set_num_threads(args.threads)
    names = [name for name in args.only.split(",") if name] or list(kernels.NAMES)
    missing = [name for name in names if name not in CASES]
    if missing:
        sys.exit(f"kernels: no case for {missing[0]!r} in kernel_cases.py; expected one a kernel")
    if args.device == "cuda":
        sys.exit(on_gpu(names, CASES, args))
    from limits import copy_gbs, peak_gflops

    limits = {"gflops": peak_gflops(args.threads), "gbs": copy_gbs(args.threads)}
    rows = [row for name in names for make in CASES[name] for row in examine(name, make, args)]
    for row in rows:
        row["fraction"] = _fraction(row, limits["gflops"], limits["gbs"])
    result = {**measure.header(), "threads": args.threads, "limits": limits, "rows": rows}
    measure.show(result, args, table)
    unseen = set() if args.only else _algorithms() - {row["algorithm"] for row in rows}
    if unseen:
        sys.exit(f"kernels: no shape in kernel_cases.py takes the algorithm {min(unseen)!r}")
    sys.exit(any(row["error"] > TOLERANCE for row in rows))


def _fraction(row, gflops, gbs):
    """The share of the nearer limit; of the copy alone where no product's rate is known."""
    return max((row["gflops"] or 0) / gflops if gflops else 0, row["gbs"] / gbs)


def on_gpu(names, cases, args):
    """Show the rows of a GPU; whether any is wrong. What fails has a line in place of numbers."""
    import gpu

    limits = gpu.limits()
    rows = [row for name in names for make in cases[name] for row in _gpu_rows(name, make, limits)]
    result = {**measure.header("cuda"), "threads": args.threads, "limits": limits, "rows": rows}
    measure.show(result, args, gpu_table)
    return any("failed" in row or not row["error"] <= _tolerance(row) for row in rows)


def _tolerance(row):
    return TF32_TOLERANCE if row["precision"] == "tf32" else TOLERANCE


def _gpu_rows(name, make, limits):
    import gpu
    from accuracy import error, shapes
    from kernel_cases import BATCH
    from tracing import PRODUCTS

    from minigen import kernels

    flops = (lambda out, full: 2 * PRODUCTS[name](out, *full)) if name in PRODUCTS else None
    try:
        full = gpu.arguments(make, BATCH)
    except RuntimeError as failure:
        yield {"kernel": name, "shapes": "", "precision": None, "failed": _line(failure)}
        return
    for precision in gpu.precisions(name, full):
        row = {"kernel": name, "shapes": shapes(full), "precision": precision}
        try:
            with kernels.use(precision=precision):
                row["error"] = error(name, tuple(map(gpu.on_gpu, make(2))), make(2), "cuda")
            row.update(gpu.measured(name, full, precision, flops))
            row["fraction"] = _fraction(row, limits[f"gflops_{precision or 'float32'}"],
                                        limits["gbs"])  # fmt: skip
        except (RuntimeError, TypeError, ValueError) as failure:  # go on with the next
            row["failed"] = _line(failure)
        yield row


def _line(failure):
    return " ".join(f"{type(failure).__name__}: {failure}".split())[:300]


def gpu_table(result):
    limits = result["limits"]
    peaks = ", ".join(
        f"{(limits[f'gflops_{p}'] or 0) / 1e3:.0f} TFLOP/s {p}" for p in ("tf32", "float32")
    )
    yield f"limits: {limits['gbs']:.0f} GB/s copied, {peaks}; launch {limits['launch_us']:.1f} us"
    yield (
        f"{'kernel':<22}{'ms':>9}{'TFLOP/s':>9}{'GB/s':>7}{'limit':>7}{'error':>9}"
        f"{'host us':>9}{'kernels':>8}  arrays"
    )
    for r in result["rows"]:
        if "failed" in r:
            yield f"{r['kernel']:<22} FAILED: {r['failed']} ({r['shapes']})"
            continue
        tflops = f"{r['gflops'] / 1e3:.1f}" if r["gflops"] else "-"
        precision = f" [{r['precision']}]" if r["precision"] else ""
        yield (
            f"{r['kernel']:<22}{r['ms']:9.4f}{tflops:>9}{r['gbs']:7.0f}{r['fraction']:7.0%}"
            f"{r['error']:9.0e}{r['host_us']:9.1f}{r['launches']:8}  {r['shapes']}{precision}"
        )


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
    from accuracy import arrays, error, listed, shapes
    from kernel_cases import BATCH
    from tracing import PRODUCTS

    from minigen import kernels

    kernel, full = getattr(kernels, name), make(BATCH)
    out = listed(kernel(*full))
    times = measure.alternate({"": lambda: kernel(*full)}, args.rounds, measure.clock(args), 0.02)
    ms = measure.medians(times)[""]
    flops = 2 * PRODUCTS[name](out[0], *full) if name in PRODUCTS else None
    moved = sum(a.nbytes for a in arrays((*full, *out)))
    return {
        "kernel": name,
        "shapes": shapes(full),
        "algorithm": algorithm,
        "chosen": chosen,
        "error": error(name, make(2), make(2)),
        "ms": ms,
        "gflops": flops / ms / 1e6 if flops else None,
        "gbs": moved / ms / 1e6,
    }


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
