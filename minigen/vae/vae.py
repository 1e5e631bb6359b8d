"""`vae`: the variational autoencoder of Kingma & Welling (2013), and what all after it change: the
networks, the likelihood, the objective.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.nn.latent import straight_line
from minigen.ops.sampling import reparameterize_at
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae import estimate, networks
from minigen.vae.doctor import ACTIVE, VAEDoctor
from minigen.vae.likelihoods import likelihood
from minigen.vae.objective import KLPenalty
from minigen.vae.options import VAEOptions

CHUNK = 256  # images decoded at a time


class VAE(nn.Model):
    """q(z | x) = N(mu, sigma^2) from the encoder, p(x | z) from the decoder, p(z) = N(0, I).

    A conditional VAE tells both the label (Sohn et al. 2015).
    """

    Options: ClassVar[type] = VAEOptions
    value_range = (0.0, 1.0)
    reported: ClassVar[tuple[str, ...]] = ("loss", "reconstruction", "kl", "bits_per_dimension")
    bound: ClassVar[str] = "negative_elbo"  # whose bits per dimension `evaluate` gives

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Generator):
        super().__init__(options, image_shape)
        options.check()
        self.likelihood = likelihood(options.likelihood, options.sigma)
        self.encoder = self.make_encoder(rng)
        self.decoder = self.make_decoder(rng)
        self.penalty = KLPenalty(
            beta=options.beta, warmup=options.warmup, free_bits=options.free_bits,
            capacity=options.capacity, capacity_steps=options.capacity_steps,
        )  # fmt: skip
        self.optimizer = optim.Adam(self, lr=options.lr, eps=options.epsilon)

    def make_encoder(self, rng: Generator) -> nn.Module:
        """Images (N, C, H, W), and labels if conditional, -> mu and log sigma^2, (N, 2 latent)."""
        outputs = 2 * self.options.latent
        return networks.make_encoder(self.options, self.image_shape, outputs, rng=rng)

    def make_decoder(self, rng: Generator) -> nn.Module:
        """Codes (N, latent), and labels if conditional, -> what the likelihood takes."""
        channels, *size = self.image_shape
        shape = (channels * self.likelihood.outputs, *size)
        return networks.make_decoder(self.options, self.options.latent, shape, rng=rng)

    @property
    def replays_on_cpu(self) -> bool:
        """Dense networks' steps are many small ops, and recorded take 2/3 of the time."""
        return self.options.network == "dense"

    def doctor(self) -> VAEDoctor:
        """What watches the training for collapse."""
        return VAEDoctor(self)

    # training --------------------------------------------------------------------------------

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """One step of Adam on a batch (N, C, H, W) in [0, 1]: what is minimised, and the terms of
        the bound, in nats an image.
        """
        x, labels = self.observed(mg.asarray(images), rng), self.known(labels)
        losses, grads = mg.value_and_grad(self.losses, self.optimizer.parameters)(x, labels, rng)
        self.optimizer.step(grads)
        self.penalty.count()
        return dict(zip(self.reported, losses, strict=True))

    def losses(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """What is minimised, E_q[-log p(x | z)], KL(q(z | x) || p(z)), means over the batch in nats
        an image (eq. 10), and the bits per dimension of the bound that the last two make.
        """
        nll, kl = self.terms(x, labels, rng)
        nll, penalty = nll.mean(), self.penalty(kl)
        kl = kl.sum(1).mean()
        return nll + penalty, nll, kl, self.bits(nll + kl)

    def terms(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, Tensor]:
        """-log p(x | z) of each image (N,) with one z ~ q(z | x), and the KL of every unit (N,
        latent).
        """
        mu, log_var = self.encode(x, labels)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        return self.likelihood.nll(x, self.decoded(z, labels)), kl

    def observed(self, x: Tensor, rng: Generator) -> Tensor:
        """The images as the model explains them: made 0 or 1 if `binarize` says so."""
        if self.options.binarize == "none":
            return x
        chance = rng.uniform(x.shape) if self.options.binarize == "stochastic" else 0.5
        return (chance < x).astype(x.dtype)

    def encode(self, x: Any, labels: Any = None) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2 of q(z | x), each (N, latent)."""
        x, labels = mg.asarray(x), self.known(labels)
        out = self.encoder(x) if labels is None else self.encoder(x, labels)
        mu, log_var = mg.split(out, 2, axis=1)
        return mu, log_var

    def decoded(self, z: Tensor, labels: Any = None) -> Tensor:
        """What the likelihood takes, (N, outputs C, H, W), of codes."""
        return self.decoder(z) if labels is None else self.decoder(z, mg.asarray(labels))

    def log_weights(self, x: Tensor, labels: Any, rng: Generator, k: int) -> Tensor:
        """log w = log p(x | z) p(z) / q(z | x) for k codes z ~ q(z | x) of each image, (k, N).

        Burda et al. 2016, eq. 7. Their mean's logarithm bounds log p(x) from below.
        """
        mu, log_var = self.encode(x, labels)
        n, shape = len(x), (k, *mu.shape)
        mu, log_var = mg.broadcast_to(mu, shape), mg.broadcast_to(log_var, shape)
        z, _, noise = reparameterize_at(mu, log_var, *rng.reserve(math.prod(shape)))
        ratio = 0.5 * (noise.detach() ** 2 + log_var - z * z).sum(2)
        many = mg.broadcast_to(x, (k, *x.shape)).reshape((k * n, *x.shape[1:]))
        if labels is not None:
            labels = mg.broadcast_to(mg.asarray(labels), (k, n)).reshape((k * n,))
        nll = self.likelihood.nll(many, self.decoded(z.reshape((k * n, -1)), labels))
        return ratio - nll.reshape((k, n))

    def bits(self, nats: Any) -> Any:
        """Bits per dimension of nats an image."""
        return self.likelihood.bits_per_dimension(nats, self.image_shape)

    # using it --------------------------------------------------------------------------------

    @mg.no_grad()
    def decode(self, z: Any, labels: Any = None) -> np.ndarray:
        """The mean image of each code, (n, C, H, W) in [0, 1]; labels as `sample` takes them."""
        z, parts = mg.asarray(z), []
        chosen = self.chosen_labels(len(z), labels)
        with self.evaluating():
            for i in range(0, max(len(z), 1), CHUNK):
                told = None if chosen is None else chosen[i : i + CHUNK]
                parts.append(self.likelihood.mean(self.decoded(z[i : i + CHUNK], told)).numpy())
        return np.concatenate(parts)

    @mg.no_grad()
    def codes(self, images: Any, labels: Any = None) -> np.ndarray:
        """The mean code of each image, (N, latent); a conditional model needs the labels (N,)."""
        x = mg.asarray(images)
        told = self.labels_of(x, labels)
        parts = []
        with self.evaluating():
            for i in range(0, max(len(x), 1), CHUNK):
                part = None if told is None else told[i : i + CHUNK]
                parts.append(self.encode(x[i : i + CHUNK], part)[0].numpy())
        return np.concatenate(parts)

    def sample(self, n: int, rng: Generator, *, labels: Any = None) -> np.ndarray:
        """n images (n, C, H, W) in [0, 1]: the means of p(x | z), z ~ N(0, I).

        A conditional model takes `labels` (n,), and goes through the classes in turn without them.
        """
        z = rng.normal((n, self.options.latent))
        return self.decode(z, labels)

    def interpolate(self, n: int, rng: Generator, *, label: int = 0) -> np.ndarray:
        """n images on the straight line between two codes, of one class."""
        a, b = rng.normal((2, self.options.latent)).numpy()
        z = straight_line(a, b, n).astype(np.float32)
        labels = [label] * n if self.classes else None
        return self.decode(mg.asarray(z, device=self.device), labels)

    def reconstruct(self, images: Any, labels: Any = None) -> np.ndarray:
        """The images decoded from their mean codes, (N, C, H, W) in [0, 1]; labels as `codes`."""
        z = mg.asarray(self.codes(images, labels), device=self.device)
        return self.decode(z, labels)

    def log_likelihood(
        self, images: Any, labels: Any, rng: Generator, *, k: int, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """log p(x) of each image by importance sampling with k codes, and its standard error, in
        nats, each (N,); see `estimate.log_likelihood`.
        """
        return estimate.log_likelihood(self, images, labels, rng=rng, k=k, **options)

    @mg.no_grad()
    def evaluate(self, batches: Iterable, rng: Generator) -> dict[str, dict[str, float]]:
        """-ELBO and its parts in nats an image, bits per dimension, the mean squared error of
        reconstructions, with 95% intervals, and how many units are active (Burda et al. 2016); and
        what `further` gives.
        """
        values: dict[str, list[float]] = defaultdict(list)
        codes = []
        with self.evaluating():
            for images, given in batches:
                labels, x = self.known(given), mg.asarray(images)
                seen = self.observed(x, rng)
                mu, log_var = self.encode(seen, labels)
                z, kl = mg.reparameterize(mu, log_var, rng=rng)
                nll, kl = self.likelihood.nll(seen, self.decoded(z, labels)), kl.sum(1)
                mean = mu if seen is x else self.encode(x, labels)[0]
                gaps = self.likelihood.mean(self.decoded(mean, labels)) - x
                found = {
                    "negative_elbo": nll + kl,
                    "reconstruction": nll,
                    "kl": kl,
                    "reconstruction_mse": (gaps * gaps).mean((1, 2, 3)),
                    **self.further(seen, labels, z, rng),
                }
                for name, each in found.items():
                    values[name] += each.tolist()
                codes.append(mean.numpy())
        metrics = {name: nn.mean_interval(each) for name, each in values.items()}
        bits = {key: float(self.bits(value)) for key, value in metrics[self.bound].items()}
        active = float((np.concatenate(codes).var(0) > ACTIVE).sum())
        return {**metrics, "bits_per_dimension": bits, "active_units": nn.no_interval(active)}

    def further(self, x: Tensor, labels: Any, z: Tensor, rng: Generator) -> dict[str, Tensor]:
        """What else `evaluate` gives the mean of, by name: of images x with codes z ~ q(z | x), a
        value each, or one for all, (1,).
        """
        return {}
