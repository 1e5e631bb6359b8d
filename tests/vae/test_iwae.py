"""Importance weights: exact where the model is linear and Gaussian, a bound that rises with k, and
gradients weighted as the paper says.
"""

import numpy as np
import pytest

import minigen as mg
from minigen.vae.estimate import log_likelihood, log_mean
from minigen.vae.iwae import IWAE, IWAEOptions
from minigen.vae.options import VAEOptions
from minigen.vae.vae import VAE

D, SIGMA = 6, 0.5
LINEAR = {"encoder": (), "decoder": (), "likelihood": "gaussian", "sigma": SIGMA}


def linear(offset=0.3, latent=2, cls=VAE, options=VAEOptions, **more):
    """(a linear-Gaussian model, images, their exact log p(x)); `offset` spoils q(z | x)."""
    chosen = options(**{**LINEAR, "latent": latent, **more})
    model = cls(chosen, (1, 1, D), rng=mg.Generator(0)).to(dtype=np.float64)
    draw = np.random.default_rng(0)
    w, mean = draw.normal(0, 0.6, (D, latent)), draw.normal(0.5, 0.2, D)
    x = mean + draw.normal(size=(40, latent)) @ w.T + SIGMA * draw.normal(size=(40, D))
    covariance = w @ w.T + SIGMA**2 * np.eye(D)
    gaps = x - mean
    exact = -0.5 * (np.einsum("nd,nd->n", gaps, np.linalg.solve(covariance, gaps.T).T)
                    + np.linalg.slogdet(2 * np.pi * covariance)[1])  # fmt: skip
    precision = np.eye(latent) + w.T @ w / SIGMA**2
    gain = np.linalg.solve(precision, w.T) / SIGMA**2  # the posterior's mean is gain (x - mean)
    decoder, encoder = model.decoder[0], model.encoder[1]
    decoder.weight.data[...], decoder.bias.data[...] = w, mean
    encoder.weight.data[...] = np.concatenate([gain, np.zeros((latent, D))])
    log_var = np.log(np.diag(np.linalg.inv(precision)))
    encoder.bias.data[...] = np.concatenate([offset - gain @ mean, log_var])
    return model, x.reshape(-1, 1, 1, D), exact


def test_the_estimate_equals_the_exact_likelihood_within_its_standard_error():
    model, images, exact = linear()
    values, errors = log_likelihood(model, images, rng=mg.Generator(1), k=4000, chunk=3000)
    gaps = (values - exact) / errors
    assert errors.max() < 0.1
    assert abs(gaps).max() < 4.5 and 0.6 < gaps.std() < 1.4  # and the standard error is right
    total = np.sqrt((errors**2).mean() / len(errors))
    assert values.mean() == pytest.approx(exact.mean(), abs=4 * total)


def test_an_exact_posterior_needs_one_code():
    """With q(z | x) = p(z | x) every weight is p(x), whatever the code."""
    model, images, exact = linear(offset=0.0, latent=1)
    values, _ = log_likelihood(model, images, rng=mg.Generator(1), k=1)
    np.testing.assert_allclose(values, exact, rtol=1e-4)


