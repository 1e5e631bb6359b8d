"""Several arrays in one launch, where each alone would cost more to launch than to compute."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from .arrays import empty_like, is_dense
from .launch import THREADS, launch

JOBS = 16  # pairs that a launch takes, as in code/many.py
CHUNK = 8 * THREADS  # elements of a block
COPIED, ADDED = ("float32", "float64", "int64"), ("float32", "float64")  # what kernels are for


def copy_each(*arrays: Any) -> None:
    """Copy the second array into the first, the fourth into the third, and so on.

    Pairs that differ in dtype, shape or memory order cost a launch each.
    """
    together: dict[str, list[tuple[Any, ...]]] = {}
    for to, a in zip(arrays[::2], arrays[1::2], strict=True):
        if _alike(to, a) and to.dtype.name in COPIED:
            together.setdefault(to.dtype.name, []).append((to, a))
        else:
            to[...] = a
    for dtype, pairs in together.items():
        _run("many.copy", pairs, dtype)


def add_each(*arrays: Any) -> tuple[Any, ...]:
    """The sum of the first two arrays, of the next two, and so on."""
    together: dict[str, list[tuple[Any, ...]]] = {}
    sums = []
    for a, b in zip(arrays[::2], arrays[1::2], strict=True):
        if _alike(a, b) and a.dtype.name in ADDED:
            sums.append(empty_like(a))
            together.setdefault(a.dtype.name, []).append((sums[-1], a, b))
        else:
            sums.append(np.add(a, b))
    for dtype, triples in together.items():
        _run("many.add", triples, dtype)
    return tuple(sums)


def _run(kernel, groups, dtype):
    """Launch a kernel for all groups of arrays that lie alike."""
    groups = [group for group in groups if group[0].size]
    for start in range(0, len(groups), JOBS):
        some = groups[start : start + JOBS]
        idle = JOBS - len(some)
        sizes = [group[0].size for group in some]
        ends = list(accumulate([-(-n // CHUNK) for n in sizes]))
        pointers = [p for column in zip(*some, strict=True) for p in (*column, *[None] * idle)]
        numbers = (*sizes, *[0] * idle, *ends, *ends[-1:] * idle)
        launch(kernel, (ends[-1],), THREADS, *pointers, *numbers, T=dtype)


def _alike(a, b):
    """Whether both lie in memory element beside element, in the same order."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return True
    return a.strides == b.strides and is_dense(a)
