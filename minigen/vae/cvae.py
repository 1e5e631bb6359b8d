"""`cvae`: a VAE that is told the class, so that one can ask for it; what its code holds is what the
class does not say, the style (Kingma et al. 2014, section 4.4; Sohn et al. 2015).

The bound alone makes images whose class is hard to tell: the few pixels by which a coat differs
from a pullover cost next to nothing, and are blurred away. So a classifier, trained beside it on
real images, says what class the images of random codes seem to be of (Bao et al. 2017, CVAE-GAN,
without the GAN). `classifier=0` leaves it out.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import minigen as mg
from minigen import nn, optim
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.vae.conv_vae import ConvVAE, ConvVAEOptions
from minigen.vae.networks import NETWORKS

NOISE = 0.1  # on what the classifier sees, so that it looks at more than edges and textures


@dataclass(frozen=True)
class CVAEOptions(ConvVAEOptions):
    """What can be set in a `cvae`."""

    latent: int = nn.default(ConvVAEOptions, "latent", 16)
    conditional: str = nn.default(ConvVAEOptions, "conditional", "label")
    classifier: float = nn.option(
        50.0, "weight of the nats by which samples miss their class, if conditional; 0: none",
        least=0,
    )  # fmt: skip


class CVAE(ConvVAE):
    """VAE of labelled images."""

    Options: ClassVar[type] = CVAEOptions

    def __init__(self, options: Any, image_shape: tuple[int, ...], *, rng: Generator):
        super().__init__(options, image_shape, rng=rng)
        self.classifier: Any = None
        if options.classifier and self.classes:
            build, _ = NETWORKS[options.network]
            self.classifier = build(options, self.image_shape, options.classes, rng)
            self.classifier_optimizer = optim.Adam(self.classifier, lr=options.lr)
            self.reported = (*ConvVAE.reported, "missed_class")  # type: ignore[misc]

    @nn.replayable
    def step(self, images: Any, labels: Any, rng: Generator) -> dict[str, Tensor]:
        """A VAE's step, after one of the classifier; "missed_class" is what the classifier says of
        images of random codes: -log of their class's probability, in nats.
        """
        images, labels = mg.asarray(images), self.known(labels)
        if self.classifier is not None:
            _, grads = mg.value_and_grad(self.missed, self.classifier)(images, labels, rng)
            self.classifier_optimizer.step(grads)
        return super().step(images, labels, rng)

    def losses(self, x: Tensor, labels: Any, rng: Generator) -> tuple[Tensor, ...]:
        """A VAE's, the first with what samples miss of their classes, which is the last."""
        found = super().losses(x, labels, rng)
        if self.classifier is None:
            return found
        z = rng.normal((len(x), self.options.latent))
        missed = self.missed(self.likelihood.mean(self.decoded(z, labels)), labels, rng)
        return found[0] + self.options.classifier * missed, *found[1:], missed

    def missed(self, images: Tensor, labels: Any, rng: Generator) -> Tensor:
        """The classifier's cross-entropy, in nats."""
        seen = images + NOISE * rng.normal(images.shape)
        return mg.cross_entropy(self.classifier(seen), labels)

    def swap(
        self,
        contents: Any,
        styles: Any,
        labels_of_contents: Any = None,
        labels_of_styles: Any = None,
    ) -> np.ndarray:
        """Images of the class of the i-th content in the style of the j-th, (n, m, C, H, W) in [0,
        1], of images (n, C, H, W) and (m, C, H, W) and their labels.

        Raises ValueError without classes.
        """
        if not self.classes:
            raise ValueError(
                "cvae: conditional=none, and without classes there is nothing to swap; train with"
                " conditional=label"
            )
        n, m = len(contents), len(styles)
        z = np.tile(self.codes(styles, labels_of_styles), (n, 1))
        kinds = mg.repeat(self.labels_of(contents, labels_of_contents), m)
        made = self.decode(mg.asarray(z, device=self.device), kinds)
        return made.reshape(n, m, *self.image_shape)
