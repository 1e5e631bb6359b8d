"""`enhance-vae`: a conditional VAE (Sohn, Lee, Yan 2015) of clean photographs x given degraded ones
y: it denoises, brightens, super-resolves and restyles.

p(x | y) = E p(x | y, z, s) p(z | y) p(s | y). The spatial latent z, at a quarter of the size, says
which of the likely images this one is; the style s, a few numbers a photograph, how its tone
changes. p(x | y, z, s) is Gaussian with a mean and a variance of every value. Degraded images are
made in each step from clean patches, with the run's generator.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

import minigen as mg
import minigen.kernels as kernels
from minigen import nn, optim
from minigen.data import degradations
from minigen.graph import recorded, written
from minigen.metrics.psnr import MOST, psnr_each
from minigen.metrics.ssim import ssim_each
from minigen.nn.latent import straight_line
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.enhance_networks import STRIDE, Networks, drawn
from minigen.vae.likelihoods import GaussianPixels, log_sigma_of, normal_nll
from minigen.vae.objective import KLPenalty

FARTHEST = 8.0  # deviations that the posterior of z is shown of what the mean has missed
SHOWN = 16  # clean patches of the first step, from which samples are made


@dataclass(frozen=True)
class EnhanceVAEOptions:
    """What can be set in an `enhance-vae`."""

    degradation: str = nn.option("noise:0-50", "what is to be undone, as 'darken:0-3,noise:0-15'")
    batch_size: int = nn.option(8, "patches in a step", least=1)
    channels: int = nn.option(48, "maps at half size; at a quarter there are 32 more", least=1)
    blocks: int = nn.option(2, "residual blocks on each level", least=1)
    latent: int = nn.option(4, "maps of the spatial latent z", least=1)
    style: int = nn.option(8, "numbers in the style s", least=1)
    clipped: float = nn.option(
        0.5, "share of degraded patches that are clipped to [0, 1], as files are", least=0
    )
    grey: float = nn.option(
        0.15, "share of patches in colour that are made grey, noise and all", least=0
    )
    variance_weight: float = nn.option(
        1.0, "beta of beta-NLL: 0 is the likelihood, 1 learns the mean by squared error", least=0
    )
    prediction: float = nn.option(
        1.0, "weight of the error made with z at its prior's mean; 0: the bound alone", least=0
    )
    warmup: int = nn.option(500, "steps in which the KL terms rise from 0", least=0)
    style_beta: float = nn.option(
        10.0, "weight of the style's KL: it is to carry what matters, and nothing else", least=0
    )
    style_free_bits: float = nn.option(
        0.0, "nats that each number of the style may carry at no cost", least=0
    )
    clip_grad_norm: float = nn.option(
        20.0, "largest norm of the gradient: patches that were not expected make it huge", least=0
    )
    lr: float = nn.option(1e-3, "learning rate of Adam at first", least=0)
    decay_steps: int = nn.option(
        0, "steps in which it falls to 0 along half a cosine; 0: it stays", least=0
    )
    ema: float = nn.option(0.999, "decay of the averaged weights that restore; 0: none", least=0)

    def check(self) -> None:
        """ValueError for shares of more than all."""
        if max(self.clipped, self.grey) > 1:
            raise ValueError(
                f"enhance-vae: clipped={self.clipped:g} and grey={self.grey:g} are shares, expected"
                " at most 1"
            )


class EnhanceVAE(nn.Model):
    """`restore` makes p(x | y, z, s) of degraded images, a style and noise for z.

    An output pixel depends on inputs no farther away than `margin`, but for the style; heights and
    widths must be multiples of `stride`. `scale` is how many times smaller the photographs are
    that it enlarges: they are brought to full size first (`degradations.enlarge`).
    """

    Options: ClassVar[type] = EnhanceVAEOptions
    value_range = (0.0, 1.0)
    patch_size = 64
    generates = False
    stride = STRIDE
    reported: ClassVar[tuple[str, ...]] = ("loss", "reconstruction", "kl", "style_kl", "psnr")

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Generator):
        super().__init__(options, image_shape)
        options.check()
        self.degradation = degradations.parse(options.degradation)
        self.scale, colours = self.degradation.scale, image_shape[0]
        self.check_size(image_shape[1:], math.lcm(STRIDE, self.scale))
        self.networks = Networks(options, colours, rng=rng)
        self.margin = -(-self.networks.restorer.reach // STRIDE) * STRIDE
        self.penalty, self.style_penalty = (
            KLPenalty(beta=beta, warmup=options.warmup, free_bits=free)
            for beta, free in ((1.0, 0.0), (options.style_beta, options.style_free_bits))
        )
        lr = optim.cosine(options.lr, options.decay_steps) if options.decay_steps else options.lr
        self.optimizer = optim.Adam(self.networks, lr=lr)
        self.ema = optim.EMA(self.networks, options.ema, warmup=True) if options.ema else None
        self.shown = mg.zeros((min(SHOWN, options.batch_size), *image_shape))
        self.steps = mg.zeros(())

    # training --------------------------------------------------------------------------------

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One step of Adam on clean patches (N, C, H, W) in [0, 1]: what is minimised in nats a
        value, the terms of the bound in nats a patch, and the PSNR in dB of the restored means.
        """
        images = mg.asarray(images)
        x, y = self.pairs(images, rng)
        losses, grads = mg.value_and_grad(self.losses, self.networks)(x, y, rng)
        self.optimizer.step(optim.clip_grad_norm(grads, self.options.clip_grad_norm)[0])
        if self.ema is not None:
            self.ema.update()
        self.penalty.count()
        self.style_penalty.count()
        _remember_first(self.shown, self.steps, images)
        return dict(zip(self.reported, losses, strict=True))

    @mg.no_grad()
    def pairs(self, clean: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """(clean, degraded) images, shares of them grey and clipped.

        Grey photographs come to a network of colours as three equal channels, with equal noise.
        """
        shape = (len(clean), 1, 1, 1)
        grey = rng.uniform(shape) < self.options.grey
        x = mg.where(grey, clean.mean(1, keepdims=True), clean)
        y = self.degradation(x, rng)
        y = mg.where(grey, y[:, :1], y)
        return x, mg.where(rng.uniform(shape) < self.options.clipped, mg.clip(y, 0, 1), y)

    def losses(self, x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, ...]:
        """What is minimised, in nats a value; E_q[-log p(x | y, z, s)] and the KL of both latents,
        which make the bound, means in nats a patch; the PSNR in dB.
        """
        found = self.terms(x, y, rng)
        penalty = self.penalty(found.kl) + self.style_penalty(found.style_kl)
        nll, weighed = found.nll, self.options.prediction * found.prediction
        error = ((x - found.restored) ** 2).mean((1, 2, 3))
        return (
            (nll + weighed).mean() + penalty * (1 / math.prod(x.shape[1:])),
            nll.sum((1, 2, 3)).mean(),
            found.kl.sum(1).mean(),
            found.style_kl.sum(1).mean(),
            (mg.log(error) * (-10 / math.log(10))).mean(),
        )

    def terms(self, x: Tensor, y: Tensor, rng: Generator) -> SimpleNamespace:
        """`nll`, -log p(x | y, z, s) of each value with s and z from q; `kl` and `style_kl`, those
        from the priors, (N, units); `restored`, the mean image with z at its prior's mean, and
        `prediction`, its error; all in nats.

        Learnt together, the variance grows where the mean is bad, which is then no longer corrected
        there. So the gradient of `nll` that reaches the mean is weighed by the variance to the
        power `variance_weight`, as a share of the patch's: 1 makes it that of the squared error
        (Seitzer et al. 2022, eq. 5, but for the mean only). `prediction` is weighed alike; it
        trains the network for what `restore` asks of it (Sohn et al. 2015, eq. 7).
        """
        nets = self.networks
        style, style_kl = drawn(nets.style.posterior(x, y), nets.style.prior(y), rng)
        mean, spread, features = nets.restorer(y, style)
        log_sigma = log_sigma_of(spread)
        weight = mg.exp(2 * self.options.variance_weight * log_sigma.detach())
        weight = weight / weight.mean((1, 2, 3), keepdims=True)
        # What the latent is to tell is what the mean has missed, in standard deviations.
        missed = mg.clip((x - mean) * mg.exp(-log_sigma), -FARTHEST, FARTHEST).detach()
        prior = nets.latent.prior(features)
        z, kl = drawn(nets.latent.posterior(missed, features), prior, rng)
        so_weighed = mean.detach() + weight * (mean - mean.detach())
        restored = mean + nets.latent.decode(prior[0], features)
        lost = (x - restored) * mg.exp(-log_sigma.detach())
        return SimpleNamespace(
            nll=normal_nll(x - so_weighed - nets.latent.decode(z, features), log_sigma),
            kl=kl.reshape((len(x), -1)),
            style_kl=style_kl,
            restored=restored,
            prediction=0.5 * weight * lost * lost,
            mean=mean,
            log_sigma=log_sigma,
        )

    # restoring -------------------------------------------------------------------------------

    def style_prior(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (N, S) each, of p(s | y), of whole degraded photographs."""
        return self.networks.style.prior(y)

    def style_of(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (N, S) each, of q(s | x, y): the change from y's tone to x's.

        x may show something else than y: its tone is then what y is given. 0 changes nothing.
        """
        return self.networks.style.posterior(x, y)

    @mg.no_grad()
    def restore(self, y: Tensor, style: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (N, C, H, W) of p(x | y, z, s), not clipped.

        z (N, latent, H / stride, W / stride) is its prior's mean plus `noise` of its deviations:
        zeros restore, normal noise draws from the posterior of images.
        """
        self.check_size(y.shape[2:])
        mean, spread, features = self.networks.restorer(y, style)
        z, log_var = self.networks.latent.prior(features)
        z = z + mg.exp(0.5 * log_var) * noise
        variance = mg.exp(2 * log_sigma_of(spread))
        return mean + self.networks.latent.decode(z, features), variance

    def latent_shape(self, height: int, width: int, *, n: int = 1) -> tuple[int, ...]:
        """The shape of `noise` for n images of a size."""
        return n, self.options.latent, height // STRIDE, width // STRIDE

    @mg.no_grad()
    def best(self, y: Tensor) -> Tensor:
        """Images restored with style and latent at their priors' means, (N, C, H, W) in [0, 1]."""
        noise = mg.zeros(self.latent_shape(*y.shape[2:], n=len(y)), device=y.device)
        return mg.clip(self.restore(y, self.style_prior(y)[0], noise)[0], 0, 1)

    @mg.no_grad()
    def draw(self, y: Tensor, rng: Generator) -> Tensor:
        """Images drawn given y: style and latent from their priors, the mean of p(x | y, z, s)."""
        mean, log_var = self.style_prior(y)
        style = mean + mg.exp(0.5 * log_var) * rng.normal(mean.shape)
        noise = rng.normal(self.latent_shape(*y.shape[2:], n=len(y)))
        return mg.clip(self.restore(y, style, noise)[0], 0, 1)

    def check_size(self, size: tuple[int, ...], multiple: int = STRIDE) -> None:
        """ValueError unless heights and widths fit."""
        if any(n % multiple for n in size):
            raise ValueError(
                f"EnhanceVAE: images are {size[1]}x{size[0]} pixels, expected multiples of"
                f" {multiple} to undo {self.degradation.spec}"
            )

    @mg.no_grad()
    def sample(self, n: int, rng: Generator) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1]: patches of the first step in fours - degraded, restored,
        drawn given the degraded one, and clean.
        """
        with self.evaluating(self.ema):
            x, y = self.pairs(self.shown, rng)
            four = (mg.clip(y, 0, 1), self.best(y), self.draw(y, rng), x)
            images = np.stack([each.numpy() for each in four], 1).reshape((-1, *self.image_shape))
        return images[np.arange(n) % len(images)]

    @mg.no_grad()
    def interpolate(self, n: int, rng: Generator, *, label: int = 0) -> np.ndarray:
        """A degraded patch restored with n styles on the line between two draws from p(s | y)."""
        with self.evaluating(self.ema):
            _, y = self.pairs(self.shown[:1], rng)
            mean, log_var = self.style_prior(y)
            a, b = (mean + mg.exp(0.5 * log_var) * rng.normal((2, mean.shape[1]))).numpy()
            style = mg.asarray(straight_line(a, b, n).astype(np.float32), device=self.device)
            y = mg.broadcast_to(y, (n, *self.image_shape))
            noise = mg.zeros(self.latent_shape(*y.shape[2:], n=n), device=self.device)
            return mg.clip(self.restore(y, style, noise)[0], 0, 1).numpy()

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """PSNR (dB; of a patch, which may come back equal, at most 60) and SSIM of degraded and of
        restored patches, -ELBO and its parts in nats a patch, and the bound in bits per dimension;
        with 95% intervals.
        """
        found: dict[str, list] = {name: [] for name in (
            "psnr_degraded", "psnr_restored", "ssim_degraded", "ssim_restored",
            "reconstruction", "kl", "style_kl",
        )}  # fmt: skip
        with self.evaluating(self.ema):
            for images, _ in batches:
                x, y = self.pairs(mg.asarray(images), rng)
                clean = x.numpy()
                for name, each in (("degraded", mg.clip(y, 0, 1)), ("restored", self.best(y))):
                    ratios = psnr_each(each, clean, data_range=1, most=MOST)
                    found[f"psnr_{name}"] += ratios.tolist()
                    found[f"ssim_{name}"] += ssim_each(each, clean, data_range=1).tolist()
                terms = self.terms(x, y, rng)
                found["reconstruction"] += terms.nll.sum((1, 2, 3)).tolist()
                found["kl"] += terms.kl.sum(1).tolist()
                found["style_kl"] += terms.style_kl.sum(1).tolist()
        bound = np.sum([found[name] for name in ("reconstruction", "kl", "style_kl")], axis=0)
        shown = {name: nn.mean_interval(values) for name, values in found.items()}
        nats, p = nn.mean_interval(bound), GaussianPixels()
        bits = {k: p.bits_per_dimension(v, self.image_shape) for k, v in nats.items()}
        return {"negative_elbo": nats, "bits_per_dimension": bits, **shown}


@recorded
def _remember_first(shown: Tensor, steps: Tensor, images: Tensor) -> None:
    """In the first step, and no other, write its images into `shown`; count the step."""
    kept = mg.where(steps == 0, images[: len(shown)], shown)
    kernels.copy_each(shown.data, kept.data, steps.data, (steps + 1).data)
    written(shown, steps)
