"""`conv-vae`: the variational autoencoder with convolutions, which halve images while
their sizes are even and larger than 7 pixels: 28 and 64 to 7 and 4, but 50 to 25 only.
"""

from dataclasses import dataclass
from typing import ClassVar

from minigen import nn
from minigen.vae.options import VAEOptions
from minigen.vae.vae import VAE


@dataclass(frozen=True)
class ConvVAEOptions(VAEOptions):
    """What can be set in a `conv-vae`."""

    batch_size: int = nn.default(VAEOptions, "batch_size", 64)
    latent: int = nn.default(VAEOptions, "latent", 32)
    network: str = nn.default(VAEOptions, "network", "conv")


class ConvVAE(VAE):
    """VAE of convolutional networks."""

    Options: ClassVar[type] = ConvVAEOptions
