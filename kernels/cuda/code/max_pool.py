"""Max pooling of channels-last images, with the winning tap of each window in a byte.

Here and in the other kernels of images x of the grid counts the (column, channel) places of a
row, channels fastest, so that what a warp reads and writes lies together; y is the row, and z
strides over images: a thread finds its place in the window once for all of them. Where an image
has but one load for a thread, it reads four images before it writes one, so that enough loads are
in flight. Windows are not dilated. WINDOW 2 and 3 are the square windows of that size: their
loops unroll.
"""

from __future__ import annotations

from .language import FLOATS, cuda, device, divide, int64, kernel, uint8

GEOMETRY = "kh: int, kw: int, sh: int, sw: int, ph: int, pw: int"


@device
def clamp(position, extent):
    """The nearest position inside."""
    return min(max(position, 0), extent - 1)


@device
def first_window(place, size, stride):
    """The first window over a place that is counted from the start of the padding."""
    beyond = place - size + 1
    return divide(beyond + stride - 1, stride) if beyond > 0 else int64(0)


@device
def last_window(place, stride, count):
    """The last of `count` windows that begins at that place or before."""
    return min(divide(place, stride), count - 1)


@kernel(
    "y: T*, taps: uint8*, x: T*, images: int, out_height: int, out_width: int, height: int,"
    " width: int, channels: int, " + GEOMETRY,
    T=FLOATS, WINDOW=(0, 2, 3),
)  # fmt: skip
def max_pool2d(T, WINDOW):
    def run(
        y, taps, x, images, out_height, out_width, height, width, channels, kh, kw, sh, sw, ph, pw
    ):
        if WINDOW:
            kh = WINDOW
            kw = WINDOW
        at = cuda.grid(1)
        ow = divide(at, channels)
        c, left = at - ow * channels, ow * sw - pw
        oh = int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            n, top = int64(cuda.blockIdx.z), oh * sh - ph
            while n < images:
                first, best, winner = True, T(0), int64(0)
                image = n * height * width
                for i in range(kh):
                    ih = top + i
                    for j in range(kw):
                        iw = left + j
                        inside = (ih >= 0) & (ih < height) & (iw >= 0) & (iw < width)
                        pixel = clamp(ih, height) * width + clamp(iw, width)
                        value = x[(image + pixel) * channels + c]
                        wins = inside & (first | (value > best) | (value != value))
                        best = value if wins else best
                        winner = i * kw + j if wins else winner
                        first = first & (not inside)
                place = (n * out_height + oh) * out_width * channels + at
                y[place] = best
                taps[place] = winner
                n += cuda.gridDim.z
            oh += cuda.gridDim.y

    return run


@kernel(
    "dx: T*, grad: T*, taps: uint8*, images: int, height: int, width: int, out_height: int,"
    " out_width: int, channels: int, " + GEOMETRY,
    T=FLOATS,
)  # fmt: skip
def max_pool2d_grad(T):
    """A pixel's gradient is the sum over the windows on it whose winner it is."""

    def run(
        dx, grad, taps, images, height, width, out_height, out_width, channels, kh, kw, sh, sw,
        ph, pw,
    ):  # fmt: skip
        at = cuda.grid(1)
        iw = divide(at, channels)
        c, left = at - iw * channels, iw + pw
        first_ow, last_ow = first_window(left, kw, sw), last_window(left, sw, out_width)
        ih = int64(cuda.blockIdx.y)
        while ih < height and iw < width:
            n, top = int64(cuda.blockIdx.z), ih + ph
            first_oh, last_oh = first_window(top, kh, sh), last_window(top, sh, out_height)
            while n < images:
                total, oh = T(0), first_oh
                while oh <= last_oh:
                    line, tap_row = (n * out_height + oh) * out_width, (top - oh * sh) * kw
                    ow = first_ow
                    while ow <= last_ow:
                        window = (line + ow) * channels + c
                        g, winner = grad[window], int64(taps[window])
                        total += g if winner == tap_row + left - ow * sw else T(0)
                        ow += 1
                    oh += 1
                dx[(n * height + ih) * width * channels + at] = total
                n += cuda.gridDim.z
            ih += cuda.gridDim.y

    return run


@kernel(
    "dx: T*, grad: T*, taps: uint8*, images: int, height: int, width: int, out_height: int,"
    " out_width: int, channels: int, " + GEOMETRY,
    T=FLOATS,
)  # fmt: skip
def max_pool2d_grad_apart(T):
    """The same where windows do not overlap: at most one is on a pixel."""

    def run(
        dx, grad, taps, images, height, width, out_height, out_width, channels, kh, kw, sh, sw,
        ph, pw,
    ):  # fmt: skip
        gs, winners = cuda.local.array(4, T), cuda.local.array(4, uint8)
        at, step = cuda.grid(1), int64(cuda.gridDim.z)
        iw = divide(at, channels)
        c, left = at - iw * channels, iw + pw
        ow = last_window(left, sw, out_width)
        ih = int64(cuda.blockIdx.y)
        while ih < height and iw < width:
            n, top = int64(cuda.blockIdx.z), ih + ph
            oh = last_window(top, sh, out_height)
            window, i, j = (oh * out_width + ow) * channels + c, top - oh * sh, left - ow * sw
            tap = i * kw + j if i < kh and j < kw else int64(-1)  # between windows
            while n < images:
                for k in range(4):
                    place = min(n + k * step, images - 1) * out_height * out_width * channels
                    gs[k], winners[k] = grad[place + window], taps[place + window]
                for k in range(4):
                    image = n + k * step
                    if image < images:
                        value = gs[k] if int64(winners[k]) == tap else T(0)
                        dx[(image * height + ih) * width * channels + at] = value
                n += 4 * step
            ih += cuda.gridDim.y

    return run


@kernel(
    "y: T*, x: T*, taps: uint8*, images: int, out_height: int, out_width: int, height: int,"
    " width: int, channels: int, " + GEOMETRY,
    T=FLOATS,
)  # fmt: skip
def max_pool2d_pick(T):
    def run(
        y, x, taps, images, out_height, out_width, height, width, channels, kh, kw, sh, sw, ph, pw
    ):
        at = cuda.grid(1)
        ow = divide(at, channels)
        c, left = at - ow * channels, ow * sw - pw
        oh = int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            n, top = int64(cuda.blockIdx.z), oh * sh - ph
            while n < images:
                place = (n * out_height + oh) * out_width * channels + at
                tap = int64(taps[place])
                i = divide(tap, kw)
                ih, iw = top + i, left + tap - i * kw
                inside = (ih >= 0) & (ih < height) & (iw >= 0) & (iw < width) & (i < kh)
                pixel = (n * height + ih) * width + iw
                y[place] = x[pixel * channels + c] if inside else T(0)
                n += cuda.gridDim.z
            oh += cuda.gridDim.y

    return run
