"""`vae`: the bound against closed forms, and the linear case against its exact optimum."""

import copy
import pickle

import numpy as np
import pytest

import minigen as mg
from minigen import optim
from minigen.vae.vae import VAE, VAEOptions

IMAGES = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)


def make(shape=(1, 28, 28), **options):
    return VAE(VAEOptions(**options), shape, rng=mg.Generator(0))


def test_networks_follow_the_table():
    shapes = [p.shape for p in make().parameters() if p.ndim == 2]
    assert shapes == [(128, 784), (64, 128), (4, 64), (256, 2), (128, 256), (784, 128)]


def test_loss_is_nats_per_image_and_kl_the_closed_form():
    model = make()
    loss, nll, kl = model.loss(IMAGES, mg.Generator(1))
    mu, log_var = (t.numpy() for t in model.encode(mg.asarray(IMAGES.reshape(8, -1))))
    closed = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(1).mean()
    assert kl.item() == pytest.approx(closed, rel=1e-5)
    assert loss.item() == pytest.approx(nll.item() + kl.item(), rel=1e-6)
    assert nll.item() == pytest.approx(784 * np.log(2), rel=0.05)  # an untrained decoder says 1/2


def test_kl_equals_its_monte_carlo_estimate():
    rng = mg.Generator(0)
    mu, log_var = mg.tensor(np.full((200_000, 1), 0.7)), mg.tensor(np.full((200_000, 1), -0.9))
    z, kl = (t.numpy() for t in mg.reparameterize(mu, log_var, rng=rng))
    log_q = -0.5 * ((z - 0.7) ** 2 / np.exp(-0.9) - 0.9)
    sampled = log_q + 0.5 * z**2
    error = 4 * sampled.std() / len(z) ** 0.5
    assert abs(sampled.mean() - kl[0, 0]) < error


def test_likelihoods_sum_over_pixels():
    x = mg.asarray(IMAGES.reshape(8, -1).astype(np.float64))
    out = mg.asarray(np.random.default_rng(1).standard_normal((8, 784)))
    p = 1 / (1 + np.exp(-out.numpy()))
    bernoulli = -(x.numpy() * np.log(p) + (1 - x.numpy()) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(make().nll(x, out).numpy(), bernoulli)
    s = 0.3
    gaussian = (0.5 * ((x - out) / s).numpy() ** 2 + np.log(s) + 0.5 * np.log(2 * np.pi)).sum(1)
    got = make(likelihood="gaussian", sigma=s).nll(x, out).numpy()
    np.testing.assert_allclose(got, gaussian, rtol=1e-6)


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
        bound = np.mean([model.loss(images, rng)[0].item() for _ in range(50)])
    assert optimum < bound + 0.05  # a bound lies above the optimum
    assert bound == pytest.approx(optimum, rel=0.01)
    assert np.exp(model.log_sigma.item()) ** 2 == pytest.approx(noise, rel=0.05)


def test_training_lowers_the_loss_and_repeats_exactly():
    def run():
        model, rng = make(), mg.Generator(1)
        return [model.step(IMAGES, None, rng)["loss"].item() for _ in range(40)]

    losses = run()
    assert losses == run() and losses[-1] < losses[0] - 20


def test_samples_reconstructions_and_metrics():
    model, rng = make(), mg.Generator(1)
    for images in (model.sample(5, rng), model.reconstruct(IMAGES), model.interpolate(5, rng)):
        assert images.shape[1:] == (1, 28, 28) and images.min() >= 0 and images.max() <= 1
    metrics = model.evaluate([(IMAGES, None), (IMAGES, None)], rng)
    total = metrics["reconstruction"]["value"] + metrics["kl"]["value"]
    assert metrics["negative_elbo"]["value"] == pytest.approx(total)
    assert metrics["negative_elbo"]["low"] < total < metrics["negative_elbo"]["high"]


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


@pytest.mark.parametrize("part", ["optimizer", "encoder", "decoder", "options", "log_sigma"])
def test_the_vae_notices_a_part_that_is_another_object(part):
    def trained(ordinary):
        options = VAEOptions(likelihood="gaussian", sigma=0)
        model = VAE(options, (1, 5, 5), rng=mg.Generator(0))
        other = VAE(options, (1, 5, 5), rng=mg.Generator(7))
        rng, losses = mg.Generator(5), []
        images = rng.uniform((7, 1, 5, 5))
        step = model._update if ordinary else lambda x, rng: model.step(x, None, rng)
        for i in range(7):
            if i == 3:
                new = VAEOptions() if part == "options" else getattr(other, part)
                setattr(model, part, new)
                if part != "options":
                    model.optimizer = optim.SGD(model, 0.1)
            losses.append(step(images, rng)["loss"].item())
        return losses, [p.data.tolist() for p in model.parameters()], list(model.state_dict())

    assert trained(ordinary=False) == trained(ordinary=True)
