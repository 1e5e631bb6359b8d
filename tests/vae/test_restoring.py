"""Photos through a conditional VAE: no seams, the right moments, grey, styles, scales."""

import numpy as np
import pytest

import minigen as mg
from minigen.data.degradations import enlarge
from minigen.random import Generator
from minigen.vae.enhance_vae import EnhanceVAE, EnhanceVAEOptions
from minigen.vae.restoring import restore_photo
from tests.vae.fake_restorer import Linear

TINY = {"channels": 4, "latent": 2, "style": 3, "blocks": 1}


@pytest.fixture(autouse=True)
def _reference():
    with mg.kernels.use("reference"):
        yield


def trained_like(channels=3, **options):
    """An EnhanceVAE with weights that do something, and an average of them that differs."""
    model = EnhanceVAE(EnhanceVAEOptions(**TINY | options), (channels, 8, 8), rng=Generator(1))
    rng = Generator(2)
    for _ in range(2):
        for weight in model.networks.parameters():
            weight.data[...] = rng.normal(weight.shape, std=0.1).numpy()
        model.ema.update()
    return model


def photo(*shape):
    return np.random.default_rng(0).random(shape, np.float32) * 0.5 + 0.25


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(30, 41), (16, 64), (3, 5), (1, 1)])
def test_the_result_does_not_depend_on_the_tiles(size, channels):
    model, pixels = trained_like(channels), photo(channels, *size)
    whole, parts = (
        restore_photo(model, pixels, rng=Generator(5), samples=3, tile=tile, keep_samples=True)
        for tile in (1000, 12)
    )
    for a, b in ((getattr(whole, n), getattr(parts, n)) for n in ("mean", "deviation", "samples")):
        assert a.dtype == np.float32 and a.shape[-3:] == (channels, *size)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert len(whole.samples) == 3 and np.ptp(whole.samples, axis=0).max() > 1e-3
    again = restore_photo(model, pixels, rng=Generator(5), samples=3, tile=1000)
    assert np.array_equal(again.mean, whole.mean) and again.samples is None
    other = restore_photo(model, pixels, rng=Generator(6), samples=3, tile=1000)
    assert not np.array_equal(other.mean, whole.mean)


