"""How training scales: with the batch, with threads, over thousands of steps, and from the start.

    python benchmarks/scaling.py --what batch|threads|growth|memory|startup [--json]

batch    milliseconds of a DCGAN step by batch size, and how far they lie from a straight line
threads  2 threads against 1, alternating, on the convolutional workloads
growth   resident memory over --steps steps of a small DCGAN
memory   peak resident memory of a process that trains a 64x64 DCGAN, minigen and PyTorch
startup  seconds from the start of a process to the end of a first DCGAN step, from an empty
         kernel cache and from a warm one
"""

import json
import tempfile
import time

import measure

WHAT = ("batch", "threads", "growth", "memory", "startup")
BATCHES = (8, 16, 32, 64, 128)
DENSE = ("gan", "vae", "mine-20d")  # not counted among the convolutional workloads


def main():
    parser = measure.parser(__doc__, rounds=7)
    parser.add_argument("--what", choices=WHAT, required=True)
    parser.add_argument("--steps", type=int, default=5000, help="of growth")
    parser.add_argument("--workload", default="", help="names with commas, for threads")
    parser.add_argument("--alone", choices=["minigen", "torch"],
                        help="train in this process and print its memory or time")  # fmt: skip
    parser.add_argument("--networks", help="PyTorch's networks on disk, for --alone torch")
    args = parser.parse_args()
    measure.start(args)
    if args.alone:
        print(json.dumps(ALONE[args.what](args)))
        return
    rows = globals()[f"measure_{args.what}"](args)
    result = {**measure.header(), "what": args.what, "threads": args.threads, "rows": rows}
    measure.show(result, args, lambda result: map(LINES[args.what], result["rows"]))


# ------------------------------------------------------------------------------------------ batch


def measure_batch(args):
    import numpy as np
    from workloads import dcgan

    from minigen import kernels

    kernels.set_num_threads(args.threads)
    steps = {batch: dcgan(32, 3, batch).step for batch in BATCHES}
    ms = measure.medians(measure.alternate(steps, args.rounds, measure.clock(args)))
    line = np.polynomial.Polynomial.fit(BATCHES, [ms[b] for b in BATCHES], 1)
    return [
        {"batch": b, "ms": ms[b], "ms_per_image": ms[b] / b, "off_line": ms[b] / line(b) - 1}
        for b in BATCHES
    ]


# ---------------------------------------------------------------------------------------- threads


def measure_threads(args):
    from workloads import WORKLOADS

    from minigen import kernels

    names = args.workload.split(",") if args.workload else [n for n in WORKLOADS if n not in DENSE]
    return [_threads_row(name, WORKLOADS[name]().step, kernels, args) for name in names]


def _threads_row(name, step, kernels, args):
    def on(threads):
        def run():
            kernels.set_num_threads(threads)
            step()

        return run

    times = measure.alternate({1: on(1), 2: on(2)}, args.rounds)
    ms = measure.medians(times)
    gains = [one / two for one, two in zip(times[1], times[2], strict=True)]
    return {"workload": name, "ms_1": ms[1], "ms_2": ms[2], "gain": ms[1] / ms[2],
            "spread": measure.quartiles(gains)}  # fmt: skip


# ----------------------------------------------------------------------------------------- growth


def measure_growth(args):
    from workloads import dcgan

    step = dcgan(28, 1, batch=16, channels=8).step
    rows, every = [], max(1, args.steps // 10)
    for i in range(1, args.steps + 1):
        step()
        if i % every == 0:
            rows.append({"step": i, "mb": measure.resident()})
            rows[-1]["grown_mb"] = rows[-1]["mb"] - rows[0]["mb"]
    return rows


# ----------------------------------------------------------------------------------------- memory


def measure_memory(args):
    """A process for each library, with nothing of the other's in it."""
    import torch
    from twins import to_torch
    from workloads import dcgan

    fresh = ("--what", "memory", "--threads", args.threads, "--alone")
    measure.fresh(*fresh, "minigen")  # its kernels may have to be compiled first
    rows = [{"library": "minigen", "format": None, "mb": measure.fresh(*fresh, "minigen")}]
    model = dcgan(64, 3).model
    for last in (False, True):
        with tempfile.NamedTemporaryFile(suffix=".pt") as file:
            how = measure.How(channels_last=last)
            networks = [to_torch(m, how) for m in (model.generator, model.discriminator)]
            torch.save(networks, file.name)
            mb = measure.fresh(*fresh, "torch", "--networks", file.name)
        label = "channels-last" if last else "contiguous"
        rows.append({"library": "torch", "format": label, "mb": mb})
    return rows


def _memory_alone(args):
    """MB at the peak of this process, after 20 steps on 64 images of 64x64."""
    if args.alone == "minigen":
        from workloads import dcgan

        step = dcgan(64, 3).step
    else:
        import numpy as np
        import torch
        from peers import GANStep

        torch.set_num_threads(args.threads)
        networks = torch.load(args.networks, weights_only=False)
        last = networks[1][0].weight.is_contiguous(memory_format=torch.channels_last)
        gan = GANStep(*networks, 2e-4, 0.5, measure.How(channels_last=last))
        rng = np.random.default_rng(0)
        images, noise = rng.random((64, 3, 64, 64), np.float32), rng.random((64, 100), np.float32)
        step = lambda: gan(images, noise)
    for _ in range(20):
        step()
    return measure.resident("VmHWM")


# ---------------------------------------------------------------------------------------- startup


def measure_startup(args):
    """From an empty cache, and twice from the cache that this leaves."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for label in ("empty", "warm", "warm"):
            rows.append({"cache": label, "seconds": _first_step(args, cache)})
    return rows


def _first_step(args, cache):
    command = ("--what", "startup", "--threads", args.threads, "--alone", "minigen")
    begin = time.time()  # the wall clock, which both processes share
    end = measure.fresh(*command, environment={"NUMBA_CACHE_DIR": cache})
    return end - begin


def _startup_alone(args):
    """The time at the end of a first step of `dcgan` on 28x28, as `minigen train` runs it."""
    import numpy as np

    import minigen as mg
    from minigen.gan.dcgan import DCGAN, DCGANOptions

    model = DCGAN(DCGANOptions(), (1, 28, 28), rng=mg.Generator(0))
    images = np.zeros((model.options.batch_size, 1, 28, 28), np.float32)
    losses = model.step(images, None, mg.Generator(1))
    losses["generator"].item()
    return time.time()


ALONE = {"memory": _memory_alone, "startup": _startup_alone}
LINES = {
    "batch": lambda r: (
        f"batch {r['batch']:4d}: {r['ms']:8.2f} ms, {r['ms_per_image']:.3f} ms an image, "
        f"{r['off_line']:+.1%} from the line"
    ),
    "threads": lambda r: (
        f"{r['workload']:<12} {r['ms_1']:8.2f} ms, 2 threads {r['ms_2']:8.2f} ms: "
        f"{r['gain']:.2f} times ({r['spread'][0]:.2f} to {r['spread'][1]:.2f})"
    ),
    "growth": lambda r: f"step {r['step']:6d}: {r['mb']:.1f} MB, {r['grown_mb']:+.1f}",
    "memory": lambda r: f"{r['library']} {r['format'] or ''}: {r['mb']:.0f} MB at its peak",
    "startup": lambda r: f"{r['cache']} cache: first step after {r['seconds']:.2f} s",
}


if __name__ == "__main__":
    main()
