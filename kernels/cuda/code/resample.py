"""Resampling of channels-last images along both axes at once. The grid is as in max_pool.

Each thread gathers the pixels of its place; rows are mixed first, as in the reference.
"""

from __future__ import annotations

from .language import FLOATS, cuda, divide, int64, kernel

TABLES = (
    "row_at: int64*, row_weights: float64*, column_at: int64*, column_weights: float64*,"
    " images: int, out_height: int, out_width: int, height: int, width: int, channels: int"
)


@kernel("y: T*, x: T*, row_taps: int, column_taps: int, " + TABLES, T=FLOATS)
def resample2d(T):
    def run(
        y, x, row_taps, column_taps, row_at, row_weights, column_at, column_weights, images,
        out_height, out_width, height, width, channels,
    ):  # fmt: skip
        at = cuda.grid(1)
        ow = divide(at, channels)
        c, oh = at - ow * channels, int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            n = int64(cuda.blockIdx.z)
            while n < images:
                total = T(0)
                for j in range(column_taps):
                    iw, mixed = column_at[ow * column_taps + j], T(0)
                    for i in range(row_taps):
                        line = (n * height + row_at[oh * row_taps + i]) * width
                        value = x[(line + iw) * channels + c]
                        mixed += T(row_weights[oh * row_taps + i]) * value
                    total += T(column_weights[ow * column_taps + j]) * mixed
                y[(n * out_height + oh) * out_width * channels + at] = total
                n += cuda.gridDim.z
            oh += cuda.gridDim.y

    return run


@kernel("y: T*, x: T*, " + TABLES, T=FLOATS, TAPS=(1, 2))
def resample2d_few(T, TAPS):
    """The same of TAPS taps along both axes (nearest, bilinear), which are read only once."""

    def run(
        y, x, row_at, row_weights, column_at, column_weights, images, out_height, out_width,
        height, width, channels,
    ):  # fmt: skip
        places = cuda.local.array((TAPS, TAPS), int64)
        row_parts = cuda.local.array(TAPS, T)
        column_parts = cuda.local.array(TAPS, T)
        totals = cuda.local.array(4, T)
        at, step = cuda.grid(1), int64(cuda.gridDim.z)
        ow = divide(at, channels)
        c, oh = at - ow * channels, int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            for i in range(TAPS):
                row_parts[i] = T(row_weights[oh * TAPS + i])
                column_parts[i] = T(column_weights[ow * TAPS + i])
                for j in range(TAPS):
                    pixel = row_at[oh * TAPS + i] * width + column_at[ow * TAPS + j]
                    places[i, j] = pixel * channels + c
            n = int64(cuda.blockIdx.z)
            while n < images:
                for k in range(4):
                    image = min(n + k * step, images - 1) * height * width * channels
                    totals[k] = T(0)
                    for j in range(TAPS):
                        mixed = T(0)
                        for i in range(TAPS):
                            mixed += row_parts[i] * x[image + places[i, j]]
                        totals[k] += column_parts[j] * mixed
                for k in range(4):
                    image = n + k * step
                    if image < images:
                        y[(image * out_height + oh) * out_width * channels + at] = totals[k]
                n += 4 * step
            oh += cuda.gridDim.y

    return run
