"""What the benchmarks share: options, threads, timing in turns, fresh processes, memory, machine.

Importing this module puts the checkout before any installed minigen. Nothing here may import
NumPy, minigen or PyTorch before `start` has set the threads, which they read as they load.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


class How(NamedTuple):
    """How PyTorch runs a step."""

    channels_last: bool = False
    compile: bool = False
    device: str = "cpu"
    graph: bool = False  # the whole step as one CUDA graph


def parser(description, rounds=15):
    """An argument parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--rounds", type=int, default=rounds, help="rounds of alternation")
    made.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall",
        help="cpu counts this process's own seconds: for 1 thread on a machine that others use",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def start(args):
    """Set the threads of every library that is imported from now on."""
    if args.clock == "cpu" and args.threads != 1:
        sys.exit(f"--clock cpu adds up the threads' time: got --threads {args.threads}, expected 1")
    n = str(args.threads)
    os.environ.update(MINIGEN_NUM_THREADS=n, OMP_NUM_THREADS=n, OPENBLAS_NUM_THREADS=n)


def add_device(parser):
    """The option --device."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])


def check_device(device, torch=False):
    """Exit with one line where minigen, or PyTorch, cannot use the device."""
    if device == "cpu":
        return
    script = Path(sys.argv[0]).stem
    from minigen import backend

    try:
        cupy = backend.module(device)
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except (RuntimeError, ImportError) as error:
        sys.exit(f"{script}: {' '.join(str(error).split())}")
    if torch:
        import torch

        if not torch.cuda.is_available():
            sys.exit(f"{script}: PyTorch {torch.__version__} sees no GPU, CuPy sees {name}")
        torch.backends.cudnn.benchmark = True  # convolutions by its fastest algorithm, TF32 as is


def synchronize(device):
    """Wait until a device has done all that it was given."""
    if device != "cpu":
        import cupy

        cupy.cuda.Device().synchronize()


def clock(args):
    return time.process_time if args.clock == "cpu" else time.perf_counter


def same_threads(n):
    """Make minigen and PyTorch use n threads, whatever either did to the other.

    Both run on one OpenMP library. Numba, when it starts its threads, sets that library's count for
    this process, and with it PyTorch's: so minigen runs first, and PyTorch's count is set after.
    """
    import numpy as np
    import torch

    from minigen import kernels

    kernels.set_num_threads(n)
    kernels.leaky_relu(np.zeros(1 << 20, np.float32), 0.1)
    torch.set_num_threads(n)


def alternate(runners, rounds, clock=time.perf_counter, block=0.05, device="cpu"):
    """{label: milliseconds a call, one number a round} of functions timed in turns.

    Each turn is a block of calls that takes about `block` seconds. The order rotates, and where a
    block has several calls one goes before it untimed: the caches are the other's until then, and
    its threads spin for a while after their last work. On a GPU a turn ends when all is done there.
    """
    calls = {}
    for label, run in runners.items():  # warm up: compile, choose algorithms, fill caches
        for _ in range(3):
            run()
        synchronize(device)
        begin, some = time.perf_counter(), 1 if device == "cpu" else 5
        for _ in range(some):
            run()
        synchronize(device)
        calls[label] = max(1, int(block * some / (time.perf_counter() - begin)))
    times = {label: [] for label in runners}
    labels = list(runners)
    for turn in range(rounds):
        at = turn % len(labels)
        for label in labels[at:] + labels[:at]:
            run, count = runners[label], calls[label]
            if count > 1:
                run()
            synchronize(device)
            begin = clock()
            for _ in range(count):
                run()
            synchronize(device)
            times[label].append((clock() - begin) / count * 1e3)
    return times


def medians(times):
    return {label: statistics.median(values) for label, values in times.items()}


def quartiles(values):
    """[first, third]; both the value itself where there is only one."""
    if len(values) < 2:
        return [values[0]] * 2
    low, _, high = statistics.quantiles(values, n=4)
    return [low, high]


def fresh(*arguments, environment=None):
    """The JSON document that this script prints when a new process runs it with `arguments`."""
    out = subprocess.run(
        [sys.executable, sys.argv[0], *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    return json.loads(out.stdout)


def keyed(names, runs):
    """{what determines a run, its values by these names: the run}; the last of equal ones."""
    return {json.dumps([run[name] for name in names], sort_keys=True): run for run in runs}


def read_json(path):
    """What a JSON file holds; {} where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def as_text(document):
    return json.dumps(document, indent=1) + "\n"


def update_json(path, change, text=as_text):
    """Write change(what a JSON file holds by now), a document, and return that.

    Processes, or threads, that share a folder take turns, so that none writes over what another has
    found since it began. A reader finds the old file or the new one, whole.
    """
    import fcntl

    from minigen import files

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # a lock on it leaves no file behind
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        document = change(read_json(path))
        files.write_text_atomic(path, text(document))
    finally:
        os.close(folder)
    return document


def resident(key="VmRSS"):
    """This process's resident memory (VmRSS) or its peak (VmHWM), in MB (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def peak_beyond(run):
    """MB at the peak of run() beyond what the process held before it (Linux only)."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    run()
    return resident("VmHWM") - before


def header(device="cpu"):
    """Where and when a result was made, to begin its JSON document with."""
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        **({} if device == "cpu" else gpu()),
        "commit": commit(),
    }


def show(result, args, table):
    """Print a result as JSON, or the machine and then `table(result)`, lines of text."""
    if args.json:
        print(json.dumps(result, indent=2))
        return
    where = f"{result['gpu']}, " if "gpu" in result else ""
    print(f"{where}{result['machine']}; commit {result['commit']}; {args.threads} threads")
    for line in table(result):
        print(line)


def machine():
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = f"{models[0].partition(':')[2].strip()} x{len(models)}" if models else name
    return f"{name}, {platform.system()}, Python {platform.python_version()}"


def gpu():
    """The GPU and what drives it."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "gpu": properties["name"].decode(),
        "driver": f"CUDA {runtime.driverGetVersion() // 10 / 100:.1f}",
        "cupy": cupy.__version__,
    }


def gpu_memory():
    """MB of the GPU that are taken."""
    import cupy

    free, total = cupy.cuda.runtime.memGetInfo()
    return (total - free) / 2**20


def commit():
    """Of the checkout; MINIGEN_COMMIT names it where git cannot tell."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = ""
    if shutil.which("git"):
        found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return found or os.environ.get("MINIGEN_COMMIT") or "none"


def version(package):
    return f"{package} {importlib.metadata.version(package)}"