def test_noise_is_of_the_whole_photo():
    """Each tile gets its part of one map of noise, in every sample another."""
    model = Linear()
    restore_photo(model, photo(3, 12, 8), rng=Generator(0), samples=3, tile=4)
    assert len(model.given) == 3 * 6
    maps = [np.zeros((3, 6, 4)) for _ in range(3)]
    for i, (_, noise) in enumerate(model.given):
        (row, column), k = divmod(i // 3, 2), i % 3
        maps[k][:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = noise.numpy()[0]
    assert np.array_equal(maps[0], -maps[1]) and not np.array_equal(maps[0], maps[2])
    assert len(np.unique(maps[0])) == maps[0].size and 0.5 < maps[0].std() < 1.5


def test_moments():
    model, pixels = Linear(), photo(3, 40, 40)
    got = restore_photo(model, pixels, rng=Generator(0), samples=200)
    np.testing.assert_allclose(got.mean, pixels + 0.01, atol=1e-6)  # pairs cancel the noise
    expected = np.sqrt(0.01 + 0.02**2 + 0.03**2)
    np.testing.assert_allclose(got.deviation, expected, rtol=0.05)
    assert got.deviation.mean() == pytest.approx(expected, rel=0.01)
    two = restore_photo(model, pixels, rng=Generator(0), samples=2, keep_samples=True)
    # A pair of opposite sign lies at +-d around the mean: d^2, not 2 d^2, is its variance.
    gap = (two.samples[0] - two.samples[1]) / 2
    np.testing.assert_allclose(two.deviation, np.sqrt(0.01 + gap**2), rtol=1e-4)
    one = restore_photo(model, pixels, rng=Generator(0), samples=1, keep_samples=True)
    np.testing.assert_allclose(one.deviation, 0.1, rtol=1e-5)
    assert np.array_equal(one.samples[0], one.mean)
    assert 0.02 < abs(one.mean - pixels).mean() < 0.05


def test_grey_through_a_model_of_colours():
    model, pixels = Linear(), photo(1, 10, 14)
    got = restore_photo(model, pixels, rng=Generator(0), samples=5, keep_samples=True)
    assert got.mean.shape == got.deviation.shape == (1, 10, 14) and got.samples.shape[:2] == (5, 1)
    seen, _ = model.given[0]
    assert np.array_equal(seen.numpy()[0], pixels.repeat(3, 0))
    colours = restore_photo(
        Linear(), pixels.repeat(3, 0), rng=Generator(0), samples=5, keep_samples=True
    )
    np.testing.assert_allclose(got.mean[0], colours.mean.mean(0), atol=1e-6)
    np.testing.assert_allclose(got.samples, colours.samples.mean(1, keepdims=True), atol=1e-6)
    assert (got.deviation >= 0.0999).all()


def test_style_of_another_picture():
    model, pixels = Linear(), photo(3, 8, 8)
    bright = np.full((3, 5, 40), 0.7, np.float32)
    for style in (bright, bright[:1]):
        got = restore_photo(model, pixels, rng=Generator(0), samples=2, style=style)
        assert got.mean.mean() == pytest.approx(0.7, abs=1e-3)
    tone = trained_like(degradation="darken:0-3,noise:0-15")
    free, styled = (
        restore_photo(tone, pixels, rng=Generator(0), style=style).mean for style in (None, bright)
    )
    assert abs(free - styled).max() > 0.01


def test_scale():
    model, pixels = Linear(), photo(3, 9, 6)
    model.scale = 2
    got = restore_photo(model, pixels, rng=Generator(0), samples=2)
    expected = enlarge(mg.asarray(pixels[None]), 2).numpy()[0] + 0.01
    np.testing.assert_allclose(got.mean, expected, atol=1e-6)
    assert got.deviation.shape == (3, 18, 12)
    real = trained_like(degradation="downscale:2")
    assert restore_photo(real, pixels, rng=Generator(0), samples=1).mean.shape == (3, 18, 12)


def test_averaged_weights_restore_in_evaluation_mode():
    model, pixels = trained_like(), photo(3, 8, 8)
    before = restore_photo(model, pixels, rng=Generator(0)).mean
    with model.evaluating(model.ema):
        averaged = [each.numpy().copy() for each in model.networks.parameters()]
    for weight, value in zip(model.networks.parameters(), averaged, strict=True):
        weight.data[...] = value
    assert np.array_equal(restore_photo(model, pixels, rng=Generator(0)).mean, before)
    assert model.training


def test_results_are_in_range_and_progress_is_told():
    told = []
    pixels = np.concatenate([np.zeros((3, 4, 8), np.float32), np.ones((3, 4, 8), np.float32)], 1)
    got = restore_photo(
        Linear(), pixels, rng=Generator(0), samples=2, tile=4, keep_samples=True,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert got.mean.max() == got.samples.max() == 1 and got.samples.min() == 0 < got.mean.min()
    assert told == [(i, 4) for i in range(1, 5)]


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"the image is \(3, 8, 8\), expected \(1, H, W\)"):
        restore_photo(Linear(1), photo(3, 8, 8), rng=Generator(0))
    with pytest.raises(ValueError, match=r"the image is \(2, 8, 8\), expected \(1 or 3, H, W\)"):
        restore_photo(Linear(), photo(2, 8, 8), rng=Generator(0))
    with pytest.raises(ValueError, match=r"expected \(1, H, W\)"):
        restore_photo(Linear(1), photo(1, 8, 8), rng=Generator(0), style=photo(3, 8, 8))
    with pytest.raises(ValueError, match="samples is 0, expected at least 1"):
        restore_photo(Linear(), photo(3, 8, 8), rng=Generator(0), samples=0)
