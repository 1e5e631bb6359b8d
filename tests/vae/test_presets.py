"""The VAEs that are choices of options, and what they add: swaps of style, the discrepancy."""

import numpy as np
import pytest

import minigen as mg
from minigen.testing import gradcheck
from minigen.vae.beta_vae import BetaVAE
from minigen.vae.cvae import CVAE
from minigen.vae.mmd_vae import MMDVAE, discrepancy

IMAGES = np.random.default_rng(0).uniform(0, 1, (12, 1, 28, 28)).astype(np.float32)
LABELS = np.arange(12) % 3


def make(cls, **options):
    return cls(cls.Options(channels=4, **options), (1, 28, 28), rng=mg.Generator(0))


def test_a_larger_beta_carries_fewer_nats():
    found = []
    for beta in (0.1, 10.0):
        model, rng = make(BetaVAE, beta=beta), mg.Generator(1)
        for _ in range(60):
            losses = model.step(IMAGES, None, rng)
        found.append(losses["kl"].item())
    assert found[1] < 0.5 * found[0]


def test_swap_is_the_class_of_one_and_the_code_of_the_other():
    model = make(CVAE, classes=3)
    swapped = model.swap(IMAGES[:4], IMAGES[4:6], LABELS[:4], LABELS[4:6])
    assert swapped.shape == (4, 2, 1, 28, 28)
    z = mg.asarray(model.codes(IMAGES[5:6], LABELS[5:6]))
    np.testing.assert_allclose(swapped[2, 1], model.decode(z, LABELS[2:3])[0], rtol=1e-5)


def test_without_classes_there_is_nothing_to_swap():
    with pytest.raises(ValueError, match="conditional=none, and without classes there is nothing"):
        make(CVAE, conditional="none").swap(IMAGES[:2], IMAGES[2:4])


def test_the_classifier_learns_from_real_images_and_the_vae_from_the_classifier():
    model, rng = make(CVAE, classes=3, classifier=20.0, lr=3e-3), mg.Generator(1)
    images = np.zeros((12, 1, 28, 28), np.float32)
    for image, label in zip(images, LABELS, strict=True):
        image[0, 9 * label : 9 * label + 9] = 1
    parts = (model.encoder, model.decoder, model.classifier)
    x, told = mg.asarray(images), mg.asarray(LABELS)
    for loss, moved in ((model.losses(x, told, rng)[-1], (False, True, True)),
                        (model.missed(x, told, rng), (False, False, True))):  # fmt: skip
        for part, reached in zip(parts, moved, strict=True):
            grads = mg.grad(loss, part.parameters(), allow_unused=True)
            assert any(g is not None and bool((g.numpy() != 0).any()) for g in grads) is reached
    before = [p.data.copy() for p in model.classifier.parameters()]
    first = model.step(images, LABELS, rng)
    for p, b in zip(model.classifier.parameters(), before, strict=True):
        assert abs(p.data - b).max() < 1.1 * 3e-3  # one step of Adam: the VAE's leaves it alone
    for _ in range(60):
        last = model.step(images, LABELS, rng)
    assert last["missed_class"].item() < 0.3 * first["missed_class"].item()


def test_a_cvae_without_a_classifier_is_a_conditional_vae():
    plain, other = make(CVAE, classes=3, classifier=0.0), make(CVAE, classes=3)
    assert "missed_class" not in plain.step(IMAGES, LABELS, mg.Generator(1))
    count = lambda model: len(model.parameters())
    assert count(other) == count(plain) + len(other.classifier.parameters())
    without = make(CVAE, conditional="none")  # images have no class to miss
    assert without.classifier is None and "loss" in without.step(IMAGES, LABELS, mg.Generator(1))


def test_discrepancy_is_none_of_one_distribution_and_grows_with_the_distance():
    rng = mg.Generator(0)
    same = [discrepancy(rng.normal((64, 3)), rng.normal((64, 3))).item() for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)  # unbiased
    far = [discrepancy(rng.normal((64, 3)) + d, rng.normal((64, 3))).item() for d in (0.5, 1, 2)]
    assert 4 * np.std(same) < far[0] < far[1] < far[2]


def test_discrepancy_is_the_double_sum():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(5, 2)), draw.normal(size=(5, 2))
    k = lambda a, b: np.exp(-((a - b) ** 2).sum() / 4)
    pairs = [(i, j) for i in range(5) for j in range(5)]
    expected = sum((k(x[i], x[j]) + k(y[i], y[j])) / 20 for i, j in pairs if i != j)
    expected -= 2 * sum(k(x[i], y[j]) / 25 for i, j in pairs)
    assert discrepancy(mg.tensor(x), mg.tensor(y)).item() == pytest.approx(expected)
    gradcheck(discrepancy, [x, y], order=2)


def test_mmd_draws_the_codes_to_the_prior():
    spread = []
    for weight in (0.0, 3000.0):
        model, rng = make(MMDVAE, mmd=weight, lr=3e-3), mg.Generator(1)
        model.encoder[-1].bias.data[:10] = 1.5  # codes far from the prior
        for _ in range(60):
            losses = model.step(IMAGES, None, rng)
        spread.append(losses["mmd"].item())
    assert spread[1] < 0.5 * spread[0]


def test_an_mmd_vae_minimises_its_terms_by_their_weights():
    model = make(MMDVAE, beta=3.0, mmd=70.0)
    model.encoder[-1].bias.data[:10] = 1.5  # codes far from the prior
    found = {key: each.item() for key, each in model.step(IMAGES, None, mg.Generator(1)).items()}
    assert found["kl"] > 5 and found["mmd"] > 0.1
    weighed = 3 * found["kl"] + 70 * found["mmd"]
    assert found["loss"] - found["reconstruction"] == pytest.approx(weighed, rel=1e-4)
