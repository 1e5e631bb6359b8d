"""Senseless combinations are refused with the reason; the papers' presets are what they say."""

import pytest

import minigen as mg
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.hinge import HingeGAN, HingeGANOptions
from minigen.gan.lsgan import LSGAN
from minigen.gan.pacgan import PacGAN
from minigen.gan.r1 import R1GAN
from minigen.gan.wgan import WGAN
from minigen.gan.wgan_gp import WGANGPOptions
from minigen.train.config import make_config
from minigen.train.registry import MODELS, model_class

REFUSED = [
    (DCGAN, {"regularizer": "gradient-penalty"}, "batch norm mixes them|mixes the images"),
    (DCGAN, {"regularizer": "r1"}, "normalization=batch with regularizer=r1"),
    (DCGAN, {"loss": "wasserstein"}, "no lower bound"),
    (DCGAN, {"loss": "wasserstein", "regularizer": "r1", "normalization": "none"}, "lower bound"),
    (DCGAN, {"spectral_norm": True}, "spectral_norm=true with normalization=batch"),
    (HingeGAN, {"normalization": "layer"}, "spectral_norm=true with normalization=layer"),
    (HingeGAN, {"regularizer": "weight-clipping"}, "irrelevant"),
    (WGAN, {"regularizer_weight": 0.0}, "all weights would be 0"),
    (GAN, {"regularizer_weight": 3.0}, "regularizer_weight=3.0 with regularizer=none"),
    (PacGAN, {"batch_size": 7}, "packing=2 with batch_size=7"),
    (PacGAN, {"conditional": "projection"}, "a pack gets one decision"),
    (GAN, {"minibatch_stddev": True, "batch_size": 1}, "has no deviation"),
    (GAN, {"beta1": 1.0}, "must be below 1"),
    (GAN, {"diff_augment": "translation,rotation"}, "no 'rotation'; there are color"),
]


@pytest.mark.parametrize(("cls", "options", "reason"), REFUSED)
def test_senseless_combinations_are_refused_with_the_reason(cls, options, reason):
    with pytest.raises(ValueError, match=reason) as raised:
        cls(cls.Options(**{"channels": 4} | options), (1, 28, 28), rng=mg.Generator(0))
    assert "\n" not in str(raised.value)


def test_presets_are_those_of_the_papers():
    wgan, gp, hinge = WGAN.Options(), WGANGPOptions(), HingeGANOptions()
    assert (wgan.loss, wgan.regularizer, wgan.optimizer) == (
        "wasserstein", "weight-clipping", "rmsprop",
    )  # fmt: skip
    assert (wgan.critic_steps, wgan.lr, wgan.batch_size) == (5, 5e-5, 64)
    assert (gp.loss, gp.regularizer, gp.critic_steps) == ("wasserstein", "gradient-penalty", 5)
    assert (gp.lr, gp.beta1, gp.beta2, gp.normalization) == (1e-4, 0.0, 0.9, "layer")
    assert (hinge.loss, hinge.spectral_norm, hinge.normalization) == ("hinge", True, "none")
    assert LSGAN.Options().loss == "least-squares" and PacGAN.Options().packing == 2
    assert R1GAN.Options().regularizer == "r1"
    assert (GANOptions().batch_size, GANOptions().lr, GANOptions().beta1) == (100, 2e-4, 0.5)
    assert (DCGANOptions().batch_size, DCGANOptions().latent) == (128, 100)
    assert (DCGANOptions().network, DCGANOptions().normalization) == ("dcgan", "batch")


@pytest.mark.parametrize("name", [n for n, e in MODELS.items() if e.family == "gan"])
def test_each_gan_of_the_list_can_be_made_and_keeps_its_help(name):
    cls = model_class(name)
    for field in cls.Options.__dataclass_fields__.values():
        assert field.metadata["help"], field.name
    model = cls(cls.Options(channels=4), (1, 28, 28), rng=mg.Generator(0))
    assert model.sample(2, mg.Generator(0)).shape == (2, 1, 28, 28)
    assert model.value_range == (-1.0, 1.0)


def test_loss_and_regularizer_can_be_set_on_the_command_line():
    config = make_config("dcgan", settings=[
        "loss=hinge", "normalization=none", "spectral_norm=true", "regularizer_weight=none",
    ])  # fmt: skip
    assert config.options == DCGANOptions(loss="hinge", normalization="none", spectral_norm=True)
