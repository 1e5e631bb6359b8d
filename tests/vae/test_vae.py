"""`vae`: the bound against closed forms, and the linear case against its exact optimum."""

import copy
import pickle

import numpy as np
import pytest

import minigen as mg
from minigen.vae.options import VAEOptions
from minigen.vae.vae import VAE

IMAGES = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)


def make(shape=(1, 28, 28), **options):
    return VAE(VAEOptions(**options), shape, rng=mg.Generator(0))


def test_networks_follow_the_table():
    shapes = [p.shape for p in make().parameters() if p.ndim == 2]
    assert shapes == [(128, 784), (64, 128), (4, 64), (256, 2), (128, 256), (784, 128)]


def test_loss_is_nats_per_image_and_kl_the_closed_form():
    model, x = make(), mg.asarray(IMAGES)
    loss, nll, kl, bits = model.losses(x, None, mg.Generator(1))
    mu, log_var = (t.numpy() for t in model.encode(x))
    closed = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(1).mean()
    assert kl.item() == pytest.approx(closed, rel=1e-5)
    assert loss.item() == pytest.approx(nll.item() + kl.item(), rel=1e-6)
    assert nll.item() == pytest.approx(784 * np.log(2), rel=0.05)  # an untrained decoder says 1/2
    assert bits.item() == pytest.approx(loss.item() / np.log(2) / 784, rel=1e-6)


def test_kl_equals_its_monte_carlo_estimate():
    rng = mg.Generator(0)
    mu, log_var = mg.tensor(np.full((200_000, 1), 0.7)), mg.tensor(np.full((200_000, 1), -0.9))
    z, kl = (t.numpy() for t in mg.reparameterize(mu, log_var, rng=rng))
    log_q = -0.5 * ((z - 0.7) ** 2 / np.exp(-0.9) - 0.9)
    sampled = log_q + 0.5 * z**2
    error = 4 * sampled.std() / len(z) ** 0.5
    assert abs(sampled.mean() - kl[0, 0]) < error


def test_linear_vae_reaches_the_ppca_optimum():
    """Its best bound is the PPCA likelihood (Tipping & Bishop 1999; Lucas et al. 2019)."""
    n, d, k = 512, 8, 2
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, k)) @ draw.standard_normal((k, d)) * 2
    x = (x + draw.standard_normal((n, d))).astype(np.float32)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    noise = values[k:].mean()
    optimum = 0.5 * (d * np.log(2 * np.pi) + np.log(values[:k]).sum() + (d - k) * np.log(noise) + d)

    model = make((1, 1, d), latent=k, encoder=(), decoder=(), likelihood="gaussian", sigma=0.0)
    rng, images = mg.Generator(1), x.reshape(n, 1, 1, d)
    for lr, steps in ((2e-2, 800), (2e-3, 500)):
        model.optimizer.lr = lr
        for _ in range(steps):
            model.step(images, None, rng)
    with mg.no_grad():
        bound = np.mean([model.losses(mg.asarray(images), None, rng)[0].item() for _ in range(50)])
    assert optimum < bound + 0.05  # a bound lies above the optimum
    assert bound == pytest.approx(optimum, rel=0.01)
    assert np.exp(model.likelihood.log_sigma.item()) ** 2 == pytest.approx(noise, rel=0.05)


@pytest.mark.parametrize("options", [{}, {"warmup": 20}, {"capacity": 3.0, "capacity_steps": 9}])
def test_training_lowers_the_loss_and_a_recorded_step_repeats_it_exactly(options):
    def run(recorded):
        model, rng = make(**options), mg.Generator(1)
        step = mg.capture(model.step) if recorded else model.step
        return [step(IMAGES, None, rng)["loss"].item() for _ in range(40)]

    losses = run(recorded=False)
    assert losses == run(recorded=True) and losses[-1] < losses[0] - 10


def test_samples_reconstructions_and_metrics():
    model, rng = make(), mg.Generator(1)
    for images in (model.sample(5, rng), model.reconstruct(IMAGES), model.interpolate(5, rng)):
        assert images.shape[1:] == (1, 28, 28) and images.min() >= 0 and images.max() <= 1
    metrics = model.evaluate([(IMAGES, None), (IMAGES, None)], rng)
    total = metrics["reconstruction"]["value"] + metrics["kl"]["value"]
    assert metrics["negative_elbo"]["value"] == pytest.approx(total)
    assert metrics["negative_elbo"]["low"] < total < metrics["negative_elbo"]["high"]


