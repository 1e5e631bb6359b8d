"""`vq-vae`: an autoencoder through a grid of discrete codes (van den Oord, Vinyals, Kavukcuoglu
2017), with a prior over the codes that is trained beside it.

The encoder gives a vector for each place of a grid a fourth of the image in size, and each vector
is exchanged for the nearest of K. Gradients pass the exchange as if it were not there. As the codes
of an image are certain, -log p(x | codes(x)) - log p(codes(x)) bounds -log p(x) from above.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.nn.latent import straight_line
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.code_prior import CodePrior
from minigen.vae.codebook import Codebook, perplexity
from minigen.vae.doctor import CodebookDoctor
from minigen.vae.likelihoods import LIKELIHOODS, likelihood

CHUNK = 256  # images made at a time


@dataclass(frozen=True)
class VQVAEOptions:
    """What can be set in a `vq-vae`: the paper's networks, but smaller ones.

    beta is more than its 0.25, as nats of a sharp likelihood pull harder than squared errors.
    """

    batch_size: int = nn.option(32, "images in a step", least=1)
    channels: int = nn.option(64, "maps of the autoencoder's hidden layers", least=2)
    blocks: int = nn.option(2, "residual blocks of encoder and decoder", least=0)
    codes: int = nn.option(64, "vectors in the codebook", least=2)
    embedding: int = nn.option(32, "numbers in a vector", least=1)
    codebook: str = nn.option("ema", "how vectors learn: averages, or a loss", ("ema", "loss"))
    decay: float = nn.option(0.99, "of the averages of a vector and of its usage", least=0)
    restart: float = nn.option(
        0.1, "usage, as a share of the mean, below which a vector begins anew; 0: never", least=0
    )
    beta: float = nn.option(3.0, "weight of the commitment loss", least=0)
    likelihood: str = nn.option("logistic", "p(x | codes) of a pixel", LIKELIHOODS)
    sigma: float = nn.option(
        0.0, "standard deviation of gaussian and logistic; 0 to learn it", least=0
    )
    prior_channels: int = nn.option(32, "maps of the prior's layers", least=1)
    prior_layers: int = nn.option(4, "gated layers of the prior", least=1)
    conditional: str = nn.option("none", "whether the prior is told the class", ("none", "label"))
    classes: int = nn.option(10, "how many, if conditional", least=1)
    lr: float = nn.option(1e-3, "learning rate of Adam, autoencoder", least=0)
    prior_lr: float = nn.option(3e-3, "learning rate of Adam, prior", least=0)

    def check(self) -> None:
        """ValueError for averages that would not be."""
        if self.decay >= 1:
            raise ValueError(f"vq-vae: decay={self.decay:g}, expected less than 1, such as 0.99")


class VQVAE(nn.Model):
    """`encoder`, `codebook`, `decoder`, and `prior`, which samples come from."""

    Options = VQVAEOptions
    value_range = (0.0, 1.0)

    def __init__(self, options: VQVAEOptions, image_shape: tuple[int, ...], *, rng: Generator):
        super().__init__(options, image_shape)
        options.check()
        colours, height, width = image_shape
        if height % 4 or width % 4:
            raise ValueError(
                f"vq-vae: images are {height}x{width}, expected sizes divisible by 4, such as 28 or"
                " 32; --set data.image_size=32 resizes them"
            )
        self.grid = (height // 4, width // 4)
        self.likelihood = likelihood(options.likelihood, options.sigma)
        self.encoder = encoder(options, colours, rng=rng)
        self.codebook = Codebook(
            options.codes, options.embedding, learnt=options.codebook == "loss",
            decay=options.decay, restart=options.restart, rng=rng,
        )  # fmt: skip
        self.decoder = decoder(options, colours * self.likelihood.outputs, rng=rng)
        self.prior = CodePrior(
            options.codes, options.prior_channels, options.prior_layers, self.classes, rng=rng
        )
        autoencoder = nn.ModuleList([self.encoder, self.codebook, self.decoder, self.likelihood])
        self.optimizer = optim.Adam(autoencoder, lr=options.lr)
        self.prior_optimizer = optim.Adam(self.prior, lr=options.prior_lr)

    def doctor(self) -> CodebookDoctor:
        """What watches the training for codes out of use."""
        return CodebookDoctor(self)

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One update of the autoencoder, its codebook, and the prior over codes, of a batch (N, C,
        H, W) in [0, 1]; losses in nats an image, and the batch's perplexity, in codes.

        "loss" is all that is minimised; "reconstruction" and "prior" add up to the bound.
        """
        x, labels = mg.asarray(images), self.known(labels)
        out, grads = mg.value_and_grad(self.loss, self.optimizer.parameters)(x)
        loss, reconstruction, commitment, z, codes = out
        self.optimizer.step(grads)
        counts = self.codebook.update(z, codes, rng)

        prior, grads = mg.value_and_grad(self.prior_loss, self.prior)(codes, labels)
        self.prior_optimizer.step(grads)
        return {
            "loss": loss + prior,
            "reconstruction": reconstruction,
            "commitment": commitment,
            "prior": prior,
            "perplexity": perplexity(counts),
        }

    def loss(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(loss of the autoencoder (eq. 3), -log p(x | codes), |z - e|^2 of an image, z, codes)."""
        z = self.encoder(x)
        codes = self.codebook.nearest(z)
        e = self.codebook.look_up(codes)
        quantised = z + (e - z).detach()  # e, with the gradient of z
        nll = self.likelihood.nll(x, self.decoder(quantised)).mean()
        commitment = squared_distance(z, e.detach())
        loss = nll + self.options.beta * commitment
        if self.options.codebook == "loss":
            loss = loss + squared_distance(z.detach(), e)
        return loss, nll, commitment, z, codes

    def prior_loss(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """-log p(codes) of an image, in nats."""
        return self.prior.nll(codes, labels).mean()

    @mg.no_grad()
    def encode(self, images: Any) -> Tensor:
        """The codes of images (N, C, H, W), a grid (N, H / 4, W / 4) int64 of each."""
        x = mg.asarray(images)
        return mg.concatenate(
            [
                self.codebook.nearest(self.encoder(x[i : i + CHUNK]))
                for i in range(0, max(len(x), 1), CHUNK)
            ]
        )

    def codes(self, images: Any, labels: Any = None) -> np.ndarray:
        """As `encode`, as an array; labels change nothing, as only the prior is told them."""
        return self.encode(images).numpy()

    @mg.no_grad()
    def decode(self, codes: Any) -> np.ndarray:
        """The mean image of each grid of codes (n, H / 4, W / 4): (n, C, H, W) in [0, 1]."""
        codes = mg.asarray(codes, device=self.device)
        parts = []
        for i in range(0, max(len(codes), 1), CHUNK):
            out = self.decoder(self.codebook.look_up(codes[i : i + CHUNK]))
            parts.append(self.likelihood.mean(out).numpy())
        return np.concatenate(parts)

    def sample(self, n: int, rng: Generator, *, labels: Any = None) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1] of codes drawn from the prior; a conditional model takes
        `labels` (n,), and goes through the classes in turn without them.
        """
        chosen, parts = self.chosen_labels(n, labels), []
        for i in range(0, max(n, 1), CHUNK):
            told = None if chosen is None else chosen[i : i + CHUNK]
            codes = self.prior.sample(min(CHUNK, n - i), self.grid, rng, told)
            parts.append(self.decode(codes))
        return np.concatenate(parts)

    def interpolate(self, n: int, rng: Generator, *, label: int = 0) -> np.ndarray:
        """n images between two that are drawn: on straight lines between their vectors, each
        exchanged for the nearest of the codebook.
        """
        labels = self.chosen_labels(2, [label] * 2) if self.classes else None
        ends = self.codebook.look_up(self.prior.sample(2, self.grid, rng, labels)).numpy()
        first, last = ends.reshape(2, -1)
        line = straight_line(first, last, n).astype(np.float32)
        z = mg.asarray(line.reshape(n, *ends.shape[1:]), device=self.device)
        return self.decode(self.codebook.nearest(z))

    def reconstruct(self, images: Any, labels: Any = None) -> np.ndarray:
        """The images decoded from their codes, (N, C, H, W) in [0, 1]."""
        return self.decode(self.encode(images))

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """The bound on -log p(x) and its two parts in nats an image, the bound in bits a value (of
        256 levels), the mean squared error of reconstructions, and the perplexity of all codes,
        with 95% intervals.
        """
        nlls, priors, errors, grids = [], [], [], []
        for images, labels in batches:
            x = mg.asarray(images)
            codes = self.encode(x)
            out = self.decoder(self.codebook.look_up(codes))
            nlls += self.likelihood.nll(x, out).tolist()
            priors += self.prior.nll(codes, self.known(labels)).tolist()
            gaps = self.likelihood.mean(out) - x
            errors += (gaps * gaps).mean((1, 2, 3)).tolist()
            grids.append(codes.numpy().reshape(len(codes), -1))
        bound = np.add(nlls, priors)
        bits = self.likelihood.bits_per_dimension(bound, self.image_shape)
        return {
            "negative_elbo": nn.mean_interval(bound),
            "reconstruction": nn.mean_interval(nlls),
            "prior": nn.mean_interval(priors),
            "bits_per_dimension": nn.mean_interval(bits),
            "reconstruction_mse": nn.mean_interval(errors),
            "perplexity": perplexity_interval(np.concatenate(grids)),
        }


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 of an image, the mean over images (N, D, H, W)."""
    gap = a - b
    return (gap * gap).sum() / len(gap)


def perplexity_interval(grids: np.ndarray) -> dict[str, float]:
    """exp of the entropy of all codes of grids (N, places), with its interval over images.

    The entropy is the mean over images of how surprising their codes are.
    """
    counts = np.bincount(grids.reshape(-1))
    surprise = -np.log(np.maximum(counts, 1) / grids.size)[grids].mean(1)
    return {key: float(np.exp(value)) for key, value in nn.mean_interval(surprise).items()}


# the networks ------------------------------------------------------------------------------------


def encoder(options: Any, colours: int, *, rng: Generator) -> nn.Sequential:
    """(N, colours, H, W) -> (N, embedding, H / 4, W / 4): two 4x4 convolutions at stride 2, one
    3x3, residual blocks, 1x1 (section 4.1).
    """
    width = options.channels
    return nn.Sequential(
        nn.Conv2d(colours, width // 2, 4, 2, 1, rng=rng),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 4, 2, 1, rng=rng),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 1, 1, rng=rng),
        *[ResidualBlock(width, rng=rng) for _ in range(options.blocks)],
        nn.ReLU(),
        nn.Conv2d(width, options.embedding, 1, rng=rng),
    )


def decoder(options: Any, outputs: int, *, rng: Generator) -> nn.Sequential:
    """(N, embedding, H / 4, W / 4) -> (N, outputs, H, W): the encoder mirrored."""
    width = options.channels
    return nn.Sequential(
        nn.Conv2d(options.embedding, width, 3, 1, 1, rng=rng),
        *[ResidualBlock(width, rng=rng) for _ in range(options.blocks)],
        nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 4, 2, 1, rng=rng),
        nn.ReLU(),
        nn.ConvTranspose2d(width // 2, outputs, 4, 2, 1, rng=rng),
    )


class ResidualBlock(nn.Module):
    """(N, width, H, W) -> the same: relu, 3x3 to half the width, relu, 1x1, added."""

    def __init__(self, width: int, *, rng: Generator):
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width // 2, 3, 1, 1, rng=rng),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 1, rng=rng),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)
