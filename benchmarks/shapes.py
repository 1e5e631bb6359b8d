"""Convolutions of shapes that nobody tuned, and their gradients, against PyTorch in both formats.

    python benchmarks/shapes.py --threads 1 [--random 20] [--seed 0] [--only 5x5] [--json]
    python benchmarks/shapes.py --device cuda --large

Each kernel runs in turns with PyTorch's (contiguous and channels-last, each on arrays of its own
format); ratio = better peer / minigen. The worst come first. Exits with 1 if a result differs from
PyTorch's by more than 1e-4 of its largest value, on a GPU, where both multiply in TF32, 4e-3.
--large takes layers of 34 to 107 GFLOP instead, which fill a GPU.
"""

import functools
import statistics
import sys
from typing import NamedTuple

import measure
import numpy as np

TOLERANCE, TF32_TOLERANCE = 1e-4, 4e-3
OPERATIONS = ("forward", "input gradient", "weight gradient")


class Shape(NamedTuple):
    batch: int
    channels: int
    size: tuple[int, int]
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False

    def __str__(self):
        name = "conv_transpose2d" if self.transposed else "conv2d"
        text = f"{name} {self.batch}x{self.channels}x{self.size[0]}x{self.size[1]}"
        text += f" -> {self.out_channels}, {self.kernel}x{self.kernel} s{self.stride}"
        text += f" p{self.padding}"
        text += f" d{self.dilation}" if self.dilation > 1 else ""
        return text + (f" g{self.groups}" if self.groups > 1 else "")

    @property
    def output(self):
        reach = self.dilation * (self.kernel - 1)
        if self.transposed:
            return tuple((n - 1) * self.stride - 2 * self.padding + reach + 1 for n in self.size)
        return tuple((n + 2 * self.padding - reach - 1) // self.stride + 1 for n in self.size)

    @property
    def flops(self):
        pixels = np.prod(self.size if self.transposed else self.output)
        taps = self.kernel**2 * self.channels * self.out_channels // self.groups
        return int(2 * self.batch * pixels * taps)


def sweep():
    """The fixed list: batches, channels, images, kernels, strides, dilations and groups."""
    odd = (29, 31)
    yield from (Shape(n, 64, (28, 28), 96, 3, 1, 1) for n in (1, 7, 48))
    yield from (Shape(n, 96, (14, 14), 128, 4, 2, 1) for n in (1, 7, 48))
    yield from (Shape(16, c, odd, o, 3, 1, 1) for c, o in ((96, 96), (37, 53), (3, 17), (50, 3)))
    yield from (Shape(16, c, odd, o, 4, 2, 1) for c, o in ((96, 96), (37, 53), (3, 17)))
    yield from (Shape(16, 48, odd, 64, k, 1, k // 2) for k in (1, 5, 7))
    yield from (Shape(16, 48, odd, 64, k, 2, k // 2) for k in (1, 3, 5, 7))
    yield from (Shape(16, 64, odd, 64, 4, 1, p) for p in (0, 1))
    yield Shape(16, 64, odd, 64, 3, 1, 2, dilation=2)
    yield Shape(16, 64, odd, 64, 3, 2, 2, dilation=2)
    yield from (Shape(16, 64, odd, 96, 3, 1, 1, groups=g) for g in (2, 4))
    yield Shape(16, 96, odd, 96, 3, 1, 1, groups=96)
    yield Shape(16, 96, odd, 96, 5, 2, 2, groups=96)
    yield from (Shape(n, 96, (7, 7), 64, 4, 2, 1, transposed=True) for n in (1, 7, 48))
    small = (15, 17)
    yield from (Shape(16, c, small, o, 4, 2, 1, transposed=True) for c, o in ((37, 53), (64, 3)))
    yield from (Shape(16, 48, small, 64, k, 2, k // 2, transposed=True) for k in (2, 3, 5))
    yield Shape(16, 48, small, 64, 3, 1, 1, transposed=True)
    yield Shape(16, 64, small, 64, 4, 2, 1, groups=4, transposed=True)
    yield Shape(48, 100, (1, 1), 96, 4, transposed=True)


def large():
    """Layers of GANs, U-Nets and perceptual networks at the sizes that GPUs train."""
    yield from (Shape(64, c, (n, n), c, 3, 1, 1) for c, n in ((64, 128), (128, 64), (256, 32)))
    yield Shape(64, 512, (16, 16), 512, 3, 1, 1)
    yield from (Shape(128, c, (n, n), 2 * c, 4, 2, 1) for c, n in ((64, 64), (128, 32), (256, 16)))
    yield from (
        Shape(128, c, (n, n), c // 2, 4, 2, 1, transposed=True)
        for c, n in ((512, 8), (256, 16), (128, 32))
    )
    yield Shape(32, 64, (128, 128), 64, 5, 1, 2)
    yield Shape(64, 256, (64, 64), 256, 1, 1, 0)


def random_shapes(count, seed):
    """More shapes, of 3 MFLOP to 1 GFLOP."""
    rng = np.random.default_rng(seed)
    while count:
        groups = int(rng.choice([1, 1, 1, 1, 2, 3, 4]))
        kernel, dilation = int(rng.integers(1, 8)), int(rng.choice([1, 1, 1, 2]))
        shape = Shape(
            int(rng.integers(1, 65)),
            groups * int(rng.integers(1, 160 // groups)),
            (int(rng.integers(1, 65)), int(rng.integers(1, 65))),
            groups * int(rng.integers(1, 160 // groups)),
            kernel,
            int(rng.choice([1, 1, 2, 2, 3])),
            int(rng.integers(0, dilation * (kernel - 1) // 2 + 1)),
            dilation,
            groups,
            bool(rng.integers(2)),
        )
        if min(shape.output) >= 1 and 3e6 < shape.flops < 1e9:
            count -= 1
            yield shape


def main():
    parser = measure.parser(__doc__, rounds=7)
    parser.add_argument("--random", type=int, default=0, help="how many random shapes besides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="shapes whose text holds this")
    parser.add_argument("--large", action="store_true", help="layers that fill a GPU instead")
    measure.add_device(parser)
    args = parser.parse_args()
    measure.start(args)
    measure.check_device(args.device, torch=True)
    measure.same_threads(args.threads)
    fixed = large() if args.large else sweep()
    shapes = [s for s in (*fixed, *random_shapes(args.random, args.seed)) if args.only in str(s)]
    rows = [row for shape in shapes for row in compare(shape, args)]
    rows.sort(key=lambda row: row["ratio"])
    result = {**measure.header(args.device), "threads": args.threads,
              "peer": measure.version("torch"), "rows": rows}  # fmt: skip
    measure.show(result, args, table)
    tolerance = TOLERANCE if args.device == "cpu" else TF32_TOLERANCE
    sys.exit(any(not row["error"] <= tolerance for row in rows))


def compare(shape, args):
    """A row for each operation on a shape."""
    runners = {"minigen": minigen_calls(shape, args.device)}
    for label in ("contiguous", "channels-last"):
        runners[label] = torch_calls(shape, label == "channels-last", args.device)
    for operation in OPERATIONS:
        calls = {label: made[operation] for label, made in runners.items()}
        ours, theirs = calls["minigen"](), calls["contiguous"]().cpu().numpy()
        ours = ours.get() if args.device != "cpu" else ours
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        clock = measure.clock(args)
        times = measure.alternate(calls, args.rounds, clock, block=0.02, device=args.device)
        medians = measure.medians(times)
        best = min(("contiguous", "channels-last"), key=medians.get)
        yield {
            "shape": str(shape),
            "operation": operation,
            "minigen_ms": medians["minigen"],
            "peer_ms": medians[best],
            "peer_format": best,
            "ratio": medians[best] / medians["minigen"],
            "gflops": shape.flops / medians["minigen"] / 1e6,
            "error": float(error),
        }


@functools.lru_cache(maxsize=1)
def arrays(shape):
    """x, weight, bias and the output's gradient, float32 and C-contiguous."""
    rng = np.random.default_rng(0)
    outer, inner = shape.out_channels, shape.channels
    if shape.transposed:
        outer, inner = inner, outer
    shapes = (
        (shape.batch, shape.channels, *shape.size),
        (outer, inner // shape.groups, shape.kernel, shape.kernel),
        (shape.out_channels,),
        (shape.batch, shape.out_channels, *shape.output),
    )
    return [rng.standard_normal(s, np.float32) for s in shapes]


def minigen_calls(shape, device="cpu"):
    from minigen import backend, kernels

    x, w, b, g = arrays(shape)
    x, w, g = map(_channels_last, (x, w, g))
    if device != "cpu":
        x, w, g = (backend.to_device(a.transpose(0, 2, 3, 1), device) for a in (x, w, g))
        x, w, g = (a.transpose(0, 3, 1, 2) for a in (x, w, g))
        b = backend.to_device(b, device)
    rest = [(shape.stride,) * 2, (shape.padding,) * 2, (shape.dilation,) * 2, shape.groups]
    kernel = (shape.kernel,) * 2
    if shape.transposed:
        return {
            "forward": lambda: kernels.conv_transpose2d(x, w, b, shape.output, *rest),
            "input gradient": lambda: kernels.conv2d(g, w, None, *rest),
            "weight gradient": lambda: kernels.conv2d_weight_grad(g, x, kernel, *rest),
        }
    return {
        "forward": lambda: kernels.conv2d(x, w, b, *rest),
        "input gradient": lambda: kernels.conv_transpose2d(g, w, None, shape.size, *rest),
        "weight gradient": lambda: kernels.conv2d_weight_grad(x, g, kernel, *rest),
    }


def torch_calls(shape, channels_last, device="cpu"):
    import torch

    memory = torch.channels_last if channels_last else torch.contiguous_format
    x, w, b, g = (torch.from_numpy(a).to(device) for a in arrays(shape))
    x, w, g = (each.contiguous(memory_format=memory) for each in (x, w, g))
    stride, padding, dilation = ([n] * 2 for n in (shape.stride, shape.padding, shape.dilation))
    rest = (stride, padding, dilation, shape.transposed, [0, 0], shape.groups)

    def gradient(i):
        mask = [i == 0, i == 1, False]
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(g, x, w, None, *rest, mask)[i]

    return {
        "forward": lambda: torch.convolution(x, w, b, *rest),
        "input gradient": gradient(0),
        "weight gradient": gradient(1),
    }


def _channels_last(array):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def table(result):
    yield f"peer {result['peer']}; the worst first"
    yield f"{'ratio':>6}{'ms':>9}{'peer ms':>9}{'GFLOP/s':>9}{'error':>9}"
    for r in result["rows"]:
        yield (
            f"{r['ratio']:6.2f}{r['minigen_ms']:9.3f}{r['peer_ms']:9.3f}{r['gflops']:9.0f}"
            f"{r['error']:9.0e}  {r['shape']}, {r['operation']} (peer {r['peer_format']})"
        )
    for operation in OPERATIONS:
        ratios = [r["ratio"] for r in result["rows"] if r["operation"] == operation]
        if ratios:
            slower = sum(ratio < 1 for ratio in ratios)
            yield (
                f"{operation}: geometric mean {statistics.geometric_mean(ratios):.2f}, "
                f"{slower} of {len(ratios)} slower than PyTorch"
            )


if __name__ == "__main__":
    main()
