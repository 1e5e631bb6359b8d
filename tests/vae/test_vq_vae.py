"""`vq-vae`: gradients through the exchange, each option, the bound, sampling and its labels."""

import dataclasses

import numpy as np
import pytest

import minigen as mg
from minigen import kernels, nn
from minigen.testing import gradcheck
from minigen.vae import vq_vae
from minigen.vae.vq_vae import VQVAE, VQVAEOptions, squared_distance

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 1, 8, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
TINY = {"batch_size": 4, "channels": 4, "codes": 6, "embedding": 3, "prior_channels": 4}
SMALL = {**TINY, "prior_layers": 2, "blocks": 1}


@pytest.fixture(autouse=True)
def nothing_to_compile():
    with kernels.use("reference"):
        yield


def make(shape=(1, 8, 8), **options):
    return VQVAE(VQVAEOptions(**SMALL | options), shape, rng=mg.Generator(0))


def trained(steps=3, **options):
    model, rng = make(**options), mg.Generator(1)
    for _ in range(steps):
        losses = model.step(IMAGES, LABELS, rng)
    return model, {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 64, 64), (2, 8, 12)])
def test_codes_are_a_grid_of_a_fourth_of_the_image(shape):
    model = make(shape)
    images = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(np.float32)
    codes = model.codes(images)
    assert codes.shape == (2, shape[1] // 4, shape[2] // 4) and codes.dtype == np.int64
    assert codes.min() >= 0 and codes.max() < 6
    assert model.reconstruct(images).shape == (2, *shape)
    assert model.sample(1, mg.Generator(0)).shape == (1, *shape)


def test_sizes_that_4_does_not_divide_are_refused():
    with pytest.raises(ValueError, match="vq-vae: images are 28x30, expected sizes divisible by 4"):
        make((1, 28, 30))


# gradients ---------------------------------------------------------------------------------------


def with_vectors(model, z):
    """The model with an encoder that gives z whatever the image."""
    model.encoder = nn.Lambda(lambda x: z)
    return model


def test_the_gradient_passes_the_exchange_as_through_the_identity():
    model = make(beta=0.0)
    z = mg.tensor(mg.Generator(1).normal((4, 3, 2, 2)).data, requires_grad=True)
    loss, _, _, _, codes = with_vectors(model, z).loss(mg.asarray(IMAGES))
    (found,) = mg.grad(loss, [z])
    e = mg.tensor(model.codebook.look_up(codes).data, requires_grad=True)
    nll = model.likelihood.nll(mg.asarray(IMAGES), model.decoder(e)).mean()
    (expected,) = mg.grad(nll, [e])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert abs(found.numpy()).max() > 1e-4


def test_gradients_are_those_of_the_loss_with_the_assignments_frozen():
    """To order 2, of f(z) = -log p(x | z + c) + beta |z - e|^2 with c = e - z held fixed."""
    model = make((1, 4, 4), channels=2, beta=0.7).to(dtype=np.float64)
    x = mg.asarray(IMAGES[:2, :, :4, :4].astype(np.float64))
    model.codebook.vectors.data[...] = np.random.default_rng(2).normal(size=(6, 3))
    z = model.encoder(x).detach()
    e = model.codebook.look_up(model.codebook.nearest(z)).detach()
    offset = e - z

    def frozen(z):
        nll = model.likelihood.nll(x, model.decoder(z + offset)).mean()
        return nll + 0.7 * squared_distance(z, e)

    gradcheck(frozen, [z])
    by_model = mg.value_and_grad(lambda: model.loss(x), model.optimizer.parameters)()[1]
    by_hand = mg.value_and_grad(lambda: frozen(model.encoder(x)), model.optimizer.parameters)()[1]
    for a, b in zip(by_model, by_hand, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


def test_the_loss_of_the_codebook_pulls_vectors_to_what_they_stand_for():
    """The gradient of sum |sg(z) - e|^2 / N by e_k is 2 sum (e_k - z) / N (eq. 3)."""
    model, z = make(codebook="loss"), mg.Generator(1).normal((4, 3, 2, 2))
    out = mg.value_and_grad(with_vectors(model, z).loss, [model.codebook.vectors])
    (*_, codes), (found,) = out(mg.asarray(IMAGES))
    flat, chosen = z.numpy().transpose(0, 2, 3, 1).reshape(-1, 3), codes.numpy().reshape(-1)
    e = model.codebook.vectors.numpy()
    expected = np.stack([(e[k] - flat[chosen == k]).sum(0) for k in range(6)]) * 2 / 4
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


# training ----------------------------------------------------------------------------------------


def test_losses_are_nats_an_image():
    model = make(likelihood="bernoulli", beta=0.25)
    x = mg.asarray(IMAGES)
    z = model.encoder(x)
    codes = model.codebook.nearest(z)
    e = model.codebook.look_up(codes)
    nll = model.likelihood.nll(x, model.decoder(e)).mean().item()
    gap = ((z - e).numpy() ** 2).sum((1, 2, 3)).mean()
    prior = model.prior.nll(codes).mean().item()
    losses = model.step(IMAGES, None, mg.Generator(1))
    expected = {"reconstruction": nll, "commitment": gap, "prior": prior}
    expected["loss"] = nll + 0.25 * gap + prior
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    assert nll == pytest.approx(64 * np.log(2), rel=0.1)  # an untrained decoder says 1/2
    assert prior == pytest.approx(4 * np.log(6), rel=0.5)
    assert 1 <= losses["perplexity"].item() <= 6


@pytest.mark.parametrize("codebook", ["ema", "loss"])
def test_training_lowers_the_bound_and_repeats_exactly(codebook):
    def run():
        model, rng = make(codebook=codebook, lr=3e-3, prior_lr=1e-2), mg.Generator(1)
        before = model.evaluate([(IMAGES, None)], rng)["negative_elbo"]["value"]
        losses = [model.step(IMAGES, None, rng)["loss"].item() for _ in range(60)]
        return before, losses, model.evaluate([(IMAGES, None)], rng)["negative_elbo"]["value"]

    before, losses, after = run()
    assert (before, losses, after) == run()
    assert after < before - 3 and np.isfinite(losses).all()


CHANGES = [
    {"channels": 8},
    {"blocks": 2},
    {"codes": 7},
    {"embedding": 4},
    {"codebook": "loss"},
    {"decay": 0.5},
    {"restart": 0.0},
    {"beta": 2.0},
    {"likelihood": "bernoulli"},
    {"likelihood": "gaussian"},
    {"likelihood": "gaussian-pixels"},
    {"sigma": 0.1},
    {"prior_channels": 8},
    {"prior_layers": 3},
    {"conditional": "label"},
    {"conditional": "label", "classes": 3},
    {"lr": 1e-2},
    {"prior_lr": 1e-2},
]


def fingerprint(model):
    """Sums of all weights and buffers: what training has made of them."""
    tensors = model.named_parameters() + model.named_buffers()
    return [(name, value.shape, float(value.sum())) for name, value in tensors]


@pytest.fixture(scope="module")
def plain():
    with kernels.use("reference"):
        return fingerprint(trained()[0])


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_option_changes_what_is_trained(change, plain):
    model, losses = trained(**change)
    assert all(np.isfinite(value) for value in losses.values())
    assert model.classes == (change.get("classes", 10) if "conditional" in change else 0)
    assert fingerprint(model) != plain


def test_all_options_are_among_the_changes():
    tried = {"batch_size"}.union(*CHANGES)
    assert tried == {field.name for field in dataclasses.fields(VQVAEOptions)}


@pytest.mark.parametrize("change", [{}, {"codebook": "loss", "conditional": "label"}], ids=str)
def test_captured_steps_give_the_bits_of_ordinary_ones(change):
    def run(wrap):
        model = make(**change)
        step, rng = wrap(model.step), mg.Generator(1)
        return [v.item() for _ in range(5) for v in step(IMAGES, LABELS, rng).values()]

    assert run(mg.capture) == run(lambda step: step)


# what a trained model gives ----------------------------------------------------------------------


def test_the_bound_is_the_cost_of_codes_and_of_the_image_given_them():
    model, _ = trained(likelihood="logistic")
    metrics = model.evaluate([(IMAGES[:3], None), (IMAGES[3:], None)], mg.Generator(0))
    codes = model.encode(IMAGES)
    nll = model.likelihood.nll(mg.asarray(IMAGES), model.decoder(model.codebook.look_up(codes)))
    bound = (nll + model.prior.nll(codes)).numpy()
    value = {name: each["value"] for name, each in metrics.items()}
    assert value["negative_elbo"] == pytest.approx(bound.mean(), rel=1e-5)
    assert value["reconstruction"] == pytest.approx(nll.numpy().mean(), rel=1e-5)
    assert value["bits_per_dimension"] == pytest.approx(bound.mean() / 64 / np.log(2), rel=1e-5)
    mse = ((model.reconstruct(IMAGES) - IMAGES) ** 2).mean()
    assert value["reconstruction_mse"] == pytest.approx(mse, rel=1e-4)
    p = np.bincount(codes.numpy().reshape(-1)) / codes.size
    entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    assert value["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-5)
    for each in metrics.values():
        assert each["low"] <= each["value"] <= each["high"]


def test_densities_pay_for_256_levels_in_bits():
    model = make(likelihood="gaussian")
    value = {k: v["value"] for k, v in model.evaluate([(IMAGES, None)], mg.Generator(0)).items()}
    bits = value["negative_elbo"] / 64 / np.log(2) + 8
    assert value["bits_per_dimension"] == pytest.approx(bits, rel=1e-5)


def test_reconstructions_and_samples_are_decoded_codes():
    model, _ = trained(likelihood="bernoulli")
    np.testing.assert_array_equal(model.reconstruct(IMAGES), model.decode(model.codes(IMAGES)))
    drawn = model.prior.sample(5, (2, 2), mg.Generator(3))
    samples = model.sample(5, mg.Generator(3))
    np.testing.assert_array_equal(samples, model.decode(drawn))
    assert samples.dtype == np.float32 and 0 < samples.min() < samples.max() < 1
    assert model.sample(0, mg.Generator(0)).shape == (0, 1, 8, 8)


def test_interpolation_goes_from_one_drawn_image_to_another():
    model, _ = trained(8, likelihood="bernoulli")
    frames = model.interpolate(5, mg.Generator(3))
    assert not np.array_equal(frames[0], frames[-1])
    np.testing.assert_allclose(frames[[0, -1]], model.sample(2, mg.Generator(3)), atol=1e-6)


def test_samples_heed_the_class():
    model, _ = trained(30, conditional="label", classes=3, likelihood="bernoulli")
    zeros, ones = (model.sample(20, mg.Generator(3), labels=[y] * 20) for y in (0, 1))
    assert not np.array_equal(zeros, ones)
    np.testing.assert_array_equal(
        model.sample(4, mg.Generator(2)), model.sample(4, mg.Generator(2), labels=[0, 1, 2, 0])
    )
    assert model.interpolate(3, mg.Generator(0), label=2).shape == (3, 1, 8, 8)
    with pytest.raises(ValueError, match="labels are 0 to 3, expected 0 to 2"):
        model.sample(2, mg.Generator(0), labels=[0, 3])
    with pytest.raises(ValueError, match="conditional=label: the images have no labels"):
        model.step(IMAGES, None, mg.Generator(0))
    with pytest.raises(ValueError, match="takes no labels"):
        make().sample(2, mg.Generator(0), labels=[0, 1])


def test_many_images_are_encoded_in_parts(monkeypatch):
    model, sizes = make(), []
    codes = model.codes(IMAGES)
    network = model.encoder.forward
    monkeypatch.setattr(vq_vae, "CHUNK", 2)
    monkeypatch.setattr(model.encoder, "forward", lambda x: sizes.append(len(x)) or network(x))
    np.testing.assert_array_equal(model.codes(IMAGES), codes)
    assert max(sizes) == 2 and sum(sizes) == len(IMAGES)
    assert model.codes(IMAGES[:0]).shape == (0, 2, 2)


def test_averages_decay():
    with pytest.raises(ValueError, match=r"decay=1\.5, expected less than 1"):
        make(decay=1.5)
