"""Milliseconds of one training step in minigen and in PyTorch, alternating in one run.

    python benchmarks/train_step.py --workload all --threads 2 --peer torch --json
    python benchmarks/train_step.py --workload all --check       the losses of three steps instead
    python benchmarks/train_step.py --workload dncnn-40 --profile      where minigen's time goes
    python benchmarks/train_step.py --workload all --device cuda      on a GPU

The peer is PyTorch with the same weights, batches and noise, in its better memory format
(contiguous or channels-last), with fused Adam; `--peer torch-compile` compiles it, where it can
be. GFLOP/s counts the multiplications and additions of the direct algorithms. Peak memory is what
a fresh process needs beyond what it held before its first step. Numbers are medians; ratio = peer
/ minigen, and its spread the quartiles over the rounds. --check exits with 1 where losses differ
(in float64 on a smaller batch too).

With --device cuda the batch lies on the GPU, and steps are timed without reading their losses;
minigen's is captured (its eager time stands beside), the peer's precision is PyTorch's default
(TF32 in convolutions), its algorithms the fastest of those that cuDNN tries. `--peer torch` then
races it eager and as one CUDA graph a step, and ratio is that of the eager one.
"""

import json
import shutil
import statistics
import sys

import measure

# How far losses may differ in --check, relatively. In float32 this holds for the first step: after
# it, Adam has divided tiny gradients by tiny gradients, and rounding grows as in PyTorch itself.
TOLERANCE, DOUBLE_TOLERANCE = 1e-3, 1e-6
TF32_TOLERANCE = 1e-2  # of products whose factors have 10 bits after the point


