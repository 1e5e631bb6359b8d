"""How a convolution is cut up for the tiles: plain integer arithmetic, once for each shape.

A convolution, and each output phase of a transposed one, is a *gather*: output pixel (t, u) sums
over taps with offset (dy, dx) of input pixel (t * step + dy, u * step + dx). A transposed
convolution of stride s has s * s phases, pixels (s * t + a, s * u + b), and each sees its own
subset of the taps; nothing is scattered and no zero is multiplied. A *block* is what a thread works
on at once: a few whole images, or a strip of rows of one; its padded input lies in scratch that
stays in the cache.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from .tile import MAX_VECTORS, TILE_ROWS

Pair = tuple[int, int]

SCRATCH_BYTES = 320 << 10  # of padded input for a block: with a panel of weights it fits in L2
MAX_PIXELS = 4096  # of a block: bounds the offset tables
WEIGHT_GRAD_PIXELS = 512  # of a block there: that much of grad's panel stays in L1 and L2


class Problem(NamedTuple):
    """The shape of a gather: everything a plan depends on. `size` and `output_size` are (h, w)."""

    batch: int
    channels: int
    size: Pair
    out_channels: int
    output_size: Pair
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    transposed: bool

    def __str__(self) -> str:
        name = "conv_transpose2d" if self.transposed else "conv2d"
        (h, w), (oh, ow), (kh, kw) = self.size, self.output_size, self.kernel_size
        return (
            f"{name} ({self.batch}, {self.channels}, {h}, {w}) -> ({self.out_channels}, {oh}, {ow})"
            f" kernel {kh}x{kw}, stride {self.stride}, padding {self.padding},"
            f" dilation {self.dilation}, groups {self.groups}"
        )


class Plan(NamedTuple):
    """What the compiled loops need; every array is int64."""

    geometry: np.ndarray  # the scalars named in GEOMETRY
    phases: np.ndarray  # one row a phase, the columns named in PHASE
    segments: np.ndarray  # offsets of contiguous runs of taps, of all phases
    pixels: np.ndarray  # offset of each pixel's window in the scratch of a block, of all phases
    outputs: np.ndarray  # offset of each pixel in the output, from the block's first
    taps: np.ndarray  # (tap, phase, position in the phase) for packing weights
    panels: np.ndarray  # (first column, vectors, rows of a tile, lanes stored of the last vector)
    packed_size: int
    columns: int  # output channels of a group, padded to whole vectors


# Columns of the integer tables, as the compiled loops index them.
GEOMETRY = (
    "batch", "height", "width", "channels", "group_channels", "groups", "group_outputs", "columns",
    "images", "rows", "row_blocks", "blocks", "splits", "workers", "direct", "top", "left", "span",
    "step", "padded_width", "scratch", "image_out", "row_out", "max_rows",
)  # fmt: skip
PHASE = (
    "first_segment", "segments", "length", "first_pixel", "rows", "columns", "first_output",
    "packed",
)  # fmt: skip


class Line(NamedTuple):
    """One phase along one axis: output first + stride * t for t < count; taps are (tap, offset)."""

    first: int
    count: int
    taps: list[tuple[int, int]]


@functools.lru_cache(maxsize=256)
def plan(problem: Problem, lanes: int, itemsize: int, threads: int, pixels: int) -> Plan:
    """Plan a gather for vectors of `lanes` elements, blocks of at most about `pixels` pixels."""
    p = problem
    step = (1, 1) if p.transposed else p.stride
    spread = p.stride if p.transposed else (1, 1)
    lines = [phase_lines(p, axis) for axis in (0, 1)]
    offsets = [[d for line in axis for _, d in line.taps] or [0] for axis in lines]
    (top, bottom), (left, right) = [(min(each), max(each)) for each in offsets]
    max_rows, max_columns = (max(line.count for line in axis) for axis in lines)
    (h, w), c, o = p.size, p.channels, p.out_channels
    span = bottom - top + 1
    width = (max_columns - 1) * step[1] + right - left + 1
    direct = (
        top >= 0
        and left >= 0
        and (max_rows - 1) * step[0] + bottom < h
        and (max_columns - 1) * step[1] + right < w
    )
    width = w if direct else width
    group_outputs = o // p.groups
    panels = _panels(group_outputs, lanes)
    columns = -(-group_outputs // lanes) * lanes
    row = width * c * itemsize
    images, rows = cut(p, max_rows, max_columns, step[0], span, row, threads, pixels)
    row_blocks = -(-max_rows // rows)
    blocks = -(-p.batch // images) * row_blocks
    splits = min(-(-threads // blocks), len(panels) * p.groups)  # share panels if blocks are few
    image_rows = h if direct else (rows - 1) * step[0] + span
    image_in, row_in = image_rows * width * c, step[0] * width * c
    image_out, row_out = p.output_size[0] * p.output_size[1] * o, spread[0] * p.output_size[1] * o

    phases, segments, inputs, outputs, taps = [], [], [], [], []
    packed = 0
    for vertical in lines[0]:
        for horizontal in lines[1]:
            runs, length = _runs(horizontal.taps, c // p.groups, p.groups == 1)
            offsets_of_runs = [
                ((dy - top) * width + dx - left) * c for _, dy in vertical.taps for dx in runs
            ]
            order = [i * p.kernel_size[1] + j for i, _ in vertical.taps for j, _ in horizontal.taps]
            taps += [(tap, len(phases), at) for at, tap in enumerate(order)]
            count = (images, min(rows, vertical.count), horizontal.count)
            image, t, u = (index.ravel() for index in np.indices(count))
            first = vertical.first * p.output_size[1] * o + horizontal.first * o
            here = (len(segments), len(offsets_of_runs), length, sum(map(len, inputs)))
            phases.append((*here, vertical.count, horizontal.count, first, packed))
            segments += offsets_of_runs
            inputs.append(image * image_in + t * row_in + u * step[1] * c)
            outputs.append(image * image_out + t * row_out + u * spread[1] * o)
            packed += len(order) * (c // p.groups) * columns * p.groups
    geometry = (
        p.batch, h, w, c, c // p.groups, p.groups, group_outputs, columns,
        images, rows, row_blocks, blocks, splits, min(threads, blocks), int(direct),
        top, left, span, step[0], width, 0 if direct else images * image_in,
        image_out, row_out, max_rows,
    )  # fmt: skip
    return Plan(
        _table(geometry), _table(phases), _table(segments), _joined(inputs), _joined(outputs),
        _table(taps).reshape(-1, 3), panels, packed, columns,
    )  # fmt: skip


def weight_rows(problem: Problem, p: Plan) -> np.ndarray:
    """Offsets in scratch of the rows (tap, channel) of a weight gradient, padded to whole tiles."""
    c, padded_width = problem.channels, p.geometry[GEOMETRY.index("padded_width")]
    kh, kw = problem.kernel_size
    i, j, channel = np.indices((kh, kw, c // problem.groups))
    rows = (i * problem.dilation[0] * padded_width + j * problem.dilation[1]) * c + channel
    return np.pad(rows.ravel(), (0, -rows.size % ROWS_MULTIPLE), mode="edge")


def phase_lines(p: Problem, axis: int) -> list[Line]:
    """The phases along an axis, with the taps that ever meet the input, by rising offset."""
    kernel, stride, padding = p.kernel_size[axis], p.stride[axis], p.padding[axis]
    dilation, size, output = p.dilation[axis], p.size[axis], p.output_size[axis]
    if not p.transposed:
        return [Line(0, output, [(i, i * dilation - padding) for i in range(kernel)])]
    lines = []
    for first in range(min(stride, output)):
        count = -(-(output - first) // stride)
        reach = [(i, first + padding - i * dilation) for i in range(kernel)]
        taps = [(i, d // stride) for i, d in reversed(reach) if d % stride == 0]
        lines.append(Line(first, count, [(i, d) for i, d in taps if -count < d < size]))
    return lines


def _runs(taps: list[tuple[int, int]], channels: int, joined: bool) -> tuple[list[int], int]:
    """Cut the taps of a row into runs contiguous in memory: (first offset of each, elements)."""
    offsets = [d for _, d in taps]
    if not offsets:
        return [], 1
    if joined and offsets[-1] - offsets[0] == len(offsets) - 1:
        return offsets[:1], len(offsets) * channels
    return offsets, channels


def _panels(outputs: int, lanes: int) -> np.ndarray:
    """Cut the output channels of a group into panels as wide as a tile, the last one narrower."""
    panels = []
    for first in range(0, outputs, MAX_VECTORS * lanes):
        left = min(outputs - first, MAX_VECTORS * lanes)
        vectors = -(-left // lanes)
        panels.append((first, vectors, TILE_ROWS[vectors], left - (vectors - 1) * lanes))
    return _table(panels)


def cut(
    p: Problem, rows: int, columns: int, step: int, span: int, row: int, threads: int, pixels: int,
    scratch: int = SCRATCH_BYTES,
) -> tuple[int, int]:  # fmt: skip
    """(images, output rows) of a block: whole images where one fits, else a strip of one image."""
    image = ((rows - 1) * step + span) * row
    room = min(scratch // max(image, 1), pixels // max(rows * columns, 1))
    if room >= 1 and p.batch >= threads:
        blocks = -(-p.batch // room)
        blocks = -(-blocks // threads) * threads  # every thread gets as many
        return -(-p.batch // blocks), rows
    fitting = (scratch // max(row, 1) - span) // step + 1
    strip = max(1, min(rows, fitting, pixels // max(columns, 1)))
    strips = max(-(-rows // strip), -(-threads // max(p.batch, 1)))
    return 1, max(1, -(-rows // strips))


def _table(values: list | tuple) -> np.ndarray:
    return np.array(values, np.int64)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64)


ROWS_MULTIPLE = int(np.lcm.reduce(list(TILE_ROWS.values())))
