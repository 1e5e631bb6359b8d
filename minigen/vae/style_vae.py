"""`style-vae`: a VAE whose code has two parts, content and style, so that the style of one image
can be put on the content of another.

The networks keep them apart. The content's encoder sees images of which each channel has been
brought to mean 0 and deviation 1: brightness, contrast and colour cast are not in them. The style's
sees pixels one by one, and of each of their features only the largest in the image: it knows which
tones there are, also those of a small thing, but neither where nor how much. In the decoder content
makes feature maps, and style scales and shifts each of them (as Huang & Belongie 2017 do, but the
maps are not normalised: content that cannot know the style cannot bring any along).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import minigen as mg
from minigen import nn
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.networks import ACTIVATIONS, HIDDEN, conv_encoder, halvings_of
from minigen.vae.options import VAEOptions, refuse_others
from minigen.vae.vae import VAE

PIXEL, HEAD = 16, 64  # features of a pixel, and of the style, before the style's code


@dataclass(frozen=True)
class StyleVAEOptions(VAEOptions):
    """What can be set in a `style-vae`."""

    batch_size: int = nn.default(VAEOptions, "batch_size", 32)
    latent: int = nn.option(24, "numbers in the code, content and style", least=2)
    style: int = nn.option(8, "how many of them, the last, are style", least=1)
    network: str = nn.option("modulated", "both networks", ("modulated",))
    channels: int = nn.option(16, "maps of the first convolution", least=1)
    likelihood: str = nn.default(VAEOptions, "likelihood", "gaussian")
    sigma: float = nn.default(VAEOptions, "sigma", 0.05)
    conditional: str = nn.option("none", "what the networks are told", ("none",))
    lr: float = nn.default(VAEOptions, "lr", 2e-3)

    def check(self) -> None:
        """ValueError for options that contradict each other."""
        super().check()
        refuse_others(
            self, ("encoder", "decoder", "classes"), "style-vae",
            "its networks are convolutions that no class is told to",
        )  # fmt: skip
        if self.style >= self.latent:
            raise ValueError(
                f"style-vae: style={self.style} of latent={self.latent} numbers, expected fewer,"
                " so that some are left for content"
            )


class StyleVAE(VAE):
    """VAE whose first units are content and whose last `style` are style."""

    Options: ClassVar[type] = StyleVAEOptions
    reported: ClassVar[tuple[str, ...]] = (
        "loss", "reconstruction", "kl", "kl_content", "kl_style", "bits_per_dimension",
    )  # fmt: skip

    def make_encoder(self, rng: Generator) -> nn.Module:
        """Images (N, C, H, W) -> mu and log sigma^2, (N, 2 latent), content before style."""
        return TwoEncoders(self.options, self.image_shape, rng=rng)

    def make_decoder(self, rng: Generator) -> nn.Module:
        """Codes (N, latent) -> what the likelihood takes."""
        channels, *size = self.image_shape
        return ModulatedDecoder(self.options, (channels * self.likelihood.outputs, *size), rng=rng)

    def losses(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """As the VAE's, with the KL of content and of style apart."""
        nll, kl = self.terms(x, labels, rng)
        content = self.options.latent - self.options.style
        of_content, of_style = kl[:, :content].sum(1).mean(), kl[:, content:].sum(1).mean()
        nll, total = nll.mean(), of_content + of_style
        return nll + self.penalty(kl), nll, total, of_content, of_style, self.bits(nll + total)

    def swap(
        self,
        contents: Any,
        styles: Any,
        labels_of_contents: Any = None,
        labels_of_styles: Any = None,
    ) -> np.ndarray:
        """Images with the content of the i-th of one kind and the style of the j-th of the other,
        (n, m, C, H, W) in [0, 1], of images (n, C, H, W) and (m, C, H, W). It knows no labels.
        """
        n, m, k = len(contents), len(styles), self.options.latent - self.options.style
        content = self.codes(contents, labels_of_contents)[:, :k]
        style = self.codes(styles, labels_of_styles)[:, k:]
        z = np.concatenate([np.repeat(content, m, 0), np.tile(style, (n, 1))], axis=1)
        return self.decode(mg.asarray(z, device=self.device)).reshape(n, m, *self.image_shape)


class TwoEncoders(nn.Module):
    """(N, C, H, W) -> (N, 2 latent): mu of content and of style, then log sigma^2 of both."""

    def __init__(self, options: Any, shape: tuple[int, ...], *, rng: Generator):
        channels, content = shape[0], options.latent - options.style
        act = ACTIVATIONS[options.activation]
        self.content = nn.Sequential(
            nn.InstanceNorm2d(channels), conv_encoder(options, shape, 2 * content, rng)
        )
        self.pixels = nn.Sequential(
            nn.Conv2d(channels, PIXEL, 1, rng=rng),
            act(),
            nn.Conv2d(PIXEL, PIXEL, 1, rng=rng),
            act(),
        )
        self.style = nn.Sequential(
            nn.Linear(PIXEL, HEAD, rng=rng), act(), nn.Linear(HEAD, 2 * options.style, rng=rng)
        )

    def forward(self, x: Tensor) -> Tensor:
        mu, log_var = mg.split(self.content(x), 2, axis=1)
        style_mu, style_log_var = mg.split(self.style(self.pixels(x).max((2, 3))), 2, axis=1)
        return mg.concatenate([mu, style_mu, log_var, style_log_var], axis=1)


class ModulatedDecoder(nn.Module):
    """(N, latent) -> maps of `shape`: content goes through dense layers and transposed convolutions
    to twice the size, each of whose maps style scales and shifts.
    """

    def __init__(self, options: Any, shape: tuple[int, ...], *, rng: Generator):
        self.split = options.latent - options.style
        self.act = ACTIVATIONS[options.activation]()
        halvings = halvings_of(shape)
        width = options.channels * 2 ** (halvings - 1)
        small = (width, shape[1] >> halvings, shape[2] >> halvings)
        self.content = nn.Sequential(
            nn.Linear(self.split, HIDDEN, rng=rng), self.act,
            nn.Linear(HIDDEN, int(np.prod(small)), rng=rng), self.act, nn.Reshape(*small),
        )  # fmt: skip
        self.style = nn.Sequential(nn.Linear(options.style, HEAD, rng=rng), self.act)
        self.layers: list[nn.Module] = []
        self.modulations: list[nn.Module] = []
        for i in range(1, halvings + 1):
            out = shape[0] if i == halvings else width // 2
            self.layers.append(nn.ConvTranspose2d(width, out, 4, 2, 1, rng=rng))
            self.modulations.append(Modulation(HEAD, out, rng=rng))
            width = out

    def forward(self, z: Tensor) -> Tensor:
        x, style = self.content(z[:, : self.split]), self.style(z[:, self.split :])
        for i, (layer, modulate) in enumerate(zip(self.layers, self.modulations, strict=True)):
            x = modulate(layer(x if i == 0 else self.act(x)), style)
        return x


class Modulation(nn.Module):
    """(1 + gain) x + bias for each map of (N, C, H, W), both linear in vectors (N, features)."""

    def __init__(self, features: int, channels: int, *, rng: Generator):
        self.linear = nn.Linear(features, 2 * channels, rng=rng)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = mg.split(self.linear(condition).reshape((len(x), -1, 1, 1)), 2, axis=1)
        return (gain + 1) * x + bias