def main():
    args = parse()
    measure.start(args)
    measure.check_device(args.device, torch=not args.profile and args.memory_of != "minigen")
    if args.memory_of:
        print(json.dumps(peak_memory(args.memory_of, args.workload, args)))
        return
    from workloads import WORKLOADS

    names = list(WORKLOADS) if args.workload == "all" else args.workload.split(",")
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        sys.exit(f"train_step: unknown workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if args.profile:
        for name in names:
            print_profile(name, args)
        return
    if args.peer == "torch-compile" and not shutil.which("g++"):
        sys.exit("train_step: torch-compile needs the compiler g++, which is not installed")
    peer = f"{args.peer} {measure.version('torch').partition(' ')[2]}"
    run, table = (check, check_table) if args.check else (compare, compare_table)
    result = {**measure.header(args.device), "peer": peer, "device": args.device}
    result["workloads"] = [run(name, args) for name in names]
    measure.show(result, args, table)
    sys.exit(args.check and not all(r["agree"] for r in result["workloads"]))


def parse():
    parser = measure.parser(__doc__)
    parser.add_argument("--workload", default="all", help="a name, several with commas, or all")
    parser.add_argument("--peer", choices=["torch", "torch-compile"], default="torch")
    measure.add_device(parser)
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--check", action="store_true", help="compare losses instead of times")
    parser.add_argument("--profile", action="store_true", help="minigen's time by kernel")
    parser.add_argument("--memory-of", choices=["minigen", "contiguous", "channels-last"],
                        help="print the peak memory of one runner in MB")  # fmt: skip
    return parser.parse_args()


def compare(name, args):
    """One row: the workload timed in turns, a block of steps of each runner a round."""
    from tracing import count_flops
    from workloads import WORKLOADS

    measure.same_threads(args.threads)
    workload = WORKLOADS[name]().on(args.device)
    compiled = args.peer == "torch-compile" and workload.compiles
    modes = ["compiled"] if compiled else ["eager"]
    runners = {}
    for mode in modes + ["graph"] * (args.device != "cpu" and args.peer == "torch"):
        made = workload.peers(compile=compiled, graph=mode == "graph")
        runners.update({(mode, label): run for label, run in made.items()})
    flops = count_flops(workload.step)
    runners["minigen"] = workload.timed()
    if args.device != "cpu":
        runners["minigen eager"] = WORKLOADS[name]().on(args.device, captured=False).timed()
    clock = measure.clock(args)
    times = measure.alternate(runners, args.rounds, clock, device=args.device)
    peers = [_against(mode, times) for mode in dict.fromkeys(key[0] for key in _peers(times))]
    medians = measure.medians(times)
    row = {
        "workload": name,
        "threads": args.threads,
        "minigen_ms": medians["minigen"],
        **peers[0],
        "gflops": flops / medians["minigen"] / 1e6,
        "peak_mb": memory_in_fresh_process("minigen", name, args),
        "peer_peak_mb": memory_in_fresh_process(peers[0]["peer_format"], name, args),
    }
    if args.device != "cpu":
        row["minigen_eager_ms"] = medians["minigen eager"]
        row["others"] = peers[1:]
    return row


def _peers(times):
    """The keys of the peer's runners, (mode, memory format)."""
    return [key for key in times if isinstance(key, tuple)]


def _against(mode, times):
    """The peer's better memory format in a mode, and the ratio to minigen."""
    medians = measure.medians(times)
    best = min((key for key in _peers(times) if key[0] == mode), key=medians.get)
    ratios = [b / a for a, b in zip(times["minigen"], times[best], strict=True)]
    return {
        "peer_ms": medians[best],
        "peer_format": best[1],
        "peer_mode": mode,
        "ratio": medians[best] / medians["minigen"],
        "spread": measure.quartiles(ratios),
    }


def compare_table(result):
    titles = ("minigen ms", "peer ms", "ratio", "GFLOP/s", "MB", "peer MB")
    yield f"peer {result['peer']}"
    yield f"{'workload':<12}" + "".join(f"{t:>11}" for t in titles) + "  quartiles, peer"
    for r in result["workloads"]:
        low, high = r["spread"]
        megabytes = "".join(f"{r[key] or 0:>11.0f}" for key in ("peak_mb", "peer_peak_mb"))
        yield (
            f"{r['workload']:<12}{r['minigen_ms']:>11.3f}{r['peer_ms']:>11.3f}{r['ratio']:>11.2f}"
            f"{r['gflops']:>11.0f}{megabytes}"
            f"  {low:.2f} to {high:.2f}, {r['peer_mode']} {r['peer_format']}"
        )
        for other in r.get("others", ()):
            eager = r["minigen_eager_ms"]
            yield (
                f"{'':<12}{eager:>5.2f} eager{other['peer_ms']:>11.3f}{other['ratio']:>11.2f}"
                f"{'':>33}  {other['peer_mode']} {other['peer_format']}"
            )
    rows = result["workloads"]
    for mode in dict.fromkeys(each["peer_mode"] for r in rows for each in _each_peer(r)):
        ratios = [e["ratio"] for r in rows for e in _each_peer(r) if e["peer_mode"] == mode]
        mean = statistics.geometric_mean(ratios)
        yield f"geometric mean of the ratios, {mode}: {mean:.2f}"


def _each_peer(row):
    return (row, *row.get("others", ()))


def memory_in_fresh_process(runner, name, args):
    if args.no_memory:
        return None
    given = ("--workload", name, "--threads", args.threads, "--device", args.device)
    return measure.fresh("--memory-of", runner, *given)


def peak_memory(runner, name, args):
    """MB that ten steps need beyond what the process holds before them, or the GPU."""
    from workloads import WORKLOADS

    workload = WORKLOADS[name]().on(args.device)
    small = WORKLOADS["mine-20d"](batch=2).on(args.device)
    if runner == "minigen":
        step, first = workload.step, small.step
    else:
        measure.same_threads(args.threads)
        step, first = workload.peers()[runner], small.peers()["contiguous"]
    first()  # loads what every step needs: the kernels' runtime, the optimiser
    if args.device == "cpu":
        return measure.peak_beyond(lambda: [step() for _ in range(10)])
    before = measure.gpu_memory()
    for _ in range(10):
        step()
    return measure.gpu_memory() - before


def check(name, args):
    """One row: the largest relative differences of the losses of three steps, float64 and 32."""
    from workloads import SMALL, WORKLOADS

    measure.same_threads(args.threads)
    single = WORKLOADS[name]().on(args.device)
    compiled = args.peer == "torch-compile" and single.compiles
    double = WORKLOADS[name](batch=SMALL[name]).double().on(args.device)
    found = {"float32": _gaps(single, compiled), "float64": _gaps(double, compiled)}
    tolerance = TOLERANCE if args.device == "cpu" else TF32_TOLERANCE
    agree = found["float32"][0]["relative"] <= tolerance
    agree &= all(row["relative"] <= DOUBLE_TOLERANCE for row in found["float64"])
    return {"workload": name, "agree": agree, **found}


def _gaps(workload, compiled):
    """A row a step: minigen's losses, the peer's, and how far they and its formats are apart."""
    rows = []
    for ours, theirs in workload.parity(compile=compiled):
        formats = list(theirs.values())
        rows.append(
            {
                "minigen": ours,
                "torch": theirs,
                "relative": max(_relative(ours, losses) for losses in theirs.values()),
                "formats": _relative(*formats) if len(formats) > 1 else None,
            }
        )
    return rows


def _relative(ours, theirs):
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def check_table(result):
    yield "relative difference of the losses of steps 1, 2, 3 (in brackets: PyTorch against itself)"
    for r in result["workloads"]:
        cells = []
        for row in r["float32"]:
            itself = "" if row["formats"] is None else f" ({row['formats']:.0e})"
            cells.append(f"{row['relative']:.0e}{itself}")
        double = max(row["relative"] for row in r["float64"])
        verdict = "agree" if r["agree"] else "DIFFER"
        yield f"{r['workload']:<12} float32 {', '.join(cells)}; float64 {double:.0e}: {verdict}"


def print_profile(name, args):
    from tracing import profile
    from workloads import WORKLOADS

    workload = WORKLOADS[name]().on(args.device, captured=False)
    rows = profile(workload.step, device=args.device)
    print(f"{name}, {args.threads} threads: ms a step, calls a step, kernel and shapes")
    inside = sum(ms for label, _, ms in rows if label != "(all)")
    for label, calls, ms in [*rows, ("(outside kernels)", 1, rows[0][2] - inside)]:
        if ms > rows[0][2] * 0.005:
            print(f"{ms:9.3f} {calls:6.1f}  {label}")


if __name__ == "__main__":
    main()
