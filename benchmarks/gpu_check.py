"""All that only a GPU can show, in under ten minutes: right results, speed, limits, clean memory.

    python benchmarks/gpu_check.py --out DIR [--kernels FOLDER] [--limit-seconds 570] [--commit ID]
    python benchmarks/gpu_check.py --out DIR --stages compiled        a stage alone

Stages run one after the other, the most important first, their parts beside one another where
nothing is timed; each part is a process of its own with a time limit, and none stops the others.
Kernels come from --kernels (made by `minigen kernels build`) or are built at first. DIR gets
gpu_check.json and .md after every stage, and results in the form of benchmarks/results/. Exits
with 1 where something failed or was left out.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import gpu_report
import measure

WORKLOADS = (
    "dcgan-64", "dcgan-32", "vae", "gan", "dcgan-28", "wgan-gp-32", "conv-vae-32", "infogan-28",
    "mine-20d", "dncnn-40", "unet-64", "vgg16-256",
)  # fmt: skip
PRODUCTS = ("conv2d", "conv_transpose2d", "conv2d_weight_grad", "matmul,linear,linear_grads")


class Part(NamedTuple):
    """A process: what it is called, its command, and seconds at most."""

    name: str
    command: list
    seconds: float


class Stage(NamedTuple):
    """Parts, run so many at a time."""

    name: str
    parts: list[Part]
    at_once: int


def main():
    args = parse()
    if args.part:
        return run_part(args.part, args.share)
    measure.check_device("cuda")
    begin, out = time.monotonic(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update(MINIGEN_NUM_THREADS="4", PYTHONUNBUFFERED="1")
    os.environ["MINIGEN_COMMIT"] = args.commit or measure.commit()
    if args.kernels:
        os.environ["MINIGEN_CUDA_KERNELS"] = str(Path(args.kernels).resolve())
        check_kernels()
    report = {**measure.header("cuda"), "parts": []}
    wanted = [stage for stage in stages(args) if not args.stages or stage.name in args.stages]
    with open(out / "log.txt", "w") as log, ThreadPoolExecutor(16) as threads:
        for stage in wanted:
            report["parts"] += run_stage(stage, begin + args.limit_seconds, threads, log)
            report["seconds"] = time.monotonic() - begin
            gpu_report.write(report, out)
    print((out / "gpu_check.md").read_text())
    return any(part["status"] != "passed" for part in report["parts"])


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="the folder of the results")
    parser.add_argument("--kernels", help="a folder made by `minigen kernels build`")
    parser.add_argument("--limit-seconds", type=float, default=570)
    parser.add_argument("--stages", type=lambda text: text.split(","), help="names, with commas")
    parser.add_argument("--commit", help="what this is a checkout of, where git cannot tell")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.out and not args.part:
        parser.error("--out DIR is missing")
    return args


def stages(args):
    """All of them, in the order in which they run."""
    found = []
    if not args.kernels:
        folder = Path(tempfile.gettempdir(), "minigen-kernels-" + str(os.getpid()))
        os.environ["MINIGEN_CUDA_KERNELS"] = str(folder)
        build = ["-m", "minigen", "kernels", "build", "--arch", architecture(), "--out", folder]
        found.append(Stage("build", [Part("build", build, 120)], 1))
    # On a fresh machine CuPy compiles some 700 kernels of its own for `gradients`.
    right = [_own("gradients", 240, "--share", f"{i}/3") for i in range(3)]
    right += [_own(name, 150) for name in ("errors", "replays", "training")]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default",
             "--continue-on-collection-errors", "tests/cuda"]  # fmt: skip
    right.insert(0, Part("tests/cuda", tests, 150))
    right += [
        _script("losses", "train_step", "--check", "--workload", ",".join(WORKLOADS[i::4]))
        for i in range(4)
    ]
    found.append(Stage("right", right, len(right)))
    steps = [_script("steps", "train_step", "--workload", name, "--rounds", 7, "--no-memory")
             for name in WORKLOADS]  # fmt: skip
    found.append(Stage("steps", steps, 1))
    rest = [name for name in _kernel_names() if name not in ",".join(PRODUCTS).split(",")]
    groups = (*PRODUCTS, *(",".join(rest[i::3]) for i in range(3)))
    table = [_script("kernels", "kernels", "--only", group) for group in groups]
    convolutions = _script("convolutions", "shapes", "--large", "--rounds", 5)
    found.append(Stage("kernels", [*table, convolutions], 1))
    sanitizer = ["-m", "tests.gpu.every_kernel"]
    watched = [
        Part(tool, ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable,
                    *sanitizer], 120)
        for tool in ("memcheck", "racecheck")
    ]  # fmt: skip
    compiled = [
        _script("compiled", "train_step", "--peer", "torch-compile", "--workload", name,
                "--rounds", 5, "--no-memory", seconds=90)
        for name in WORKLOADS if name != "wgan-gp-32"  # which it cannot differentiate twice
    ]  # fmt: skip
    first = [part._replace(name="compile", seconds=150) for part in compiled]
    found.append(Stage("watched", watched, 2))
    found.append(Stage("compiled", [*first, *compiled], len(first)))
    return found


def _own(name, seconds, *words):
    return Part(name, ["benchmarks/gpu_check.py", "--part", name, *words], seconds)


def _script(name, script, *words, seconds=120):
    command = [f"benchmarks/{script}.py", "--device", "cuda", "--json", *map(str, words)]
    return Part(name, command, seconds)


def _kernel_names():
    from minigen import kernels

    return list(kernels.NAMES)


def check_kernels():
    """Exit with one line where the folder of kernels is not for this GPU and checkout."""
    from minigen.kernels.cuda import launch

    try:
        launch.built_folder(architecture())
    except RuntimeError as error:
        sys.exit(f"gpu_check: {error}")


def architecture():
    import cupy

    return f"sm_{cupy.cuda.Device().compute_capability}"


# ---------------------------------------------------------------------------------------- running


def run_stage(stage, end, threads, log):
    """The results of a stage's parts; `compiled` fills PyTorch's cache first, all at once."""
    groups = [stage.parts]
    if stage.name == "compiled":
        groups = [[p for p in stage.parts if p.name == name] for name in ("compile", "compiled")]
    found = []
    for group in groups:
        if stage.at_once == 1 or group[0].name == "compiled":
            results = [run(part, end) for part in group]
        else:
            results = list(threads.map(lambda part: run(part, end), group))
        found += [{"stage": stage.name, **result} for result in results]
    for each in found:
        log.write(f"== {each['name']} {each['command']}: {each['status']}\n{each.pop('tail')}\n")
    log.flush()
    return [each for each in found if each["name"] != "compile"]


def run(part, end):
    """One process, ended where its time or all time is over: what it printed, and how it went."""
    words = [str(word) for word in part.command]
    python = [] if words[0] == "compute-sanitizer" else [sys.executable]
    seconds = min(part.seconds, end - time.monotonic())
    row = {"name": part.name, "command": " ".join(["python"] * bool(python) + words), "tail": ""}
    if seconds < 5:
        return {**row, "status": "left out", "note": "no time was left", "seconds": 0.0}
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen([*python, *words], stdout=printed, stderr=said,
                                       cwd=measure.ROOT, start_new_session=True)  # fmt: skip
        except OSError as error:
            return {**row, "status": "left out", "note": str(error), "seconds": 0.0}
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = "timeout"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (printed, said):
            file.seek(0)
            texts.append(file.read())
    row.update(seconds=time.monotonic() - begin, tail=texts[0][-3000:] + texts[1][-3000:])
    row.update(gpu_report.understood(part.name, code, *texts))
    return row


def run_part(name, share):
    """Print the rows of a function of tests/gpu/checks.py, one JSON document a line."""
    from tests.gpu import checks

    measure.check_device("cuda")
    wrong = False
    given = {} if share is None else {"share": tuple(map(int, share.split("/")))}
    for row in getattr(checks, name)(**given):
        wrong |= not row["passed"]
        print(json.dumps(row, default=str), flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
