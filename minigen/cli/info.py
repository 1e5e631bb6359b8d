"""`minigen info`: versions, the machine, devices, and which kernels serve which op."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from minigen.cli.output import Output

PACKAGES = ("numpy", "numba", "llvmlite", "scipy-openblas32", "pillow", "safetensors", "rich",
            "cupy-cuda13x", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, output: Output) -> int:
    import minigen
    import minigen.kernels as kernels

    document = {
        "minigen": minigen.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": kernels.get_num_threads(),
            "blas": _blas(),
        },
        "devices": _devices(),
        "kernels": kernels.explain(),
    }
    if args.json:
        output.result(document)
        return 0
    versions = {name: document[name] for name in ("minigen", "python")} | document["packages"]
    rows = [(name, version or "not installed") for name, version in versions.items()]
    output.table("", ["package", "version"], rows)
    output.console.print()
    output.table("", ["machine", ""], document["machine"].items())
    output.console.print()
    devices = [(each["name"], each["detail"]) for each in document["devices"]]
    output.table("", ["device", ""], devices)
    output.console.print()
    served = [
        (name, "yes" if found["reference"] else "-", _served(found), found["cuda"] or "-")
        for name, found in document["kernels"].items()
    ]
    output.table("", ["kernel", "reference", "serves CPU arrays", "serves GPU arrays"], served)
    return 0


def _served(found: dict[str, Any]) -> str:
    """The module that runs for float32 arrays on the CPU."""
    forced = os.environ.get("MINIGEN_KERNELS", "").strip()
    return found[forced] if forced else found["cpu"] or found["reference"]


def _devices() -> list[dict[str, Any]]:
    """The devices; where there is no cuda, its detail says why and what would help."""
    devices: list[dict[str, Any]] = [{"name": "cpu", "available": True, "detail": "always there"}]
    try:
        return [*devices, *_gpus()]
    except (RuntimeError, ImportError, OSError) as error:
        why = " ".join(str(error).split())
        return [*devices, {"name": "cuda", "available": False, "detail": f"not available: {why}"}]


def _gpus() -> list[dict[str, Any]]:
    if importlib.util.find_spec("cupy") is None:
        raise RuntimeError("CuPy is not installed (pip install 'minigen[cuda]')")
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    driver = _cuda_version(runtime.driverGetVersion())
    if driver == "0.0":
        raise RuntimeError("CuPy is here, but no NVIDIA driver")
    found = []
    for i in range(_count(runtime, driver)):
        properties = runtime.getDeviceProperties(i)
        facts = {
            "gpu": properties["name"].decode(),
            "capability": f"{properties['major']}.{properties['minor']}",
            "multiprocessors": properties["multiProcessorCount"],
            "memory_gib": round(properties["totalGlobalMem"] / 2**30, 1),
            "cupy": cupy.__version__,
            "cuda_of_driver": driver,
            "kernels": _source_of_kernels(),
        }
        detail = (
            f"{facts['gpu']}, compute capability {facts['capability']},"
            f" {facts['memory_gib']:.0f} GiB; CuPy {facts['cupy']}, driver for CUDA {driver};"
            f" kernels: {facts['kernels']}"
        )
        found.append({"name": f"cuda:{i}", "available": True, "detail": detail, **facts})
    if not found:
        raise RuntimeError(f"there is a driver for CUDA {driver}, but no GPU")
    return found


def _count(runtime: Any, driver: str) -> int:
    try:
        return runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "NoDevice" in str(error):
            return 0
        built = _cuda_version(runtime.runtimeGetVersion())
        raise RuntimeError(f"{error} (driver for CUDA {driver}, CuPy's CUDA {built})") from None


def _cuda_version(number: int) -> str:
    """13000 -> "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _source_of_kernels() -> str:
    """Where the machine code of CUDA kernels comes from."""
    folder = os.environ.get("MINIGEN_CUDA_KERNELS", "").strip()
    if folder:
        return f"from {folder}"
    version = _version("numba-cuda")
    if version is None:
        return "cannot be compiled, numba-cuda is not installed (pip install 'minigen[cuda]')"
    return f"compiled on first use by numba-cuda {version}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: what Python knows has to do
    return platform.processor() or platform.machine()


def _blas() -> str:
    version = _version("scipy-openblas32")
    return f"OpenBLAS {version} (scipy-openblas32)" if version else "NumPy's own"