def test_evaluate_gives_the_means_of_the_terms_over_all_images():
    """With an encoder that is all but certain, the code of an image is the same every time."""
    model = make((1, 1, 4), latent=3, encoder=(), decoder=(8,), likelihood="gaussian")
    weight, bias = model.encoder[1].weight.data, model.encoder[1].bias.data
    weight[...], bias[...] = 0, [0, 0, 0, -30, -30, -30]
    weight[0, 0], weight[1, 1] = 2, 0.2  # of variance 1/3 and 1/300, which is less than 0.01
    images = np.random.default_rng(1).uniform(0, 1, (60, 1, 1, 4)).astype(np.float32)
    parts = [(images[:50], None), (images[50:], None)]
    found = {key: each["value"] for key, each in model.evaluate(parts, mg.Generator(1)).items()}
    nll, kl = (t.numpy() for t in model.terms(mg.asarray(images), None, mg.Generator(2)))
    bound = nll.mean() + kl.sum(1).mean()
    assert found == pytest.approx(
        {
            "negative_elbo": bound,
            "bits_per_dimension": bound / 4 / np.log(2) + 8,  # a density, of 256 levels
            "reconstruction": nll.mean(),
            "kl": kl.sum(1).mean(),
            "reconstruction_mse": ((model.reconstruct(images) - images) ** 2).mean(),
            "active_units": 1,
        },
        rel=1e-4,
    )


def test_a_copy_of_a_trained_vae_trains_alone():
    model, images = make((1, 5, 5), encoder=[8], decoder=[8]), IMAGES[:, :, :5, :5]
    for _ in range(3):
        model.step(images, None, mg.Generator(1))
    before = [p.data.copy() for p in model.parameters()]
    losses = []
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        steps = [other.step(images, None, mg.Generator(1)) for _ in range(4)]
        losses.append([step["loss"].item() for step in steps])
    assert losses[0] == losses[1] and len(set(losses[0])) == 4
    for p, b in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, b)


@pytest.mark.parametrize("binarize", ["stochastic", "threshold"])
def test_pixels_are_made_0_or_1(binarize):
    model, x = make(binarize=binarize), mg.asarray(np.full((2, 1, 28, 28), 0.7, np.float32))
    seen = model.observed(x, mg.Generator(0)).numpy()
    share = {"stochastic": pytest.approx(0.7, abs=0.05), "threshold": 1.0}[binarize]
    assert set(np.unique(seen)) <= {0, 1} and seen.mean() == share
    assert make().observed(x, mg.Generator(0)) is x


def test_a_conditional_vae_uses_its_labels_on_both_sides():
    model, x = make(conditional="label", classes=3), mg.asarray(IMAGES)
    zeros, ones = np.zeros(8, np.int64), np.ones(8, np.int64)
    assert abs(model.codes(x, zeros) - model.codes(x, ones)).max() > 1e-3
    z = mg.Generator(0).normal((8, 2))
    assert abs(model.decode(z, zeros) - model.decode(z, ones)).max() > 1e-3
    assert model.sample(4, mg.Generator(0)).shape == (4, 1, 28, 28)
    with pytest.raises(ValueError, match="have no labels"):
        model.step(IMAGES, None, mg.Generator(0))
    with pytest.raises(ValueError, match="labels are 0 to 3, expected 0 to 2"):
        model.sample(4, mg.Generator(0), labels=[0, 1, 2, 3])


def test_interpolation_is_of_the_class_asked_for():
    model = make(conditional="label", classes=3)
    frames, others = (model.interpolate(4, mg.Generator(3), label=y) for y in (2, 1))
    assert abs(frames - others).reshape(4, -1).max(1).min() > 1e-3
    ends = model.sample(2, mg.Generator(3), labels=[2, 2])
    np.testing.assert_allclose(frames[[0, -1]], ends, atol=1e-6)


def test_convolutions_take_the_sizes_that_halve():
    for size, small in ((28, 7), (32, 4), (64, 4), (20, 5)):
        model = make((3, size, size), network="conv", channels=2)
        assert model.reconstruct(np.zeros((2, 3, size, size), np.float32)).shape[2:] == (size, size)
        weights = {p.shape for p in model.encoder.parameters()}
        halvings = {7: 2, 4: 3 if size == 32 else 4, 5: 2}[small]
        assert (256, 2 * 2 ** (halvings - 1) * small**2) in weights
    with pytest.raises(ValueError, match="images are 27x27, expected even sizes"):
        make((1, 27, 27), network="conv")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"binarize": "stochastic", "likelihood": "gaussian"}, "pixels of 0 and 1 are bernoulli's"),
        ({"capacity": 5.0, "free_bits": 0.1}, "set one of the two"),
        ({"capacity": 5.0, "warmup": 10}, "set capacity_steps"),
        ({"capacity_steps": 10}, "without capacity"),
        ({"beta": 0.0, "warmup": 5}, "warmup=5 with beta=0: the KL term has no weight"),
        ({"beta": 0.0, "free_bits": 0.1}, "free_bits=0.1 with beta=0"),
        ({"beta": 0.0, "capacity": 3.0}, "capacity=3 with beta=0"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
