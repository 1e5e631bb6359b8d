"""What only a GPU can show, as functions of plain Python: they need no pytest and no Numba.

Each returns rows, dicts with "name" and "passed" and what was found.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minigen as mg
from minigen import backend, kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Row = dict[str, Any]


def why_not() -> str | None:
    """Why these checks cannot run here; None where they can."""
    try:
        count = backend.module("cuda").cuda.runtime.getDeviceCount()
    except (RuntimeError, ImportError) as error:
        return " ".join(str(error).split())
    return None if count else "there is no GPU"


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Inside, new memory holds NaN (and -1), so that what a kernel forgets to write shows."""
    cupy = backend.module("cuda")

    def filled(make: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            out = make(*args, **named)
            out.data.memset_async(0xFF, out.nbytes)
            return out

        return run

    saved = cupy.empty, cupy.empty_like
    cupy.empty, cupy.empty_like = map(filled, saved)
    try:
        yield
    finally:
        cupy.empty, cupy.empty_like = saved


def gradients(
    names: Iterable[str] | None = None, share: tuple[int, int] = (0, 1)
) -> Iterator[Row]:
    """Each op's gradients of order 1 and 2 on the GPU, in poisoned memory.

    With the `share` (i, k), of every k-th op from the i-th on.
    """
    import minigen.ops  # noqa: F401  (fills the registry)
    from minigen.autograd import REGISTRY
    from minigen.ops.certificate import certificate

    every = sorted(n for n in REGISTRY if not n.startswith("_"))
    for name in list(every if names is None else names)[share[0] :: share[1]]:
        try:
            with poisoned():
                rows = list(certificate([name], device="cuda"))
        except Exception as error:  # of any kind (a library that is missing): say so, and go on
            yield {"name": name, "passed": False, "note": _line(error)}
            continue
        for row in rows:
            yield {"name": f"{row.op} {row.case} {row.dtype}", **row._asdict()}


def errors(names: Iterable[str] = kernels.NAMES) -> Iterator[Row]:
    """Each kernel on a small batch in poisoned memory against the reference in float64, and twice.

    The second call has memory of its own, and must give the same bits.
    """
    cases, accuracy = _benchmarks("kernel_cases"), _benchmarks("accuracy")
    for name in names:
        for i, make in enumerate(cases.CASES[name]):
            given = make(2)
            for precision in _precisions(name):
                row = {"name": f"{name} {i} {precision or ''}".strip(), "error": None}
                try:
                    with poisoned(), kernels.use(precision=precision):
                        first, again = (_bits(name, make(2)) for _ in range(2))
                        on_gpu = tuple(map(_to_gpu, given))
                        row["error"] = accuracy.error(name, on_gpu, make(2), "cuda")
                    row["same_bits"] = first == again
                    tolerance = 2e-3 if precision == "tf32" else 1e-4
                    row["passed"] = row["same_bits"] and row["error"] <= tolerance
                except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                    row.update(passed=False, note=_line(error))
                yield row


def replays(names: Iterable[str] = ("mine-20d", "vae", "dcgan-28", "unet-64")) -> Iterator[Row]:
    """Steps replayed as CUDA graphs give the bits of ordinary ones, also when run again."""
    made = _benchmarks("workloads")
    for name in names:
        runs = []
        try:
            for captured in (False, True, True):
                workload = made.WORKLOADS[name](batch=made.SMALL[name]).on("cuda", captured)
                losses = [workload.step() for _ in range(8)]
                runs.append((losses, _parameters(workload)))
        except Exception as error:  # of any kind: the other workloads are still to be seen
            yield {"name": name, "passed": False, "note": _line(error)}
            continue
        (eager, a), (replay, b), (again, c) = runs
        same = bool(eager == replay == again and a == b == c)
        yield {"name": name, "passed": same and bool(np.isfinite(eager).all()), "losses": eager[-1]}


def training(steps: int = 200) -> Iterator[Row]:
    """A small DCGAN from the same weights, batches and noise on the GPU and on the CPU.

    In float64 the samples after `steps` must be equal to 1e-6, where pixels lie in [-1, 1]. In
    float32 both drift from the float64 samples by rounding: the GPU at most 10 times as far; in
    TF32, which rounds 8000 times as coarsely, by at most half of the pixels' spread.
    """
    exact = _samples("cpu", np.float64, steps)
    double = np.abs(_samples("cuda", np.float64, steps) - exact).max()
    facts = {"steps": steps, "spread": float(exact.std())}
    yield {"name": "float64", "passed": bool(double <= 1e-6), "largest": float(double), **facts}
    control = float(np.abs(_samples("cpu", np.float32, steps) - exact).mean())
    for precision in ("float32", "tf32"):
        with kernels.use(precision=precision):
            mean = float(np.abs(_samples("cuda", np.float32, steps) - exact).mean())
        limit = 10 * control + 1e-6 if precision == "float32" else facts["spread"] / 2
        yield {"name": precision, "passed": mean <= limit, "mean": mean, "cpu_mean": control,
               "limit": limit, **facts}  # fmt: skip


def _samples(device: str, dtype: Any, steps: int, batch: int = 16) -> np.ndarray:
    """What DCGAN's generator draws from fixed noise after so many steps."""
    from minigen import data
    from minigen.gan.dcgan import DCGAN, DCGANOptions

    options = DCGANOptions(channels=8, batch_size=batch, ema=0.0)
    model = DCGAN(options, (1, 28, 28), rng=mg.Generator(0)).to(device, dtype)
    dataset, noise = data.load("fashion-mnist"), np.random.default_rng(0)
    draw = lambda n: mg.tensor(noise.standard_normal((n, options.latent)).astype(dtype),
                               device=device)  # fmt: skip
    for step in range(steps):
        images = dataset.batch(np.arange(step * batch, (step + 1) * batch))[0]
        z = draw(batch)
        model.noise = lambda n, rng, z=z: z
        model.step(mg.tensor((images * 2 - 1).astype(dtype), device=device), None, None)
    model.eval()
    with mg.no_grad():
        return np.asarray(model.generator(draw(64)).numpy(), np.float64)


def _benchmarks(module: str) -> Any:
    """A module of the benchmarks' folder."""
    import importlib

    if str(BENCHMARKS) not in sys.path:
        sys.path.insert(0, str(BENCHMARKS))
    return importlib.import_module(module)


def _precisions(name: str) -> list[str | None]:
    products = name.startswith("conv") or name in ("matmul", "linear", "linear_grads")
    return ["float32", "tf32"] if products else [None]


def _to_gpu(value: Any) -> Any:
    """An array of the host on the GPU, in its memory order."""
    if not isinstance(value, np.ndarray):
        return value
    cupy = backend.module("cuda")
    if value.ndim == 0:
        return cupy.asarray(value)
    order = sorted(range(value.ndim), key=lambda i: -value.strides[i])
    dense = cupy.asarray(np.ascontiguousarray(value.transpose(order)))
    return dense.transpose(np.argsort(order).tolist())


def _bits(name: str, arguments: tuple) -> list[bytes]:
    """What a kernel returns, and for one that works in place its arguments, byte by byte."""
    given = tuple(map(_to_gpu, arguments))
    out = kernels.implementation(name, "cuda")[0](*given)
    out = given if out is None else out if isinstance(out, tuple) else (out,)
    return [each.get().tobytes() for each in out if hasattr(each, "get")]


def _parameters(workload: Any) -> list[bytes]:
    modules = [part for part in vars(workload).values() if isinstance(part, mg.nn.Module)]
    return [p.numpy().tobytes() for module in modules for p in module.parameters()]


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