def test_the_bound_rises_with_k_to_the_likelihood():
    model, images, exact = linear(offset=0.8)
    x = mg.tensor(images)
    bounds = []
    for k in (1, 5, 50, 2000):
        rng = mg.Generator(2)
        logs = [model.log_weights(x, None, rng, k).numpy() for _ in range(max(1, 4000 // k))]
        bounds.append(np.mean([log_mean(each)[0] for each in logs]))
    assert bounds == sorted(bounds) and bounds[1] > bounds[0] + 0.1
    assert bounds[-1] < exact.mean() + 0.01 and bounds[-1] == pytest.approx(exact.mean(), abs=0.03)


def test_one_code_is_the_elbo():
    model, images, _ = linear()
    x, rng = mg.tensor(images), mg.Generator(3)
    with mg.no_grad():
        elbo = [-sum(t.sum() / len(x) for t in model.terms(x, None, rng)) for _ in range(300)]
        weight = [model.log_weights(x, None, rng, 1).mean() for _ in range(300)]
    elbo, weight = (np.array([each.item() for each in values]) for values in (elbo, weight))
    error = np.hypot(elbo.std(), weight.std()) / np.sqrt(300)
    assert elbo.mean() == pytest.approx(weight.mean(), abs=4 * error)


def test_gradients_are_weighted_by_the_softmax_of_log_w():
    model, images, _ = linear(cls=IWAE, options=IWAEOptions, samples=7, binarize="none")
    x = mg.tensor(images[:3])
    parameters = model.parameters()
    loss = model.losses(x, None, mg.Generator(4))[0]
    grads = mg.grad(loss, parameters)
    logs = model.log_weights(x, None, mg.Generator(4), 7)
    shares = np.exp(logs.numpy() - logs.numpy().max(0))
    shares = mg.tensor(shares / shares.sum(0))
    weighted = mg.grad(-(shares * logs).sum() / 3, parameters)
    for a, b in zip(grads, weighted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


def test_weights_are_of_the_label_of_their_image():
    """With q(z | x) = p(z), and a decoder that looks at the label alone, they are p(x | label)."""
    options = VAEOptions(**LINEAR, conditional="label", classes=3)
    model = VAE(options, (1, 1, D), rng=mg.Generator(0))
    layer = model.encoder.network[1]
    layer.weight.data[...], layer.bias.data[...] = 0, 0
    model.decoder.network[0].weight.data[:, :2] = 0
    images, labels = np.random.default_rng(0).uniform(size=(4, 1, 1, 1, D)), [2, 0, 1, 1]
    told = [mg.asarray(np.array([label])) for label in labels]
    alone = [
        -model.likelihood.nll(mg.asarray(x), model.decoder(mg.zeros((1, 2)), y)).item()
        for x, y in zip(images, told, strict=True)
    ]
    x = mg.asarray(images[:, 0])
    weights = model.log_weights(x, mg.asarray(np.array(labels)), mg.Generator(1), 3).numpy()
    np.testing.assert_allclose(weights, [alone] * 3, rtol=1e-5)


def test_chunks_do_not_change_how_many_codes_are_drawn():
    model, images, exact = linear()
    for chunk in (1, 7, 64, 10_000):
        values, errors = log_likelihood(model, images[:5], rng=mg.Generator(1), k=64, chunk=chunk)
        assert values.shape == errors.shape == (5,)
        assert (abs(values - exact[:5]) < 5 * errors + 0.05).all()
    with pytest.raises(ValueError, match="k is 0"):
        log_likelihood(model, images, rng=mg.Generator(0), k=0)


def test_log_mean():
    logs = np.random.default_rng(0).normal(-500, 1, (50, 3))
    value, error = log_mean(logs)
    shifted = np.exp(logs + 500)
    np.testing.assert_allclose(value, np.log(shifted.mean(0)) - 500)
    expected = shifted.std(0, ddof=1) / np.sqrt(50) / shifted.mean(0)
    np.testing.assert_allclose(error, expected)
    assert np.isnan(log_mean(logs[:1])[1]).all()


@pytest.mark.parametrize("name", ["beta", "warmup", "free_bits", "capacity"])
def test_what_has_no_kl_term_takes_no_weight_of_it(name):
    with pytest.raises(ValueError, match=f"iwae: {name}=4"):
        IWAE(IWAEOptions(**{name: 4}), (1, 28, 28), rng=mg.Generator(0))


def test_evaluate_takes_the_bound_of_as_many_codes_and_bits_of_that():
    spoilt = {"offset": 0.8, "cls": IWAE, "options": IWAEOptions, "binarize": "none"}
    bounds = []
    for k in (5, 500):
        model, images, exact = linear(**spoilt, samples=k)
        batches, rng = [(images[:30], None), (images[30:], None)], mg.Generator(1)
        found = {key: each["value"] for key, each in model.evaluate(batches, rng).items()}
        bits = found["iwae_bound"] / D / np.log(2) + 8
        assert found["bits_per_dimension"] == pytest.approx(bits, rel=1e-6)
        assert found["iwae_bound"] < found["negative_elbo"] - 0.1
        bounds.append(found["iwae_bound"])
    assert bounds[0] > bounds[1] + 0.1
    assert bounds[1] == pytest.approx(-exact.mean(), abs=0.1)


def test_training_raises_the_bound_above_the_elbo():
    images = np.random.default_rng(0).uniform(0, 1, (20, 1, 28, 28)).astype(np.float32)
    options = IWAEOptions(samples=5, encoder=(20,), decoder=(20,), latent=4)
    model, rng = IWAE(options, (1, 28, 28), rng=mg.Generator(0)), mg.Generator(1)
    losses = [model.step(images, None, rng) for _ in range(60)]
    assert losses[-1]["loss"].item() < losses[0]["loss"].item() - 5
    assert all(each["loss"].item() < each["negative_elbo"].item() for each in losses)
    found = model.evaluate([(images, None)], rng)
    assert found["iwae_bound"]["value"] < found["negative_elbo"]["value"]
