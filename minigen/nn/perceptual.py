"""Networks trained on ImageNet, as extractors of features: VGG16 and SqueezeNet 1.1.

Only their convolutions are here: what distances between images, and losses on features, need.
Weights come from `minigen.pretrained`; a new object has random ones. Images are RGB (N, 3, H, W) in
[0, 1]; each network brings them itself into the range that its weights were trained on.
"""

import numpy as np

from minigen import ops
from minigen.nn.container import ModuleList
from minigen.nn.conv import Conv2d
from minigen.nn.module import Module
from minigen.random import Generator
from minigen.tensor import Tensor

# Mean and standard deviation of ImageNet's pixels in [0, 1]: red, green, blue.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Perceptual(Module):
    """What both share: (images - mean) / std, with `mean` and `std` (3,) beside the weights."""

    smallest = 1  # height and width of the smallest image

    def __init__(self) -> None:
        self.mean = Tensor(np.array(IMAGENET_MEAN, np.float32))
        self.std = Tensor(np.array(IMAGENET_STD, np.float32))

    def normalized(self, images: Tensor) -> Tensor:
        """Images as the first convolution takes them; ValueError for grey or too small ones."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self.smallest:
            raise ValueError(
                f"{type(self).__name__}: images have shape {images.shape}, expected (N, 3, H, W)"
                f" of at least {self.smallest}x{self.smallest}"
            )
        return (images - self.mean.reshape(1, 3, 1, 1)) / self.std.reshape(1, 3, 1, 1)

    def features(self, images: Tensor) -> Tensor:
        """The mean over all pixels of the last map: (N, 512)."""
        *_, last = self(images).values()
        return last.mean(axis=(2, 3))


class VGG16(Perceptual):
    """The 13 convolutions of Simonyan & Zisserman (2015), configuration D.

    (N, 3, H, W) -> {"relu1_2": (N, 64, H, W), "relu2_2": (N, 128, H/2, W/2), "relu3_3": (N, 256,
    H/4, W/4), "relu4_3": (N, 512, H/8, W/8), "relu5_3": (N, 512, H/16, W/16)}.
    """

    blocks = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    smallest = 16

    def __init__(self, *, rng: Generator):
        super().__init__()
        widths = [width for block in self.blocks for width in block]
        self.convolutions = ModuleList(
            Conv2d(before, width, 3, padding=1, negative_slope=0, rng=rng)
            for before, width in zip([3, *widths], widths, strict=False)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.normalized(images)
        convolutions, maps = iter(self.convolutions), {}
        for number, block in enumerate(self.blocks, 1):
            if number > 1:
                x = ops.max_pool2d(x, 2)
            for _ in block:
                x = next(convolutions)(x)
            maps[f"relu{number}_{len(block)}"] = x
        return maps


class Fire(Module):
    """A convolution 1x1 to few channels, then 1x1 and 3x3 side by side (Iandola et al. 2016)."""

    def __init__(self, before: int, squeezed: int, expanded: int, *, rng: Generator):
        self.squeeze = Conv2d(before, squeezed, 1, negative_slope=0, rng=rng)
        self.expand1x1 = Conv2d(squeezed, expanded, 1, negative_slope=0, rng=rng)
        self.expand3x3 = Conv2d(squeezed, expanded, 3, padding=1, negative_slope=0, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return ops.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=1)


class SqueezeNet(Perceptual):
    """SqueezeNet 1.1 (Iandola et al. 2016) up to fire9, as its authors run it.

    The first convolution has no padding and the pooling rounds up. (N, 3, H, W) -> {"conv1":
    (N, 64, h, w), "fire3": (N, 128, h/2, w/2), "fire5": (N, 256, h/4, w/4), "fire9": (N, 512, h/8,
    w/8)} where h = (H - 1) // 2, and each halving takes h to h // 2.
    """

    fires = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    smallest = 17

    def __init__(self, *, rng: Generator):
        super().__init__()
        self.conv1 = Conv2d(3, 64, 3, 2, negative_slope=0, rng=rng)
        befores = [64, *(2 * expanded for _, expanded in self.fires)]
        self.fire = ModuleList(
            Fire(before, *widths, rng=rng)
            for before, widths in zip(befores, self.fires, strict=False)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.conv1(self.normalized(images))
        maps = {"conv1": x}
        for number, fire in enumerate(self.fire, 2):  # the first is called fire2
            if number in (2, 4, 6):
                x = ops.max_pool2d(x, 3, 2, ceil_mode=True)
            x = fire(x)
            if number in (3, 5, 9):
                maps[f"fire{number}"] = x
        return maps
