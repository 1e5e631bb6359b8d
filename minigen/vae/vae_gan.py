"""`vae-gan`: a VAE whose reconstructions are compared in the features of a discriminator, which is
trained along with it, and whose decoder is at the same time the generator of a GAN (Larsen et al.
2016). Encoder and decoder are those of `conv-vae`.

Algorithm 1 has three players and three gradients, and one forward pass serves all:

    encoder         KL + L
    decoder         gamma L + the generator's loss
    discriminator   its own loss alone

where L = -E_q[log N(D_l(x); D_l(x~), I)] is of the features D_l of layer l (eq. 8), and a GAN's
images are reconstructions x~ and samples of the prior x_p alike. What differs from the paper: the
generator does not saturate (it maximises log D, as in Goodfellow et al. 2014), logarithms of D are
softplus of logits, and the discriminator learns more slowly, since a decoder without batch norm is
no match for it otherwise.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import minigen as mg
from minigen import nn, optim
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.conv_vae import ConvVAE, ConvVAEOptions
from minigen.vae.networks import SMALLEST, LabelledEncoder

Shape = tuple[int, ...]  # (C, H, W)


@dataclass(frozen=True)
class VAEGANOptions(ConvVAEOptions):
    """What can be set in a `vae-gan`; encoder and decoder by default as a `conv-vae`'s.

    The likelihood of pixels is for `evaluate`; the decoder's image is its mean.
    """

    batch_size: int = nn.default(ConvVAEOptions, "batch_size", 32)
    lr: float = nn.option(2e-3, "learning rate of encoder and decoder", least=0)
    gamma: float = nn.option(0.01, "weight of the features' likelihood for the decoder", least=0)
    discriminator_channels: int = nn.option(
        32, "maps of the discriminator's first convolution", least=1
    )
    discriminator_lr: float = nn.option(4e-4, "the discriminator's learning rate", least=0)
    optimizer: str = nn.option("adam", "of all three", ("adam", "rmsprop"))
    beta1: float = nn.option(0.5, "Adam's decay of the first moment (not rmsprop's)", least=0)
    ema: float = nn.option(
        0.999, "decay of the averaged encoder and decoder, which are used; 0 for none", least=0
    )
    likelihood: str = nn.option(
        "bernoulli", "p(x | z) of a pixel, to evaluate by", ("bernoulli", "gaussian", "logistic")
    )
    binarize: str = nn.option("none", "images are judged as they are", ("none",))

    def check(self) -> None:
        """ValueError for options that contradict each other."""
        super().check()
        if self.likelihood != "bernoulli" and not self.sigma:
            raise ValueError(
                f"vae-gan: sigma=0 with likelihood={self.likelihood}: no pixels are trained on that"
                " it could be learnt from; set sigma=0.1, say"
            )


class VAEGAN(ConvVAE):
    """A VAE with a `discriminator`, which gives images features and a decision."""

    Options: ClassVar[type] = VAEGANOptions
    reported: ClassVar[tuple[str, ...]] = ("reconstruction", "kl", "generator", "discriminator")
    ema: optim.EMA | None = None

    def __init__(self, options: Any, image_shape: Shape, *, rng: Generator):
        super().__init__(options, image_shape, rng=rng)
        self.discriminator = Discriminator(options, image_shape, rng=rng)
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = self.make_optimizer(both, options.lr)
        self.discriminator_optimizer = self.make_optimizer(
            self.discriminator, options.discriminator_lr
        )
        self.ema = optim.EMA(both, options.ema, warmup=True) if options.ema else None

    def make_optimizer(self, weights: Any, lr: float) -> Any:
        """Adam or RMSprop."""
        if self.options.optimizer == "rmsprop":
            return optim.RMSprop(weights, lr=lr, eps=self.options.epsilon)
        betas = (self.options.beta1, 0.999)
        return optim.Adam(weights, lr=lr, betas=betas, eps=self.options.epsilon)

    def evaluating(self, ema: Any = None) -> Any:
        """Inside: evaluation mode, with the averaged weights."""
        return super().evaluating(self.ema if ema is None else ema)

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One step of all three on a batch (N, C, H, W) in [0, 1]; in nats an image: the
        "reconstruction" of features, "kl", and what the "generator" and the "discriminator"
        minimise.
        """
        losses, grads = self.gradients(mg.asarray(images), self.known(labels), rng)
        of_encoder, of_decoder, of_discriminator = grads
        self.optimizer.step([*of_encoder, *of_decoder])
        self.discriminator_optimizer.step(of_discriminator)
        self.penalty.count()
        if self.ema is not None:
            self.ema.update()
        return {name: each.detach() for name, each in zip(self.reported, losses, strict=True)}

    def gradients(
        self, x: Tensor, labels: Any, rng: Generator
    ) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        """The losses as `step` reports them, means over the batch; the gradients of encoder,
        decoder and discriminator, each of what is its own to minimise.
        """
        with mg.enable_grad():
            mu, log_var = self.encode(x, labels)
            z, kl = mg.reparameterize(mu, log_var, rng=rng)
            again, new = self.pictures(z, labels), self.pictures(rng.normal(z.shape), labels)
            like, generator, discriminator = map(mg.mean, self.judge(x, again, new, labels))
            prior = self.penalty(kl)
        # To the images first: from there the two parts of the decoder's gradient go on as one.
        (by_likelihood,) = mg.grad(like, again)
        by_decision, of_new = mg.grad(generator, [again, new])
        of_again = self.options.gamma * by_likelihood + by_decision
        return (like, kl.sum(1).mean(), generator, discriminator), (
            mg.grad([again, prior], self.encoder.parameters(),
                    [by_likelihood, mg.ones_like(prior)]),
            mg.grad([again, new], self.decoder.parameters(), [of_again, of_new]),
            mg.grad(discriminator, self.discriminator.parameters()),
        )  # fmt: skip

    def pictures(self, z: Tensor, labels: Any = None) -> Tensor:
        """The images that the discriminator sees of codes, (N, C, H, W) in [0, 1]."""
        return self.likelihood.mean(self.decoded(z, labels))

    def judge(
        self, x: Tensor, again: Tensor, new: Tensor, labels: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-log N(D_l(x); D_l(x~), I) without its constant, summed over the features; what the
        generator minimises, -log D(x~) - log D(x_p); and what the discriminator does, -log D(x)
        - log(1 - D(x~)) - log(1 - D(x_p)): of each image, (N,), in nats.
        """
        features, real = self.discriminator(x, labels)
        recognised, of_again = self.discriminator(again, labels)
        _, of_new = self.discriminator(new, labels)
        gap = (recognised - features.detach()).reshape((len(x), -1))
        generator = mg.softplus(-of_again) + mg.softplus(-of_new)
        discriminator = mg.softplus(-real) + mg.softplus(of_again) + mg.softplus(of_new)
        return 0.5 * mg.square(gap).sum(1), generator, discriminator

    def further(self, x: Tensor, labels: Any, z: Tensor, rng: Generator) -> dict[str, Tensor]:
        """The losses of training.

        The bound of pixels beside them is true of the model p(z) p(x | z) that has the decoder's
        image as the mean of the pixels' likelihood. As nothing in training makes it tight it is
        worse than a VAE's.
        """
        names = "feature_reconstruction", "generator_loss", "discriminator_loss"
        new = self.pictures(rng.normal(z.shape), labels)
        judged = self.judge(x, self.pictures(z, labels), new, labels)
        return dict(zip(names, judged, strict=True))


class Discriminator(nn.Module):
    """Images (N, C, H, W), and labels if conditional, -> the features of layer l, and logits (N,).

    Convolutions 4x4 that halve the image to 4 to 7 pixels, leaky relu 0.2, batch norm in all but
    the first, which gives the features a scale of their own; the last of them is layer l. A dense
    layer decides.
    """

    def __init__(self, options: Any, shape: Shape, *, rng: Generator):
        channels, *size = shape
        channels += options.conditional != "none"  # the label is a map beside the image
        width = options.discriminator_channels
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, rng=rng), nn.LeakyReLU(0.2)]
        size = [n // 2 for n in size]
        while min(size) > SMALLEST:
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False, rng=rng),
                nn.BatchNorm2d(2 * width, negative_slope=0.2),
            ]
            width, size = 2 * width, [n // 2 for n in size]
        self.features: nn.Module = nn.Sequential(*layers)
        if options.conditional != "none":
            self.features = LabelledEncoder(self.features, options.classes, shape[1:], rng=rng)
        self.decision = nn.Sequential(
            nn.Flatten(), nn.Linear(width * size[0] * size[1], 1, rng=rng), nn.Flatten(0)
        )

    def forward(self, x: Tensor, labels: Any = None) -> tuple[Tensor, Tensor]:
        features = self.features(x) if labels is None else self.features(x, labels)
        return features, self.decision(features)
