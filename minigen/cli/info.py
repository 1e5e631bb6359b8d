"""`minigen info`: versions, the machine, devices, and which kernels serve which op."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from minigen.cli.output import Output

PACKAGES = ("numpy", "numba", "llvmlite", "scipy-openblas32", "pillow", "safetensors", "rich",
            "cupy-cuda13x", "numba-cuda")  # fmt: skip


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
    rows = [
        (name, *("yes" if found[target] else "-" for target in kernels.TARGETS), _served(found))
        for name, found in document["kernels"].items()
    ]
    output.table("", ["kernel", *kernels.TARGETS, "serves CPU arrays"], rows)
    return 0


def _served(found: dict[str, Any]) -> str:
    """The module that runs for float32 arrays on the CPU."""
    forced = os.environ.get("MINIGEN_KERNELS", "").strip()
    return found[forced] if forced else found["cpu"] or found["reference"]


def _devices() -> list[dict[str, str]]:
    devices = [{"name": "cpu", "detail": "always there"}]
    if importlib.util.find_spec("cupy") is None:
        detail = "not available: CuPy is not installed (pip install 'minigen[cuda]')"
        return [*devices, {"name": "cuda", "detail": detail}]
    from minigen import backend

    try:
        cupy = backend.module("cuda")
        count = cupy.cuda.runtime.getDeviceCount()
        for i in range(count):
            properties = cupy.cuda.runtime.getDeviceProperties(i)
            memory = properties["totalGlobalMem"] / 2**30
            name = properties["name"].decode()
            devices.append({"name": f"cuda:{i}", "detail": f"{name}, {memory:.0f} GiB"})
    except (RuntimeError, ImportError) as error:
        devices.append({"name": "cuda", "detail": f"not available: {error}"})
    return devices


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
