"""Layers of equalised learning rate: weights from N(0, 1), scaled when they are used.

Adam's steps do not depend on the size of a gradient, so weights of a small range move faster,
relative to it, than others. Here all parameters have the range 1, and the constant of He et al.
(2015) that keeps the variance stands in the layer (Karras et al. 2017, section 4.1).
"""

import math
from typing import Any

from minigen.nn import init
from minigen.nn.conv import Conv2d, ConvTranspose2d
from minigen.nn.linear import Linear
from minigen.nn.module import Weighted
from minigen.tensor import Tensor


class _Equalized(Weighted):
    """What the three share: `scale` = gain / sqrt(inputs that an output is a sum of).

    The gain makes up for the activation that follows (`nn.init.gain`): sqrt(2) for a rectifier, 1
    for none.
    """

    bias: Tensor | None

    def __init__(self, *sizes: Any, gain: float = math.sqrt(2), **options: Any):
        super().__init__(*sizes, **options)
        init.normal_(self.weight, rng=options["rng"])
        if self.bias is not None:
            init.zeros_(self.bias)
        self.scale = gain / math.sqrt(self._terms())

    def used_weight(self) -> Tensor:
        return super().used_weight() * self.scale

    def _terms(self):
        return math.prod(self.weight.shape[1:])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:.4g}"


class EqualizedConv2d(_Equalized, Conv2d):
    """Conv2d of `gain`, bias from 0; its other arguments are those of Conv2d."""


class EqualizedLinear(_Equalized, Linear):
    """Linear of `gain`, bias from 0; its other arguments are those of Linear."""


class EqualizedConvTranspose2d(_Equalized, ConvTranspose2d):
    """ConvTranspose2d of `gain`, bias from 0; its other arguments are those of ConvTranspose2d.

    Of the kernel's kh * kw places an output sees one in stride^2.
    """

    def _terms(self):
        per_group = self.in_channels // self.groups * math.prod(self.kernel_size)
        return per_group / math.prod(self.stride)
