"""`enhance-vae`: the bound's terms, tiles, tone, calibration, what its options do, its weights."""

import numpy as np
import pytest

import minigen as mg
from minigen.vae.enhance_networks import drawn
from minigen.vae.enhance_vae import FARTHEST, EnhanceVAE, EnhanceVAEOptions
from minigen.vae.weights import load_file, load_shipped, save_file

TINY = {"batch_size": 4, "channels": 4, "blocks": 1, "latent": 2, "style": 3}


def make(shape=(3, 16, 16), **options):
    return EnhanceVAE(EnhanceVAEOptions(**{**TINY, **options}), shape, rng=mg.Generator(0))


def stirred(model):
    """The model with random numbers in the layers that begin with zeros."""
    rng = mg.Generator(8)
    for weight in model.networks.parameters():
        if weight.ndim > 1 and not weight.numpy().any():
            mg.nn.init.normal_(weight, std=0.1, rng=rng)
    return model


def patches(n=4, shape=(3, 16, 16), seed=0):
    """Smooth pictures: two waves in a random direction, in two colours."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[1], : shape[2]] / 4
    a, b = draw.uniform(-1, 1, (2, n, 1, 1, 1))
    wave = 0.5 + 0.5 * np.sin(a * rows + b * columns + draw.uniform(0, 6, (n, 1, 1, 1)))
    low, high = draw.uniform(0, 1, (2, n, shape[0], 1, 1))
    return (low + (high - low) * wave).astype(np.float32)


def fitted(steps, images=64, **options):
    """A model trained on smooth pictures."""
    model = make(**{"lr": 5e-3, "warmup": 0, "ema": 0.0, "grey": 0.0, "clipped": 0.0, **options})
    rng, x, size = mg.Generator(1), patches(images, seed=5), model.options.batch_size
    for i in range(steps):
        model.step(x[np.arange(i * size, (i + 1) * size) % images], None, rng)
    return model


def gaussians(seed, n=5):
    draw = np.random.default_rng(seed)
    return mg.tensor(draw.normal(size=(n, 3))), mg.tensor(draw.normal(size=(n, 3)))


def test_kl_between_gaussians_is_the_closed_form():
    (m, lv), (pm, plv) = gaussians(0), gaussians(1)
    _, kl = drawn((m, lv), (pm, plv), mg.Generator(0))
    m, lv, pm, plv = (t.numpy() for t in (m, lv, pm, plv))
    closed = 0.5 * (plv - lv + (np.exp(lv) + (m - pm) ** 2) / np.exp(plv) - 1)
    np.testing.assert_allclose(kl.numpy(), closed, rtol=1e-12)


def test_draws_are_of_the_posterior():
    m, lv = (mg.tensor(np.full((100_000, 1), v)) for v in (0.7, -1.0))
    pm, plv = (mg.tensor(np.full((100_000, 1), v)) for v in (-0.3, 0.8))
    z = drawn((m, lv), (pm, plv), mg.Generator(0))[0].numpy()
    assert z.mean() == pytest.approx(0.7, abs=0.01) and z.var() == pytest.approx(
        np.exp(-1), rel=0.02
    )


def test_the_loss_is_the_bound_where_no_option_changes_it():
    plain = {"variance_weight": 0.0, "prediction": 0.0, "warmup": 0, "style_beta": 1.0}
    x, y = mg.asarray(patches()), mg.asarray(patches(seed=1))
    loss, nll, kl, style_kl, psnr = make(**plain).losses(x, y, mg.Generator(2))
    assert loss.item() * 768 == pytest.approx((nll + kl + style_kl).item(), rel=1e-6)
    found = make(**plain).terms(x, y, mg.Generator(2))
    assert nll.item() == pytest.approx(found.nll.numpy().sum((1, 2, 3)).mean(), rel=1e-6)
    assert kl.item() == pytest.approx(found.kl.numpy().sum(1).mean(), rel=1e-6)
    errors = ((found.restored - x).numpy().astype(np.float64) ** 2).mean((1, 2, 3))
    assert psnr.item() == pytest.approx((-10 * np.log10(errors)).mean(), rel=1e-5)


def test_the_likelihood_is_normal_and_its_latent_is_drawn_from_q():
    x, y = mg.asarray(patches()), mg.asarray(patches(seed=1))
    model = stirred(make())
    found = model.terms(x, y, mg.Generator(2))
    rng = mg.Generator(2)  # the same draws again, by the networks one by one
    nets = model.networks
    style, _ = drawn(nets.style.posterior(x, y), nets.style.prior(y), rng)
    mean, _, features = nets.restorer(y, style)
    missed = mg.clip((x - mean) * mg.exp(-found.log_sigma), -FARTHEST, FARTHEST)
    z, _ = drawn(nets.latent.posterior(missed, features), nets.latent.prior(features), rng)
    gap = (x - mean - nets.latent.decode(z, features)).numpy().astype(np.float64)
    log_sigma = found.log_sigma.numpy()
    nll = 0.5 * (gap / np.exp(log_sigma)) ** 2 + log_sigma + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(found.nll.numpy(), nll, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_the_mean_learns_by_errors_weighed_by_the_variance(power):
    x, y = mg.asarray(patches()), mg.asarray(patches(seed=1))
    found = stirred(make(variance_weight=power, prediction=0.3)).terms(x, y, mg.Generator(2))
    sigma = np.exp(found.log_sigma.numpy().astype(np.float64))
    weight = sigma ** (2 * power) / (sigma ** (2 * power)).mean((1, 2, 3), keepdims=True)
    error = (x - found.restored).numpy() / sigma
    np.testing.assert_allclose(found.prediction.numpy(), 0.5 * weight * error**2, rtol=1e-4)
    (slope,) = mg.grad(found.nll.sum(), [found.mean])
    likelihood = stirred(make(variance_weight=0.0)).terms(x, y, mg.Generator(2))
    (of_likelihood,) = mg.grad(likelihood.nll.sum(), [likelihood.mean])
    np.testing.assert_allclose(slope.numpy(), weight * of_likelihood.numpy(), rtol=1e-3, atol=1e-3)


def test_style_free_bits_and_warmup_change_what_is_minimised():
    x, y = mg.asarray(patches()), mg.asarray(patches(seed=1))
    plain = make(warmup=0, style_beta=1.0).losses(x, y, mg.Generator(2))
    heavy = make(warmup=0, style_beta=3.0).losses(x, y, mg.Generator(2))
    assert (heavy[0] - plain[0]).item() * 768 == pytest.approx(2 * plain[3].item(), rel=1e-3)
    free = make(warmup=0, style_beta=1.0, style_free_bits=50.0).losses(x, y, mg.Generator(2))
    gap = (free[0] - plain[0]).item() * 768
    assert gap == pytest.approx(150 - plain[3].item(), rel=1e-3)
    warm = make(warmup=4)
    before = warm.losses(x, y, mg.Generator(2))[0].item()
    kl = (plain[2] + plain[3]).item()
    assert before * 768 == pytest.approx(plain[0].item() * 768 - kl, rel=1e-4)
    rng, weights = mg.Generator(3), []
    for _ in range(5):
        weights.append(warm.penalty.steps.item())
        warm.step(patches(), None, rng)
    assert weights == [0, 1, 2, 3, 4]


def test_pairs_are_grey_and_clipped_as_often_as_asked():
    x = mg.asarray(patches(200))
    rng = mg.Generator(0)
    _, y = make(grey=0.0, clipped=0.0).pairs(x, rng)
    assert y.numpy().min() < -0.05 and (y[:, 0] != y[:, 1]).numpy().any((1, 2)).all()
    clean, y = make(grey=1.0, clipped=1.0).pairs(x, rng)
    assert y.numpy().min() == 0 and y.numpy().max() == 1
    for each in (clean, y):
        np.testing.assert_array_equal(each[:, 0].numpy(), each[:, 2].numpy())
    clean, y = (t.numpy() for t in make(grey=0.3, clipped=0.5).pairs(x, rng))
    assert 40 < (clean[:, 0] == clean[:, 1]).all((1, 2)).sum() < 80
    assert 70 < ((y >= 0) & (y <= 1)).all((1, 2, 3)).sum() < 140


@pytest.mark.parametrize("name", ["clipped", "grey"])
def test_shares_are_at_most_all(name):
    with pytest.raises(ValueError, match=rf"{name}=1\.5.* shares, expected at most 1"):
        make(**{name: 1.5})


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16)])
def test_a_part_with_its_margin_is_that_part_of_the_whole(shape):
    model = stirred(make(shape, channels=8))
    margin, stride = model.margin, model.stride
    assert margin % stride == 0
    size = 2 * margin + 24
    y = mg.Generator(1).uniform((1, shape[0], size, size))
    style = mg.Generator(2).normal((1, 3))
    noise = mg.Generator(3).normal(model.latent_shape(size, size))
    whole, variance = (t.numpy() for t in model.restore(y, style, noise))
    for top, left in ((0, 0), (16, 4), (size - margin - 8, 0), (size - 8, size - 8)):
        rows, columns = (slice(max(0, at - margin), at + 8 + margin) for at in (top, left))
        z = noise[:, :, *(slice(s.start // 4, s.stop // 4) for s in (rows, columns))]
        parts = model.restore(y[:, :, rows, columns], style, z)
        inner = [slice(at - s.start, at - s.start + 8) for at, s in ((top, rows), (left, columns))]
        for part, all_of_it in zip(parts, (whole, variance), strict=True):
            expected = all_of_it[:, :, top : top + 8, left : left + 8]
            np.testing.assert_allclose(part.numpy()[:, :, *inner], expected, atol=1e-5)


def test_the_margin_is_as_far_as_inputs_reach_and_little_more():
    model = stirred(make())
    at = model.margin + 16
    y = np.zeros((1, 3, 4, 2 * at), np.float32)
    style, noise = mg.zeros((1, 3)), mg.zeros(model.latent_shape(4, 2 * at))
    before = model.restore(mg.asarray(y), style, noise)[0].numpy()
    y[..., at] = 1
    after = model.restore(mg.asarray(y), style, noise)[0].numpy()
    (changed,) = np.nonzero((before != after).any((0, 1, 2)))
    reached = max(at - changed.min(), changed.max() - at)
    assert model.margin - 12 <= reached <= model.margin


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="images are 16x16 pixels, expected multiples of 12 to un"):
        make(degradation="noise:1,downscale:3")
    message = r"images are 18x16 pixels, expected multiples of 4"
    with pytest.raises(ValueError, match=message):
        make().restore(mg.zeros((1, 3, 16, 18)), mg.zeros((1, 3)), mg.zeros((1, 2, 4, 4)))
    with pytest.raises(ValueError, match=message):
        make((3, 16, 18))


def test_training_lowers_the_loss_and_repeats_exactly():
    def run():
        model, rng = make(lr=3e-3, warmup=0), mg.Generator(1)
        return [model.step(patches(), None, rng)["loss"].item() for _ in range(25)]

    losses = run()
    assert losses == run() and np.mean(losses[-5:]) < losses[0] - 0.3


def test_learning_rate_and_average_follow_their_options():
    model = make(lr=1e-2, decay_steps=4, ema=0.0)
    rates = []
    for _ in range(5):
        rates.append(model.optimizer.lr)
        model.step(patches(), None, mg.Generator(0))
    np.testing.assert_allclose(rates, 5e-3 * (1 + np.cos(np.pi * np.arange(5) / 4)), atol=1e-9)
    assert model.ema is None and make(lr=1e-2).optimizer.lr == 1e-2
    model = make(ema=0.5)
    model.step(patches(), None, mg.Generator(0))
    now = model.networks.restorer.tail.weight.numpy().copy()
    with model.evaluating(model.ema):
        assert not np.array_equal(model.networks.restorer.tail.weight.numpy(), now)


def test_a_style_is_a_difference_of_tone():
    model = make()
    x, y = mg.asarray(patches()), mg.asarray(patches(seed=1))
    there, back = model.style_of(x, y)[0].numpy(), model.style_of(y, x)[0].numpy()
    np.testing.assert_allclose(there, -back, atol=1e-6)
    np.testing.assert_array_equal(model.style_of(x, x)[0].numpy(), 0)
    np.testing.assert_array_equal(model.networks.restorer.toned(x, mg.zeros((4, 3))), x)


def test_restyling_moves_tone_to_that_of_another_picture():
    model = fitted(200, degradation="darken:0-3", batch_size=8)
    y = mg.asarray(patches(8, seed=9) * 0.4)
    of_y, noise = y.numpy().mean((1, 2, 3)), mg.zeros(model.latent_shape(16, 16, n=8))
    for gain in (1.5, 2.2):  # other pictures of a known brightness, with other things on them
        other = patches(8, seed=11)
        other = mg.asarray(other * (gain * of_y / other.mean((1, 2, 3)))[:, None, None, None])
        restyled = model.restore(y, model.style_of(other, y)[0], noise)[0].numpy()
        gap = abs(restyled.mean((1, 2, 3)) - gain * of_y)
        assert gap.mean() < 0.6 * abs(of_y - gain * of_y).mean()


def test_restored_images_are_better_and_their_variance_is_right():
    model = fitted(200, degradation="noise:40", batch_size=8)
    x = mg.asarray(patches(64, seed=5))
    _, y = model.pairs(x, mg.Generator(9))  # noise that it has not seen
    before, after = (float(((each - x) ** 2).mean().item()) for each in (y, model.best(y)))
    assert after < before / 2
    mean = model.style_prior(y)[0]
    draws = [
        model.restore(y, mean, mg.Generator(k).normal(model.latent_shape(16, 16, n=64)))
        for k in range(8)
    ]
    means = np.stack([mean.numpy() for mean, _ in draws])
    variance = means.var(0) + np.mean([v.numpy() for _, v in draws], 0)
    standardised = (x.numpy() - means.mean(0)) / np.sqrt(variance)
    assert 0.7 < standardised.var() < 1.4


def test_samples_are_fours_of_the_first_step_patches():
    model, rng = make(grey=0.0, clipped=1.0), mg.Generator(0)
    x = patches()
    model.step(x, None, rng)
    model.step(patches(seed=7), None, rng)
    images = model.sample(18, mg.Generator(1))
    assert images.shape == (18, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(images[3:16:4], x)
    np.testing.assert_array_equal(images[16:], images[:2])
    noisy, restored, drawn_one = images[0], images[1], images[2]
    assert not np.array_equal(restored, drawn_one) and not np.array_equal(noisy, x[0])
    line = model.interpolate(5, mg.Generator(1))
    assert line.shape == (5, 3, 16, 16) and not np.array_equal(line[0], line[4])


def test_metrics():
    model = make()
    metrics = model.evaluate([(patches(), None), (patches(seed=1), None)], mg.Generator(0))
    parts = ("reconstruction", "kl", "style_kl")
    total = sum(metrics[name]["value"] for name in parts)
    assert metrics["negative_elbo"]["value"] == pytest.approx(total)
    bits = total / 768 / np.log(2) + 8
    assert metrics["bits_per_dimension"]["value"] == pytest.approx(bits)
    assert 10 < metrics["psnr_degraded"]["value"] < 40
    assert metrics["psnr_restored"]["low"] < metrics["psnr_restored"]["high"]
    assert -1 <= metrics["ssim_restored"]["value"] < metrics["ssim_degraded"]["value"] <= 1


def test_a_flat_patch_leaves_the_mean_ratio_a_number():
    black = np.concatenate([np.zeros((1, 3, 16, 16), np.float32), patches(3)])
    model = make(degradation="darken:2", grey=0.0)
    found = model.evaluate([(black, None)], mg.Generator(0))["psnr_degraded"]
    _, y = model.pairs(mg.asarray(patches(3)), mg.Generator(0))
    others = -10 * np.log10(((y.numpy() - patches(3)) ** 2).mean((1, 2, 3)))
    assert found["value"] == pytest.approx((60 + others.sum()) / 4)
    assert found["low"] < found["value"] < found["high"]


def test_weights_come_back(tmp_path):
    model = fitted(2, degradation="downscale:2,noise:0-4")
    save_file(tmp_path / "x.safetensors", model, {"licence": "CC0"})
    again = load_file(tmp_path / "x.safetensors")
    assert again.scale == 2 and again.options.degradation == model.options.degradation
    y = mg.asarray(patches())
    np.testing.assert_allclose(again.best(y).numpy(), model.best(y).numpy(), atol=2e-3)
    with pytest.raises(ValueError, match="no weights 'blur' ship; there are denoise, enhance"):
        load_shipped("blur")
