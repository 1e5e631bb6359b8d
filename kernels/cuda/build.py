"""All CUDA kernels compiled ahead of time, into a folder that a machine without Numba runs from.

The folder holds a file of machine code for each variant of a kernel, and manifest.json, written
last: the architecture, the fingerprint of the sources, versions, and what ptxas said of each.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from . import compile as compiler

MANIFEST = "manifest.json"
FORMAT = 1  # of the folder
# Instructions that compute in float64, in PTX.
_DOUBLE = re.compile(r"^\s+(?:@\S+\s+)?(?!ld|st|mov|cvt\.rn\.f32)[\w.]+\.f64[\w.]* ", re.MULTILINE)


class Made(NamedTuple):
    """The machine code of one variant, and how it turned out."""

    name: str
    variant: dict[str, Any]
    code: bytes
    report: compiler.Report | None  # None where there is no ptxas; the code is PTX then
    doubles: int  # instructions that compute in float64

    @property
    def entry(self) -> str:
        return compiler.entry_name(self.name, self.variant)

    @property
    def file(self) -> str:
        return f"{self.entry}.{'ptx' if self.report is None else 'cubin'}"


def make(arch: str, kernel: tuple[str, dict[str, Any]]) -> Made:
    """Compile (name, variant); to PTX, which drivers compile as they load it, without ptxas."""
    name, variant = kernel
    text = compiler.ptx(name, variant, compiler.capability(arch))
    code, report = text.encode(), None
    if compiler.find_ptxas() is not None:
        code, report = compiler.assemble(text, arch)
    return Made(name, variant, code, report, len(_DOUBLE.findall(text)))


def make_all(arch: str, kernels: list[tuple[str, dict[str, Any]]], jobs: int = 1) -> Iterator[Made]:
    """Compile many, by so many processes; one after the other as they are done."""
    if jobs == 1 or len(kernels) < 8:
        yield from map(partial(make, arch), kernels)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(partial(make, arch), kernels, chunksize=4)


def build(
    arch: str, folder: Path, kernels: list[tuple[str, dict[str, Any]]], jobs: int = 1
) -> Iterator[Made]:
    """Compile kernels into a folder, emptied of an earlier build; the manifest is written last."""
    check_arch(arch)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for old in (*folder.glob("*.cubin"), *folder.glob("*.ptx")):
        old.unlink()
    entries = {}
    for made in make_all(arch, kernels, jobs):
        keep(folder / made.file, made.code)
        entries[made.entry] = {
            "file": made.file,
            **(made.report._asdict() if made.report else {}),
        }
        yield made
    document = {
        "format": FORMAT,
        "arch": arch,
        "sources": compiler.source_fingerprint(),
        "versions": _versions(),
        "kernels": entries,
    }
    keep(folder / MANIFEST, json.dumps(document, indent=1).encode())


def check_arch(arch: str) -> None:
    """Raise ValueError, in one line, for an architecture that the compiler or ptxas lacks."""
    compiler.capability(arch)
    known = _architectures()
    if known and arch not in known:
        raise ValueError(f"arch {arch!r} is unknown to this toolkit; it knows {', '.join(known)}")


def keep(path: Path, data: bytes) -> Path:
    """Write a file so that other processes see all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path


def _architectures() -> list[str]:
    """sm_80 and so on, those that ptxas names in its help; none without it."""
    program = compiler.find_ptxas()
    if program is None:
        return []
    text = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"'(sm_\d+)'", text)), key=lambda arch: int(arch[3:]))


def _versions() -> dict[str, str | None]:
    packages = ("minigen", "numba", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc")
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
