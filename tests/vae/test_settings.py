"""What can be set in a VAE: each option changes the training of each model that takes it, and those
that change from step to step do so in steps.
"""

import dataclasses

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from minigen.vae.cvae import CVAE
from minigen.vae.iwae import IWAE
from minigen.vae.mmd_vae import MMDVAE
from minigen.vae.vae import VAE

IMAGES = np.random.default_rng(0).uniform(0, 1, (6, 1, 8, 8)).astype(np.float32)
LABELS = np.arange(6) % 3
TINY = {"latent": 2, "encoder": (6,), "decoder": (5,), "channels": 2, "network": "dense"}
SAME = {"activation": "relu", "binarize": "none", "beta": 1.0, "epsilon": 1e-8}  # where they differ


@pytest.fixture(autouse=True)
def nothing_to_compile():
    with kernels.use("reference"):
        yield


def make(cls=VAE, **options):
    return cls(cls.Options(**TINY | SAME | options), (1, 8, 8), rng=mg.Generator(0))


def trained(cls, images=IMAGES, **options):
    """The weights, by name, shape and sum, after 3 steps."""
    model, rng = make(cls, **options), mg.Generator(1)
    for _ in range(3):
        losses = model.step(images, LABELS, rng)
    assert all(np.isfinite(each.item()) for each in losses.values())
    return [(name, p.shape, float(p.numpy().sum())) for name, p in model.named_parameters()]


CHANGES = [  # the last of each row against the row without it
    {"latent": 3},
    {"network": "conv"},
    {"encoder": (7,)},
    {"decoder": (7,)},
    {"network": "conv", "channels": 3},
    {"activation": "tanh"},
    {"network": "conv", "activation": "tanh"},
    {"likelihood": "gaussian"},
    {"likelihood": "gaussian-pixels"},
    {"likelihood": "logistic"},
    {"likelihood": "gaussian", "sigma": 0.5},
    {"likelihood": "logistic", "sigma": 0.5},
    {"likelihood": "gaussian", "sigma": 0.0},
    {"binarize": "stochastic"},
    {"binarize": "threshold"},
    {"conditional": "label"},
    {"conditional": "label", "classes": 4},
    {"lr": 1e-2},
    {"epsilon": 1e-3},
]
OF_THE_KL = [
    {"beta": 5.0},
    {"warmup": 2},
    {"free_bits": 1.0},
    {"capacity": 3.0},
    {"capacity": 3.0, "capacity_steps": 2},
]
OWN = [(IWAE, {"samples": 3}), (MMDVAE, {"mmd": 9.0}),
       (CVAE, {"conditional": "label", "classifier": 5.0})]  # fmt: skip
TRIED = [(cls, change) for cls in (VAE, IWAE, MMDVAE) for change in CHANGES]
TRIED += [(cls, change) for cls in (VAE, MMDVAE) for change in OF_THE_KL] + OWN


@pytest.mark.parametrize(
    "cls, change", TRIED, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_each_option_changes_what_is_trained(cls, change):
    others = list(change)[:-1]
    assert trained(cls, **change) != trained(cls, **{name: change[name] for name in others})


def test_all_options_are_among_the_changes():
    for cls, own in ((VAE, {}), *OWN):
        tried = {"batch_size"}.union(own, *CHANGES, *OF_THE_KL)
        assert tried == {field.name for field in dataclasses.fields(cls.Options)}
        assert make(cls, batch_size=5, conditional="label").images_per_step == 5


def test_the_weight_of_the_kl_rises_with_the_steps():
    model, rng = make(beta=3.0, warmup=4), mg.Generator(1)
    for share in (0, 0.25, 0.5, 0.75, 1, 1):
        found = {name: value.item() for name, value in model.step(IMAGES, None, rng).items()}
        weighed = found["loss"] - found["reconstruction"]
        assert weighed == pytest.approx(3 * share * found["kl"], rel=1e-3, abs=1e-5)


def test_the_capacity_rises_with_the_steps():
    model, rng = make(beta=3.0, capacity=8.0, capacity_steps=4), mg.Generator(1)
    for ceiling in (0, 2, 4, 6, 8, 8):
        found = {name: value.item() for name, value in model.step(IMAGES, None, rng).items()}
        weighed = found["loss"] - found["reconstruction"]
        assert weighed == pytest.approx(3 * abs(found["kl"] - ceiling), rel=1e-3)


@pytest.mark.parametrize("cls", [VAE, IWAE])
def test_what_is_explained_is_0_or_1_wherever_images_come_in(cls):
    """In training, evaluation and the estimate of log p(x) grey images are as black and white."""
    black_and_white = (IMAGES > 0.5).astype(np.float32)
    model, plain = make(cls, binarize="threshold"), make(cls)
    assert trained(cls, binarize="threshold") == trained(cls, black_and_white)
    for name in ("negative_elbo", "bits_per_dimension"):
        found, expected = (
            each.evaluate([(images, None)], mg.Generator(1))[name]
            for each, images in ((model, IMAGES), (plain, black_and_white))
        )
        assert found == expected != plain.evaluate([(IMAGES, None)], mg.Generator(1))[name]
    found, expected = (
        each.log_likelihood(images, None, mg.Generator(1), k=3)[0]
        for each, images in ((model, IMAGES), (plain, black_and_white))
    )
    np.testing.assert_array_equal(found, expected)
