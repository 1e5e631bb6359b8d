"""The labels of VAEs: those of images that exist must be given, new images take classes in turn."""

import numpy as np
import pytest

import minigen as mg
from minigen.vae.cvae import CVAE, CVAEOptions
from minigen.vae.options import VAEOptions
from minigen.vae.vae import VAE

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 1, 8, 8)).astype(np.float32)
Z = np.zeros((4, 2), np.float32)


def make(**options):
    return VAE(VAEOptions(encoder=(8,), decoder=(8,), **options), (1, 8, 8), rng=mg.Generator(0))


def conditional():
    return make(conditional="label", classes=3)


@pytest.mark.parametrize("method", ["encode", "codes", "reconstruct"])
def test_images_that_exist_have_no_class_in_turn(method):
    with pytest.raises(ValueError, match="the images have no labels"):
        getattr(conditional(), method)(IMAGES)


def test_swap_needs_the_labels_of_both():
    options = CVAEOptions(classes=3, network="dense", encoder=(8,), decoder=(8,))
    model, labels = CVAE(options, (1, 8, 8), rng=mg.Generator(0)), [0, 1]
    assert model.swap(IMAGES[:2], IMAGES[2:], labels, labels).shape == (2, 2, 1, 8, 8)
    for told in ((None, labels), (labels, None)):
        with pytest.raises(ValueError, match="the images have no labels"):
            model.swap(IMAGES[:2], IMAGES[2:], *told)


def test_codes_without_labels_are_of_the_classes_in_turn():
    model = conditional()
    np.testing.assert_array_equal(model.decode(Z), model.decode(Z, [0, 1, 2, 0]))


@pytest.mark.parametrize("of", [("decode", Z), ("codes", IMAGES), ("reconstruct", IMAGES)],
                         ids=lambda of: of[0])  # fmt: skip
def test_labels_are_checked(of):
    method, given = of
    with pytest.raises(ValueError, match="labels are 0 to 77, expected 0 to 2"):
        getattr(conditional(), method)(given, [0, 1, 77, 0])
    with pytest.raises(ValueError, match="VAE: takes no labels"):
        getattr(make(), method)(given, [0, 1, 2, 0])
