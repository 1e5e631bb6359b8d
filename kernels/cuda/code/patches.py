"""Patches of images as columns, and the adjoint: images are planes here, with x along the lanes."""

from __future__ import annotations

from .language import FLOATS, cuda, divide, int64, kernel


@kernel(
    "patches: T*, x: T*, planes: int, taps: int, grid_height: int, grid_width: int, height: int,"
    " width: int, kw: int, dh: int, dw: int, ph: int, pw: int, sh: int, sw: int",
    T=("float32", "float64", "uint8"),
)
def unfold(T):
    """x of the grid counts the places of a window, y is the tap, z strides over planes."""

    def run(
        patches, x, planes, taps, grid_height, grid_width, height, width, kw, dh, dw, ph, pw,
        sh, sw,
    ):  # fmt: skip
        values = cuda.local.array(4, T)
        at, step = cuda.grid(1), int64(cuda.gridDim.z)
        oh = divide(at, grid_width)
        top, left = oh * sh - ph, (at - oh * grid_width) * sw - pw
        tap = int64(cuda.blockIdx.y)
        while tap < taps and oh < grid_height:
            i, plane = divide(tap, kw), int64(cuda.blockIdx.z)
            ih, iw = top + i * dh, left + (tap - i * kw) * dw
            inside = (ih >= 0) & (ih < height) & (iw >= 0) & (iw < width)
            pixel = ih * width + iw if inside else int64(0)
            while plane < planes:
                for k in range(4):  # four loads in flight
                    values[k] = x[min(plane + k * step, planes - 1) * height * width + pixel]
                for k in range(4):
                    to = plane + k * step
                    if to < planes:
                        value = values[k] if inside else T(0)
                        patches[(to * taps + tap) * grid_height * grid_width + at] = value
                plane += 4 * step
            tap += cuda.gridDim.y

    return run


@kernel(
    "images: T*, patches: T*, planes: int, channels: int, grid_height: int, grid_width: int,"
    " height: int, width: int, kh: int, kw: int, dh: int, dw: int, ph: int, pw: int, sh: int,"
    " sw: int",
    T=FLOATS,
)
def fold(T):
    """Each pixel sums the patches on it. x of the grid counts the pixels of a plane."""

    def run(
        images, patches, planes, channels, grid_height, grid_width, height, width, kh, kw, dh, dw,
        ph, pw, sh, sw,
    ):  # fmt: skip
        at, plane = cuda.grid(1), int64(cuda.blockIdx.z)
        ih = divide(at, width)
        top, left = ih + ph, at - ih * width + pw
        while plane < planes and ih < height:
            total = T(0)
            for i in range(kh):
                y = top - i * dh
                oh = divide(max(y, 0), sh)
                if y >= 0 and oh * sh == y and oh < grid_height:
                    for j in range(kw):
                        x = left - j * dw
                        ow = divide(max(x, 0), sw)
                        if x >= 0 and ow * sw == x and ow < grid_width:
                            line = (plane * kh + i) * kw + j
                            total += patches[(line * grid_height + oh) * grid_width + ow]
            n = divide(plane, channels)
            images[(n * height * width + at) * channels + plane - n * channels] = total
            plane += cuda.gridDim.z

    return run
