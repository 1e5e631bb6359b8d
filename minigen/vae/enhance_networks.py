"""The networks of `enhance-vae`: a residual U-Net, what reads tone off a thumbnail, and what gives
the spatial latent its prior, its posterior and its meaning.

All but the thumbnail's networks are convolutional with zeros at the borders, so that a part of a
photograph with a margin around it gives what the whole photograph gives there.
"""

import math
from typing import Any

import minigen as mg
from minigen import nn
from minigen.nn import init
from minigen.ops.sampling import reparameterize_at
from minigen.random import Generator
from minigen.tensor import Tensor

STRIDE = 4  # the spatial latent is this much smaller than the image
THUMBNAIL = 16  # pixels a side, of any photograph: small, so that little noise is left
HIDDEN = 32  # features of a thumbnail's pixel
SPREAD = 5.0  # of the spatial latent's log variances: deviations from 1/12 to 12
WIDER = 32  # maps at a quarter size, more than at half
DARKEST = 0.02  # means and deviations far below it are as good as none


class Networks(nn.Module):
    """All that an `enhance-vae` learns."""

    def __init__(self, options: Any, colours: int, *, rng: Generator):
        self.restorer = Restorer(
            colours, options.style, options.channels, options.blocks, rng=rng.spawn("restorer")
        )
        self.latent = SpatialLatent(
            colours, self.restorer.features, options.latent, rng=rng.spawn("latent")
        )
        self.style = Style(colours, options.style, rng=rng.spawn("style"))


class Residual(nn.Module):
    """x + conv(relu(conv(x))), 3x3 and without normalisation (Lim et al. 2017, fig. 2c)."""

    reach = 2  # pixels that it looks at on each side

    def __init__(self, channels: int, *, rng: Generator):
        self.first = nn.Conv2d(channels, channels, 3, 1, 1, negative_slope=0.0, rng=rng)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Restorer(nn.Module):
    """Images (N, C, H, W) and tone changes s (N, S) -> the mean (N, C, H, W) with the latent left
    out, the raw spread of every value (N, C, H, W), and features (N, features, H / 4, W / 4).

    s sets a gain and an offset of each colour, and modulates the features. The rest is a U-Net at
    half and quarter size: pixels become channels first, which costs a quarter of working at full
    size and little quality (Zhang et al. 2018, FFDNet). Where s is 0 there is no change of tone.
    """

    def __init__(self, colours: int, style: int, width: int, blocks: int, *, rng: Generator):
        at_half = lambda: [Residual(width, rng=rng) for _ in range(blocks)]
        self.features = width + WIDER
        self.tone = nn.Linear(style, 2 * colours, bias=False, rng=rng)
        self.modulate = nn.Linear(style, 2 * self.features, bias=False, rng=rng)
        self.head = nn.Conv2d(4 * colours, width, 3, 1, 1, rng=rng)
        self.encode = nn.Sequential(*at_half())
        self.down = nn.Conv2d(width, self.features, 2, 2, rng=rng)
        self.body = nn.Sequential(*[Residual(self.features, rng=rng) for _ in range(blocks)])
        self.up = nn.ConvTranspose2d(self.features, width, 2, 2, rng=rng)
        self.decode = nn.Sequential(*at_half())
        self.tail = nn.Conv2d(width, 8 * colours, 3, 1, 1, rng=rng)
        for layer in (self.tone, self.modulate, self.tail):  # at first, nothing is changed
            init.zeros_(layer.weight)

    @property
    def reach(self) -> int:
        """Pixels on each side that a feature, and what latents are made of it, depends on."""
        blocks, of_block = len(self.body), Residual.reach
        half = 1 + of_block * 2 * blocks + 1
        quarter = of_block * blocks + SpatialLatent.reach
        return 2 * half + STRIDE * quarter + STRIDE - 1

    def forward(self, y: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        toned = self.toned(y, style)
        scale, shift = mg.split(_maps(self.modulate(style)), 2, axis=1)
        large = self.encode(self.head(mg.pixel_unshuffle(toned, 2)))
        small = self.down(large)
        features = self.body(small + small * scale + shift)
        out = self.tail(self.decode(large + self.up(features)))
        change, spread = mg.split(mg.pixel_shuffle(out, 2), 2, axis=1)
        return toned + change, spread, features

    def toned(self, y: Tensor, style: Tensor) -> Tensor:
        """The images with the gain and the offset that a tone change says."""
        gain, offset = mg.split(_maps(self.tone(style)), 2, axis=1)
        return y * mg.exp(gain) + offset


class SpatialLatent(nn.Module):
    """z (N, L, H / 4, W / 4): which of the likely images this one is, where they differ.

    Given the restorer's features: `prior` p(z | y), `posterior` q(z | x, y) from what the mean has
    missed, in standard deviations, and `decode`, what z adds to the mean.
    """

    reach = 3  # at quarter size, from features to what is added

    def __init__(self, colours: int, features: int, latent: int, *, rng: Generator):
        pixels = colours * STRIDE**2
        self.to_prior = nn.Conv2d(features, 2 * latent, 3, 1, 1, rng=rng)
        self.from_missed = nn.Conv2d(pixels, features, 3, 1, 1, rng=rng)
        self.from_features = nn.Conv2d(features, features, 1, rng=rng)
        self.to_posterior = nn.Conv2d(features, 2 * latent, 3, 1, 1, rng=rng)
        self.of_latent = nn.Conv2d(latent, features, 3, 1, 1, rng=rng)
        self.of_features = nn.Conv2d(features, features, 1, rng=rng)
        self.to_pixels = nn.Conv2d(features, pixels, 3, 1, 1, rng=rng)
        init.zeros_(self.to_pixels.weight)  # at first, nothing is added

    def prior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of p(z | y)."""
        return bounded(self.to_prior(features))

    def posterior(self, missed: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x, y); `missed` is (N, C, H, W)."""
        seen = self.from_missed(mg.pixel_unshuffle(missed, STRIDE)) + self.from_features(features)
        return bounded(self.to_posterior(mg.relu(seen)))

    def decode(self, z: Tensor, features: Tensor) -> Tensor:
        """What is added to the mean, (N, C, H, W)."""
        known = self.of_latent(z) + self.of_features(features)
        return mg.pixel_shuffle(self.to_pixels(mg.relu(known)), STRIDE)


class ToneCode(nn.Module):
    """Images (N, C, H, W) -> (N, outputs): a function of which colours a thumbnail has, not where.

    The mean over its pixels of a network of one pixel is a learnt histogram (Zaheer et al. 2017):
    it cannot remember photographs as one that sees shapes could. The logarithms of every colour's
    mean and deviation are given: exposure and contrast change them by the same in any photograph.
    """

    def __init__(self, colours: int, outputs: int, *, rng: Generator):
        self.pixel = nn.Sequential(
            nn.Conv2d(colours, HIDDEN, 1, negative_slope=0.0, rng=rng),
            nn.Conv2d(HIDDEN, HIDDEN, 1, negative_slope=0.0, rng=rng),
        )
        self.whole = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN, rng=rng), nn.ReLU(), nn.Linear(HIDDEN, outputs, rng=rng)
        )
        self.of_mean = nn.Linear(colours, outputs, rng=rng)
        self.of_deviation = nn.Linear(colours, outputs, rng=rng)

    def forward(self, images: Tensor) -> Tensor:
        small = mg.adaptive_avg_pool2d(images, THUMBNAIL)
        mean = small.mean((2, 3), keepdims=True)
        variance = ((small - mean) ** 2).mean((2, 3))
        log_mean = mg.log(mg.maximum(mean, 0).reshape(variance.shape) + DARKEST)
        code = self.whole(self.pixel(small).mean((2, 3))) + self.of_mean(log_mean)
        return code + self.of_deviation(0.5 * mg.log(variance + DARKEST**2))


