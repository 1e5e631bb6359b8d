"""Milliseconds of one training step in minigen and in PyTorch, alternating in one run.

    python benchmarks/train_step.py --workload all --threads 2 --peer torch --json

The peer is PyTorch with the same weights, batches and noise, in its better memory format
(contiguous or channels-last), with fused Adam. GFLOP/s counts the multiplications and additions of
the direct algorithms. Peak memory is what a fresh process needs beyond what it held before its
first step. Numbers are medians; ratio = peer / minigen.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def main():
    args = parse()
    os.environ.update(MINIGEN_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
    if args.memory_of:
        print(peak_memory(args.memory_of, args.workload, args.threads))
        return
    from workloads import WORKLOADS

    names = list(WORKLOADS) if args.workload == "all" else args.workload.split(",")
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        sys.exit(f"train_step: unknown workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    rows = [compare(name, args) for name in names]
    result = {
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "commit": commit(),
        "peer": f"{args.peer} {torch_version()}",
        "workloads": rows,
    }
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['machine']}; commit {result['commit']}")
    print(f"{args.threads} threads; peer {args.peer}")
    titles = ("minigen ms", "peer ms", "ratio", "GFLOP/s", "MB", "peer MB")
    print(f"{'workload':<12}" + "".join(f"{title:>11}" for title in titles))
    for r in rows:
        print(
            f"{r['workload']:<12}{r['minigen_ms']:>11.2f}{r['peer_ms']:>11.2f}{r['ratio']:>11.2f}"
            f"{r['gflops']:>11.0f}{r['peak_mb']:>11.0f}{r['peer_peak_mb']:>11.0f}"
        )
    mean = statistics.geometric_mean(r["ratio"] for r in rows)
    print(f"geometric mean of the ratios: {mean:.2f}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", default="all", help="a name, several with commas, or all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", choices=["torch", "torch-compile"], default="torch")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of alternation")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", choices=["minigen", "torch"], help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(name, args):
    """One row: the workload timed in turns, a block of steps of each runner a round."""
    import torch
    from workloads import WORKLOADS, count_flops

    import minigen as mg

    torch.set_num_threads(args.threads)
    mg.kernels.set_num_threads(args.threads)
    workload = WORKLOADS[name]()
    peers = workload.peers(compile=args.peer == "torch-compile")
    runners = {"minigen": workload.step, **peers}
    flops = count_flops(workload.step)
    once = {}
    for label, step in runners.items():  # warm up: compile, choose algorithms, fill caches
        for _ in range(3):
            step()
        start = time.perf_counter()
        step()
        once[label] = time.perf_counter() - start
    block = {label: max(1, int(0.05 / t)) for label, t in once.items()}
    times = {label: [] for label in runners}
    for _ in range(args.rounds):
        for label, step in runners.items():
            start = time.perf_counter()
            for _ in range(block[label]):
                step()
            times[label].append((time.perf_counter() - start) / block[label] * 1e3)
    medians = {label: statistics.median(t) for label, t in times.items()}
    best = min(peers, key=lambda label: medians[label])
    return {
        "workload": name,
        "threads": args.threads,
        "minigen_ms": medians["minigen"],
        "peer_ms": medians[best],
        "peer_format": best,
        "ratio": medians[best] / medians["minigen"],
        "gflops": flops / medians["minigen"] / 1e6,
        "peak_mb": in_fresh_process("minigen", name, args.threads),
        "peer_peak_mb": in_fresh_process("torch", name, args.threads),
    }


def in_fresh_process(library, name, threads):
    command = [sys.executable, __file__, "--memory-of", library, "--workload", name]
    out = subprocess.run(
        [*command, "--threads", str(threads)], capture_output=True, text=True, check=True
    )
    return float(out.stdout)


def peak_memory(library, name, threads):
    """MB that ten steps need beyond what the process holds before them (Linux only)."""
    from workloads import WORKLOADS

    import minigen as mg

    mg.kernels.set_num_threads(threads)
    workload = WORKLOADS[name]()
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
        step = workload.peers()["contiguous"]
    else:
        step = workload.step
        WORKLOADS["vae"]().step()  # the kernels' compiler is loaded before the count begins
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    for _ in range(10):
        step()
    return resident("VmHWM") - before


def resident(key):
    """This process's resident memory (VmRSS) or its peak (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def torch_version():
    return importlib.metadata.version("torch")


def machine():
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = f"{models[0].partition(':')[2].strip()} x{len(models)}" if models else name
    return f"{name}, {platform.system()}, Python {platform.python_version()}"


def commit():
    out = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return out.stdout.strip() or "none"


if __name__ == "__main__":
    main()
