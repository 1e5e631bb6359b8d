"""Transposition through vector registers: squares of lanes x lanes, and images by them."""

from __future__ import annotations

from numba import prange

from .jit import inline_kernel, parallel_kernel
from .tile_code import VECTOR_BYTES, Tile
from .tile_library import tile


@parallel_kernel
def to_channels_last(x, result, images, channels, pixels):
    """result (images, pixels, channels) = x (images, channels, pixels), both contiguous."""
    lanes = VECTOR_BYTES // x.itemsize
    strip = lanes if channels >= lanes else 32 * lanes
    strips = (pixels + strip - 1) // strip
    for item in prange(images * strips):
        base, p0 = item // strips * channels * pixels, item % strips * strip
        p1 = min(p0 + strip, pixels)
        for c0 in range(0, channels, lanes):
            c1 = min(c0 + lanes, channels)
            source, target = base + c0 * pixels + p0, base + p0 * channels + c0
            if p1 - p0 == lanes and c1 - c0 == lanes:
                transpose_square(x, source, pixels, result, target, channels)
                continue
            for c in range(c1 - c0):
                plane = x[source + c * pixels : source + c * pixels + p1 - p0]
                column = result[target + c : base + p1 * channels : channels]
                for p in range(len(plane)):
                    column[p] = plane[p]


@inline_kernel
def transpose_square(source, start, stride, target, place, pitch):
    """Transpose a square: rows of `source` from `start`, rows of `target` from `place`."""
    size = source.itemsize
    transpose_tile(
        source.dtype.type(0), source.ctypes.data + start * size, stride,
        target.ctypes.data + place * size, pitch,
    )  # fmt: skip


@tile()
def transpose_tile(typing_context, zero, source, source_stride, target, target_stride):
    """target[j, i] = source[i, j] for a square of lanes x lanes elements, rows at those strides."""


@transpose_tile.code
def _transpose(t: Tile) -> None:
    source, source_stride, target, target_stride = t.args
    source, target = t.pointer(source), t.pointer(target)
    rows = []
    for _ in range(t.lanes):
        rows += t.run(source)
        source = t.at(source, source_stride)
    for step in t.scales():  # swap the off-diagonal squares of step x step
        low, high = t.halves(step)
        for i in (i for i in range(t.lanes) if not i & step):
            pair = rows[i], rows[i + step]
            for at, mask in ((i, low), (i + step, high)):
                rows[at] = t.builder.shuffle_vector(*pair, mask)
    for row in rows:
        t.put([row], target)
        target = t.at(target, target_stride)
    t.builder.ret_void()