class Style(nn.Module):
    """s (N, S): the change of tone from y to x, a difference of their tone codes.

    `posterior` q(s | x, y) is around code(x) - code(y), so a picture of any content can be the one
    whose tone is wanted; `prior` p(s | y) guesses it from y alone.
    """

    def __init__(self, colours: int, style: int, *, rng: Generator):
        self.code = ToneCode(colours, style, rng=rng)
        self.guess = ToneCode(colours, 2 * style, rng=rng)
        self.log_var = init.constant_(init.parameter((style,)), 2 * math.log(0.05))

    def prior(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of p(s | y)."""
        return tuple(mg.split(self.guess(y), 2, axis=1))

    def posterior(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(s | x, y)."""
        mean = self.code(x) - self.code(y)
        return mean, mg.broadcast_to(self.log_var, mean.shape)


def drawn(posterior: tuple, prior: tuple, rng: Generator) -> tuple[Tensor, Tensor]:
    """A draw from N(m, v) = `posterior`, and KL(posterior || prior) of every unit in nats.

    In the prior's deviations from its mean, the prior is N(0, 1): the fused op gives the KL then,
    and the noise. The draw is made of that noise with the posterior alone: through whitening and
    back, gradients that cancel would leave the prior rounding errors to learn from.
    """
    (mean, log_var), (prior_mean, prior_log_var) = posterior, prior
    whitened = (mean - prior_mean) * mg.exp(-0.5 * prior_log_var)
    counters = rng.reserve(mean.size)
    _, kl, noise = reparameterize_at(whitened, log_var - prior_log_var, *counters)
    return mean + mg.exp(0.5 * log_var) * noise.detach(), kl


def bounded(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of maps (N, 2 L, H, W); log variances stay within SPREAD of 0.

    A prior that is free to be as narrow as it likes makes a KL of billions of nats in one step in
    which an image is not as usual.
    """
    mean, raw = mg.split(maps, 2, axis=1)
    return mean, SPREAD * mg.tanh(raw * (1 / SPREAD))


def _maps(values: Tensor) -> Tensor:
    """(N, D) as (N, D, 1, 1)."""
    return values.reshape((*values.shape, 1, 1))
