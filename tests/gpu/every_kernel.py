"""Runs every kernel once on a batch of 2, for a tool that watches it (compute-sanitizer).

compute-sanitizer --tool memcheck python -m tests.gpu.every_kernel [name ...]
"""

import sys

from minigen import backend, kernels
from tests.gpu import checks


def main() -> None:
    cases, cupy = checks._benchmarks("kernel_cases").CASES, backend.module("cuda")
    cupy.cuda.set_allocator(None)  # no pool, so that the tool knows where each array ends
    for name in sys.argv[1:] or kernels.NAMES:
        kernel, _ = kernels.implementation(name, "cuda")
        for make in cases[name]:
            for precision in checks._precisions(name):
                with kernels.use(precision=precision):
                    kernel(*map(checks._to_gpu, make(2)))
        cupy.cuda.Device().synchronize()
        print(name, flush=True)


if __name__ == "__main__":
    main()
