"""Convolutions, pooling, resizing and padding of images (N, C, H, W)."""

from typing import Any

from minigen import ops
from minigen.nn import init
from minigen.nn.module import Module, Weighted
from minigen.random import Generator
from minigen.tensor import Tensor

Pair = tuple[int, int]
_PADDING = {"zeros": None, "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Conv2d(Weighted):
    """(N, in, H, W) -> (N, out, H', W'); weight (out, in/groups, kh, kw), channels-last in memory.

    `padding` may be "same" or "valid"; `padding_mode` one of zeros, reflect, replicate, circular.
    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        negative_slope: float | None = None,
        rng: Generator,
    ):
        _check_groups("Conv2d", in_channels, out_channels, groups)
        if padding_mode not in _PADDING or (padding_mode != "zeros" and isinstance(padding, str)):
            raise ValueError(
                f"Conv2d: padding_mode is {padding_mode!r}, padding {padding!r}; expected one of"
                f" {', '.join(_PADDING)}, and numbers for all but zeros"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding: Any = padding if isinstance(padding, str) else _pair(padding)
        self.dilation, self.groups, self.padding_mode = _pair(dilation), groups, padding_mode
        self.negative_slope = negative_slope
        self.weight = init.parameter((out_channels, in_channels // groups, *self.kernel_size))
        self.bias = init.parameter((out_channels,)) if bias else None
        init.default_(self.weight, self.bias, rng=rng)

    def forward(self, x: Tensor, negative_slope: float | None = None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            (h, w), padding = padding, 0
            x = _pad(x, w, w, h, h, _PADDING[self.padding_mode])
        return ops.conv2d(
            x, self.used_weight(), self.bias,
            self.stride, padding, self.dilation, self.groups,
            negative_slope=self.negative_slope if negative_slope is None else negative_slope,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return _convolution_repr(self)


class ConvTranspose2d(Weighted):
    """(N, in, H, W) -> (N, out, H', W'); weight (in, out/groups, kh, kw), channels-last in memory.

    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1. `negative_slope` fuses
    the activation that follows, as in Conv2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Pair = 1,
        *,
        negative_slope: float | None = None,
        rng: Generator,
    ):
        _check_groups("ConvTranspose2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = map(_pair, (kernel_size, stride, padding))
        self.output_padding, self.dilation = _pair(output_padding), _pair(dilation)
        self.groups, self.negative_slope = groups, negative_slope
        self.weight = init.parameter((in_channels, out_channels // groups, *self.kernel_size))
        self.bias = init.parameter((out_channels,)) if bias else None
        init.default_(self.weight, self.bias, rng=rng)

    def forward(self, x: Tensor, negative_slope: float | None = None) -> Tensor:
        return ops.conv_transpose2d(
            x, self.used_weight(), self.bias,
            self.stride, self.padding, self.output_padding, self.groups, self.dilation,
            negative_slope=self.negative_slope if negative_slope is None else negative_slope,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return _convolution_repr(self)


class MaxPool2d(Module):
    """The largest value of every window; the stride is the kernel size if not given."""

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of every window; the stride is the kernel size if not given."""

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding,
            self.ceil_mode, self.count_include_pad, self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The means of windows that tile the image into `output_size`; None keeps an extent."""

    def __init__(self, output_size: int | tuple[int | None, int | None]):
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class Upsample(Module):
    """Resize images to `size` or by `scale_factor`; modes as in `interpolate`."""

    def __init__(
        self,
        size: int | Pair | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"Upsample: got size={size} and scale_factor={scale_factor}, expected one of them"
            )
        self.size, self.scale_factor = size, scale_factor
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(
            x, self.size, self.scale_factor, self.mode, align_corners=self.align_corners
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, scale_factor={self.scale_factor}, mode={self.mode!r}"


class PixelShuffle(Module):
    """(N, C r^2, H, W) -> (N, C, H r, W r) (Shi et al. 2016)."""

    def __init__(self, upscale_factor: int):
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"{self.upscale_factor}"


class ZeroPad2d(Module):
    """Zeros around the image: one number for all sides, or (left, right, top, bottom)."""

    mode = "constant"

    def __init__(self, padding: int | tuple[int, int, int, int]):
        sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(sides) != 4:
            name = type(self).__name__
            raise ValueError(f"{name}: padding is {padding}, expected (left, right, top, bottom)")
        self.padding = sides

    def forward(self, x: Tensor) -> Tensor:
        return _pad(x, *self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad2d(ZeroPad2d):
    """The image mirrored at its border pixels, which are not repeated."""

    mode = "reflect"


class ReplicationPad2d(ZeroPad2d):
    """The border pixels repeated outwards."""

    mode = "edge"


def _pad(x, left, right, top, bottom, mode):
    return ops.pad(x, ((0, 0),) * (x.ndim - 2) + ((top, bottom), (left, right)), mode)


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else tuple(value)


def _check_groups(name, in_channels, out_channels, groups):
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{name}: groups is {groups}, which must divide in_channels {in_channels} and"
            f" out_channels {out_channels}"
        )


def _convolution_repr(layer):
    parts = [f"{layer.in_channels}, {layer.out_channels}, {layer.kernel_size}"]
    plain = {
        "stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1),
        "groups": 1, "padding_mode": "zeros", "negative_slope": None,
    }  # fmt: skip
    parts += [f"{k}={getattr(layer, k)!r}" for k, v in plain.items() if getattr(layer, k, v) != v]
    return ", ".join(parts + ([] if layer.bias is not None else ["bias=False"]))
