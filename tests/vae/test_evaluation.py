"""What VAEs are measured by: one pass, a batch at a time, and what is each model's own."""

import numpy as np
import pytest

import minigen as mg
from minigen.train.config import make_config
from minigen.vae.conv_vae import ConvVAE
from minigen.vae.iwae import IWAE
from minigen.vae.mmd_vae import MMDVAE, discrepancy
from minigen.vae.vae_gan import VAEGAN

IMAGES = np.random.default_rng(0).uniform(0, 1, (5, 1, 8, 8)).astype(np.float32)


def make(cls, **options):
    options = {"channels": 2, "latent": 3, "network": "conv", **options}
    return cls(cls.Options(**options), (1, 8, 8), rng=mg.Generator(0))


def further(cls):
    return set(make(cls).evaluate([(IMAGES, None)], mg.Generator(1))) - set(
        make(ConvVAE).evaluate([(IMAGES, None)], mg.Generator(1))
    )


@pytest.mark.parametrize("cls", [ConvVAE, IWAE, MMDVAE, VAEGAN])
def test_no_batch_is_kept_while_the_next_is_made(cls, monkeypatch):
    model, seen = make(cls), []
    own = model.further
    monkeypatch.setattr(model, "further", lambda x, *rest: seen.append(len(x)) or own(x, *rest))

    def batches():
        for i in range(1, 4):
            yield IMAGES[:i], None
            assert seen == list(range(1, i + 1))

    assert "active_units" in model.evaluate(batches(), mg.Generator(1)) and len(seen) == 3


def test_images_are_encoded_once_and_twice_if_drawn(monkeypatch):
    for binarize, passes in (("none", 1), ("threshold", 2)):
        model, sizes = make(ConvVAE, binarize=binarize), []
        network = model.encoder.forward
        spy = lambda x, network=network, sizes=sizes: sizes.append(len(x)) or network(x)
        monkeypatch.setattr(model.encoder, "forward", spy)
        model.evaluate([(IMAGES, None)], mg.Generator(1))
        assert sizes == [5] * passes


def test_codes_and_reconstructions_are_of_images_as_they_are():
    model = make(ConvVAE, binarize="threshold")
    found = model.evaluate([(IMAGES, None)], mg.Generator(1))["reconstruction_mse"]["value"]
    expected = ((model.reconstruct(IMAGES) - IMAGES) ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_each_model_adds_its_own():
    assert further(IWAE) == {"iwae_bound"} and further(MMDVAE) == {"mmd"}
    assert further(VAEGAN) == {"feature_reconstruction", "generator_loss", "discriminator_loss"}


def test_the_discrepancy_is_the_mean_over_batches_of_more_than_one_image():
    model = make(MMDVAE)
    model.encoder[-1].bias.data[:] = [1.5, 1.5, 1.5, -30, -30, -30]  # codes without noise, far off
    parts = [(IMAGES[:3], None), (IMAGES[3:], None), (IMAGES[:1], None)]
    found = model.evaluate(parts, mg.Generator(1))["mmd"]["value"]
    rng, expected = mg.Generator(1), []
    for images, _ in parts[:2]:
        rng.normal((len(images), 3))  # as drawn for z
        mu, _ = model.encode(images)
        expected.append(discrepancy(mu, rng.normal(mu.shape)).item())
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_codes_are_compared_with_those_of_other_images():
    with pytest.raises(ValueError, match="batch_size"):
        make_config("mmd-vae", settings=["batch_size=1"])
    assert make_config("mmd-vae", settings=["batch_size=2"]).options.batch_size == 2
