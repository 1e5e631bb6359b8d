"""What a step does, seen from outside: its arithmetic, and the time it spends in each kernel."""

import contextlib
import time
from collections import defaultdict

# Multiplications of the direct algorithms: one for each output and weight that meet.
PRODUCTS = {
    "conv2d": lambda out, x, w, *_: out.size * w[0].size,
    "conv_transpose2d": lambda out, x, w, *_: x.size * w[0].size,
    "conv2d_weight_grad": lambda out, x, g, *_: g.size * out[0].size,
    "matmul": lambda out, a, b: out.size * a.shape[-1],
    "linear": lambda out, x, w, *_: out.size * x.shape[-1],
    "linear_grads": lambda out, g, x, w, y, slope, need: g.size * x.shape[-1] * sum(need[:2]),
}


def count_flops(step):
    """Floating-point operations of the matrix products and direct convolutions in one step."""
    total = 0

    def count(name, kernel, args):
        nonlocal total
        out = kernel(*args)
        total += 2 * PRODUCTS[name](out, *args)
        return out

    with _around(PRODUCTS, count):
        step()
    return total


def profile(step, calls=5, device="cpu"):
    """[(kernel and shapes, calls a step, milliseconds a step)], the longest first; and under
    "(all)" the whole step. On a GPU each kernel is waited for, so that its time is its own.
    """
    from measure import synchronize

    from minigen import kernels

    found = defaultdict(lambda: [0, 0.0])

    def timed(name, kernel, args):
        begin = time.perf_counter()
        out = kernel(*args)
        synchronize(device)
        entry = found[_label(name, args)]
        entry[0] += 1
        entry[1] += time.perf_counter() - begin
        return out

    for _ in range(3):
        step()
    with _around(kernels.NAMES, timed):
        begin = time.perf_counter()
        for _ in range(calls):
            step()
        found["(all)"] = [calls, time.perf_counter() - begin]
    rows = [(label, n / calls, s / calls * 1e3) for label, (n, s) in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def _label(name, args):
    shapes = [str(tuple(a.shape)) for a in args if hasattr(a, "shape") and a.ndim > 1]
    if not name.startswith("conv"):
        return " ".join([name, *shapes])
    return " ".join([name, *shapes, *(str(a) for a in args if isinstance(a, (tuple, int)))])


@contextlib.contextmanager
def _around(names, run):
    """Inside, kernels.<name>(*args) is run(name, kernel, args)."""
    from minigen import kernels

    def wrapped(name, kernel):
        return lambda *args: run(name, kernel, args)

    saved = {name: getattr(kernels, name) for name in names}
    try:
        for name, kernel in saved.items():
            setattr(kernels, name, wrapped(name, kernel))
        yield
    finally:
        for name, kernel in saved.items():
            setattr(kernels, name, kernel)
