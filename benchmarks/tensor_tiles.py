"""What each tile of the tensor-core kernels takes on this GPU, beside the one that is planned.

    python benchmarks/tensor_tiles.py

The table is what the figures of kernels/cuda/tensor_core.py (`FULL`, `L2`, `MEMORY`, `LAUNCH`) are
to be set by: a plan is good if it is close to the best.
"""

import itertools

import cupy
import gpu
import numpy as np
from minigen.kernels.cuda import tensor_core

# batch, channels, size, outputs, kernel, stride, padding
SHAPES = {
    "large 3x3": (64, 256, 56, 256, 3, 1, 1),
    "large 3x3, 64 channels": (16, 64, 256, 64, 3, 1, 1),
    "DnCNN": (16, 64, 40, 64, 3, 1, 1),
    "DCGAN 64 -> 128": (64, 64, 16, 128, 4, 2, 1),
    "DCGAN 128 -> 256": (64, 128, 8, 256, 4, 2, 1),
    "DCGAN 256 -> 512": (64, 256, 8, 512, 4, 2, 1),
}
SPLITS = (1, 2, 4, 8, 16, 32)


def calls(n, c, size, o, kernel, stride, padding):
    """Name -> a call of the convolution of this shape, its transpose, its weight gradient."""
    rng = np.random.default_rng(0)

    def images(*shape):
        last = cupy.asarray(rng.standard_normal(shape, np.float32))
        return last.transpose(0, 3, 1, 2)

    after = (size + 2 * padding - kernel) // stride + 1
    x, y = images(n, size, size, c), images(n, after, after, o)
    weight = images(o, kernel, kernel, c)
    axes = ((stride,) * 2, (padding,) * 2, (1, 1), 1)
    flops = 2 * n * after**2 * o * c * kernel**2
    return flops, {
        "conv2d": lambda: tensor_core.conv2d(x, weight, None, *axes),
        "conv_transpose2d": lambda: tensor_core.conv_transpose2d(
            y, weight, None, (size, size), *axes
        ),
        "weight_grad": lambda: tensor_core.conv2d_weight_grad(x, y, (kernel,) * 2, *axes),
    }


def main():
    planned = tensor_core.plan
    for title, shape in SHAPES.items():
        flops, each = calls(*shape)
        for name, call in each.items():
            names = tensor_core.WEIGHT_GRAD if name == "weight_grad" else tensor_core.GATHER
            chosen = []
            plan_by(lambda *args, found=chosen: found.append(planned(*args)) or found[0])
            call()
            times = {}
            for pair in [*itertools.product(names, SPLITS), *chosen]:
                plan_by(lambda *args, pair=pair: pair)
                times[pair] = gpu.device_ms(call)
            best = ", ".join(_told(p, times, flops) for p in sorted(times, key=times.get)[:4])
            print(f"{title}, {name}: planned {_told(chosen[0], times, flops)}; best {best}")
    plan_by(planned)


def plan_by(plan):
    tensor_core.plan = plan
    tensor_core.gather_run.cache_clear()
    tensor_core.weight_grad_run.cache_clear()


def _told(pair, times, flops):
    return f"{pair[0]}/{pair[1]} {times[pair] * 1e3:.1f} us {flops / times[pair] / 1e9:.0f} TFLOP/s"


if __name__ == "__main__":
    main()
