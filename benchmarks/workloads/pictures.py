"""Pictures to pictures: DnCNN, a U-Net, and an iteration of style transfer through VGG-16."""

from itertools import pairwise

import numpy as np

import minigen as mg
from minigen import nn, optim

from .base import Workload, images, relu


class DnCNN(Workload):
    """Residual denoiser of Zhang et al. 2017: 17 layers of 64 channels on gray patches of 40x40,
    noise of 25 / 255, Adam(1e-3).
    """

    sigma = 25 / 255

    def __init__(self, batch=16):
        super().__init__()
        rng = mg.Generator(1)
        layers = relu(nn.Conv2d(1, 64, 3, 1, 1, rng=rng))
        for _ in range(15):
            layers += [
                nn.Conv2d(64, 64, 3, 1, 1, bias=False, rng=rng),
                nn.BatchNorm2d(64, negative_slope=0.0),
            ]
        self.network = nn.Sequential(*layers, nn.Conv2d(64, 1, 3, 1, 1, rng=rng))
        self.optimizer = optim.Adam(self.network, lr=1e-3)
        self.inputs = (images(batch, 1, 40, 40) / 2 + 0.5,)

    def loss(self, clean, noise):
        return mg.mse_loss(self.network(clean + noise), noise)

    def train(self, clean, rng):
        noise = rng.normal(clean.shape, std=self.sigma)
        loss, grads = mg.value_and_grad(self.loss, self.network)(mg.asarray(clean), noise)
        self.optimizer.step(grads)
        return (loss,)

    def draw(self, rng):
        return (rng.normal(self.inputs[0].shape, std=self.sigma).numpy(),)

    def peer(self, how):
        from peers import DenoiserStep
        from twins import to_torch

        return DenoiserStep(to_torch(self.network, how), 1e-3, how)


class UNet(nn.Module):
    """Ronneberger et al. 2015 with padded convolutions and batch norm: double 3x3 convolutions, of
    twice the channels a level.
    """

    def __init__(self, channels, widths, *, rng):
        self.downs = nn.ModuleList(_double(a, b, rng) for a, b in pairwise((channels, *widths)))
        ups = list(pairwise(reversed(widths)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2, rng=rng) for a, b in ups)
        self.merges = nn.ModuleList(_double(2 * b, b, rng) for _, b in ups)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Conv2d(widths[0], channels, 1, rng=rng)

    def forward(self, x):
        skips = []
        for down in self.downs[:-1]:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.downs[-1](x)
        for up, merge, skip in zip(self.ups, self.merges, reversed(skips), strict=True):
            x = merge(mg.concatenate([skip, up(x)], axis=1))
        return self.out(x)


def _double(a, b, rng):
    layers = []
    for i in (a, b):
        layers += [
            nn.Conv2d(i, b, 3, 1, 1, bias=False, rng=rng),
            nn.BatchNorm2d(b, negative_slope=0.0),
        ]
    return nn.Sequential(*layers)


class Restoration(Workload):
    """A U-Net of 32, 64, 128, 256 channels from noisy 64x64 images to clean, L1, Adam(1e-3)."""

    def __init__(self, batch=16):
        super().__init__()
        self.network = UNet(3, (32, 64, 128, 256), rng=mg.Generator(1))
        self.optimizer = optim.Adam(self.network, lr=1e-3)
        clean = images(batch, 3, 64, 64)
        self.inputs = (clean + images(batch, 3, 64, 64, seed=1) / 4, clean)

    def loss(self, noisy, clean):
        return mg.l1_loss(self.network(noisy), clean)

    def train(self, noisy, clean, rng):
        images = mg.asarray(noisy), mg.asarray(clean)
        loss, grads = mg.value_and_grad(self.loss, self.network)(*images)
        self.optimizer.step(grads)
        return (loss,)

    def peer(self, how):
        from peers import RestorationStep, UNetTwin
        from twins import to_torch

        names = ("downs", "ups", "merges", "pool", "out")
        parts = (to_torch(getattr(self.network, name), how) for name in names)
        return RestorationStep(UNetTwin(*parts), 1e-3, how)


class StyleTransfer(Workload):
    """One iteration of Gatys et al. 2016 on a 256x256 image: forward through VGG-16 to relu5_1,
    content at relu4_2, Gram matrices at relu1_1 to relu5_1, gradient to the image, Adam(0.02).

    The weights are random (He et al. 2015), so that a layer keeps its input's scale.
    """

    style_weight = 1e4
    content = 4  # the part that ends in relu4_2
    # Channels of the convolutions, "pool" between them; a part ends where its output is looked at.
    parts = (
        (64,),
        (64, "pool", 128),
        (128, "pool", 256),
        (256, 256, "pool", 512),
        (512,),
        (512, "pool", 512),
    )

    def __init__(self, batch=1, size=256):
        super().__init__()
        rng, channels, parts = mg.Generator(1), 3, []
        for widths in self.parts:
            layers = []
            for width in widths:
                if width == "pool":
                    layers.append(nn.MaxPool2d(2))
                    continue
                conv = nn.Conv2d(channels, width, 3, 1, 1, rng=rng)
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", rng=rng)
                layers += relu(conv)
                channels = width
            parts.append(nn.Sequential(*layers))
        self.network = nn.ModuleList(parts)
        self.network.freeze()
        shape = (batch, 3, size, size)
        self.pictures = (images(*shape), images(*shape, seed=1))  # content, style
        self._begin()

    def double(self):
        super().double()
        self._begin()
        return self

    def on(self, device, captured=True):
        super().on(device, captured)
        if device != "cpu":
            self._begin()
        return self

    def _begin(self):
        pictures = [each.astype(self.dtype) for each in self.pictures]
        content, style = (mg.tensor(each, device=self.device) for each in pictures)
        self.image = mg.tensor(pictures[0] / 2, device=self.device, requires_grad=True)
        self.optimizer = optim.Adam([self.image], lr=0.02)
        with mg.no_grad():
            self.content_target = self.features(content)[self.content]
            self.style_targets = self.grams(self.features(style))

    def features(self, x):
        found = []
        for part in self.network:
            x = part(x)
            found.append(x)
        return found

    def grams(self, features):
        """Inner products of the channels' maps, divided by their number and size."""
        made = []
        for i, x in enumerate(features):
            if i != self.content:
                n, c, h, w = x.shape
                flat = x.reshape(n, c, h * w)
                made.append(flat @ mg.swapaxes(flat, 1, 2) / (c * h * w))
        return made

    def train(self, rng):
        features = self.features(self.image)
        content = mg.mse_loss(features[self.content], self.content_target)
        pairs = zip(self.grams(features), self.style_targets, strict=True)
        style = sum(mg.mse_loss(gram, target) for gram, target in pairs)
        loss = content + self.style_weight * style
        self.optimizer.step(mg.grad(loss, [self.image], retain_graph=False))
        return content.detach(), style.detach()

    def peer(self, how):
        from peers import StyleStep
        from twins import to_torch

        return StyleStep(
            to_torch(self.network, how), self.content, self.style_weight,
            *(np.array(each, self.dtype) for each in (self.image.numpy(), *self.pictures)),
            0.02, how,
        )  # fmt: skip
