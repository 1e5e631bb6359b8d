"""The training steps that are timed: name -> a function that makes the workload, of any `batch`."""

from functools import partial

from .gan import Critic, InfoGAN, dcgan, gan
from .latent import MINE, ConvVAE, DenseVAE
from .pictures import DnCNN, Restoration, StyleTransfer

WORKLOADS = {
    "gan": gan,
    "vae": DenseVAE,
    "dcgan-28": partial(dcgan, 28, 1),
    "dcgan-32": partial(dcgan, 32, 3),
    "dcgan-64": partial(dcgan, 64, 3),
    "wgan-gp-32": Critic,
    "conv-vae-32": ConvVAE,
    "infogan-28": InfoGAN,
    "mine-20d": MINE,
    "dncnn-40": DnCNN,
    "unet-64": Restoration,
    "vgg16-256": StyleTransfer,
}

# A batch to look at the numbers with, not at the time; batch norm wants a few.
SMALL = {name: 1 if name == "vgg16-256" else 4 for name in WORKLOADS}
