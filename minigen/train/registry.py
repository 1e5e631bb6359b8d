"""The table of models: name -> family, where the class is, one line of help.

Classes are imported when they are asked for, so that `minigen list` stays quick. A model that is
not in the table is named by where it is: "package.module:Class".
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigen.train.errors import UsageError, nearest


@dataclass(frozen=True)
class Entry:
    """One model of the table; `target` is "package.module:Class"."""

    name: str
    family: str
    target: str
    help: str
    default_steps: int = 1000


# Steps: where the samples of the embedded Fashion-MNIST stop getting better to the eye.
_ENTRIES = (
    Entry(
        "gan", "gan", "minigen.gan.gan:GAN",
        "the generative adversarial network (Goodfellow et al. 2014), dense generator", 4000,
    ),
    Entry(
        "dcgan", "gan", "minigen.gan.dcgan:DCGAN",
        "deep convolutional GAN (Radford et al. 2015), 28 to 128 pixels", 4000,
    ),
    Entry(
        "lsgan", "gan", "minigen.gan.lsgan:LSGAN",
        "least-squares loss (Mao et al. 2017)", 4000,
    ),
    Entry(
        "wgan", "gan", "minigen.gan.wgan:WGAN",
        "Wasserstein GAN, weight clipping, 5 critic steps (Arjovsky et al. 2017)", 4000,
    ),
    Entry(
        "wgan-gp", "gan", "minigen.gan.wgan_gp:WGANGP",
        "Wasserstein GAN, gradient penalty, 5 critic steps (Gulrajani et al. 2017)", 4000,
    ),
    Entry(
        "hinge", "gan", "minigen.gan.hinge:HingeGAN",
        "hinge loss, spectral normalisation (Miyato et al. 2018)", 4000,
    ),
    Entry(
        "r1", "gan", "minigen.gan.r1:R1GAN",
        "gradient penalty at real images (Mescheder et al. 2018)", 4000,
    ),
    Entry(
        "began", "gan", "minigen.gan.began:BEGAN",
        "an autoencoder judges, in equilibrium (Berthelot et al. 2017)", 4000,
    ),
    Entry(
        "pacgan", "gan", "minigen.gan.pacgan:PacGAN",
        "a discriminator of packs of images, against mode collapse (Lin et al. 2018)", 4000,
    ),
    Entry(
        "cgan", "gan", "minigen.gan.cgan:CGAN",
        "images of a class (Mirza & Osindero 2014; Miyato & Koyama 2018)", 4000,
    ),
    Entry(
        "pggan", "gan", "minigen.gan.pggan:PGGAN",
        "progressive growing, 28 to 128 pixels (Karras et al. 2017)", 4000,
    ),
    Entry(
        "biggan", "gan", "minigen.gan.biggan:BigGAN",
        "class-conditional residual GAN, small (Brock et al. 2018), 28 to 128 pixels", 4000,
    ),
    Entry(
        "vae", "vae", "minigen.vae.vae:VAE",
        "variational autoencoder (Kingma & Welling 2013), dense", 20_000,
    ),
    Entry(
        "conv-vae", "vae", "minigen.vae.conv_vae:ConvVAE",
        "variational autoencoder with convolutions", 5000,
    ),
    Entry(
        "beta-vae", "vae", "minigen.vae.beta_vae:BetaVAE",
        "few units carry, each a factor (Higgins et al. 2017; Burgess et al. 2018)", 5000,
    ),
    Entry(
        "cvae", "vae", "minigen.vae.cvae:CVAE",
        "images of a class (Kingma et al. 2014; Sohn et al. 2015)", 5000,
    ),
    Entry(
        "iwae", "vae", "minigen.vae.iwae:IWAE",
        "importance-weighted autoencoder, a tighter bound (Burda et al. 2016)", 10_000,
    ),
    Entry(
        "mmd-vae", "vae", "minigen.vae.mmd_vae:MMDVAE",
        "InfoVAE with the maximum mean discrepancy (Zhao et al. 2017)", 5000,
    ),
    Entry(
        "style-vae", "vae", "minigen.vae.style_vae:StyleVAE",
        "content and style apart, to swap them (as Huang & Belongie 2017)", 5000,
    ),
    Entry(
        "vq-vae", "vae", "minigen.vae.vq_vae:VQVAE",
        "discrete codes and a prior over them (van den Oord et al. 2017), sharp", 4000,
    ),
    Entry(
        "vae-gan", "vae", "minigen.vae.vae_gan:VAEGAN",
        "a discriminator's features judge reconstructions (Larsen et al. 2016)", 5000,
    ),
    Entry(
        "enhance-vae", "vae", "minigen.vae.enhance_vae:EnhanceVAE",
        "photographs denoised, brightened, enlarged (conditional VAE, Sohn et al. 2015)", 20_000,
    ),
)  # fmt: skip
MODELS: dict[str, Entry] = {each.name: each for each in _ENTRIES}


def register(name: str, family: str, target: str, help: str, default_steps: int = 1000) -> None:
    """Add a model to the table (the class at `target`, "package.module:Class", is not imported)."""
    MODELS[name] = Entry(name, family, target, help, default_steps)


def entry(name: str) -> Entry:
    """The table's entry for a name, or one made for "package.module:Class".

    Raises UsageError, with the nearest right name, for a name that is neither.
    """
    if name in MODELS:
        return MODELS[name]
    module, _, cls = name.partition(":")
    if module and cls:
        return Entry(name, "own", name, "a model of your own")
    raise UsageError(f"no model {name!r}{nearest(name, MODELS)}")


def model_class(name: str) -> Any:
    """The class of a model, a subclass of `nn.Model`; UsageError when there is none."""
    module_name, _, class_name = entry(name).target.partition(":")
    if name not in MODELS and str(Path.cwd()) not in sys.path:
        # The console script, unlike `python -m`, does not search the current folder.
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise UsageError(
            f"model {name!r}: no module {error.name!r}; expected package.module:Class"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not hasattr(found, "Options"):
        raise UsageError(
            f"model {name!r}: {module_name} has no class {class_name!r} with Options;"
            " expected a subclass of minigen.nn.Model"
        )
    return found
