"""Degradations against their formulas, and specs that are wrong in every way."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import minigen as mg
from minigen import kernels
from minigen.data import photo
from minigen.data.degradations import GAMMA, PARTS, enlarge, parse, shrink
from minigen.testing import gradcheck

IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 2, 12, 10)).astype(np.float32)


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    with kernels.use("reference"):
        yield


def degraded(spec, images=IMAGES, seed=1):
    return parse(spec)(mg.tensor(images), mg.Generator(seed)).numpy()


@pytest.mark.parametrize("sigma, decibels", [(15, 24.61), (25, 20.17), (50, 14.15)])
def test_noise_has_the_psnr_of_its_sigma_because_nothing_is_clipped(sigma, decibels):
    clean = photo("camera")[:1, :256, :256].astype(np.float32) / 255
    noisy = parse(f"noise:{sigma}").image(clean, mg.Generator(0))
    psnr = -10 * np.log10(np.mean((noisy - clean).astype(np.float64) ** 2))
    assert psnr == pytest.approx(decibels, abs=0.05)
    assert noisy.min() < 0 and noisy.max() > 1


@pytest.mark.parametrize("stops", [0, 1, 2.5])
def test_a_stop_halves_linear_light(stops):
    y = degraded(f"darken:{stops}")
    np.testing.assert_allclose(y**GAMMA, IMAGES**GAMMA / 2**stops, rtol=1e-5)


def test_contrast_keeps_the_mean_and_scales_the_deviations():
    y = degraded("contrast:0.4")
    mean = IMAGES.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(y.mean((1, 2, 3), keepdims=True), mean, rtol=1e-5)
    np.testing.assert_allclose(y - mean, 0.4 * (IMAGES - mean), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 3])
def test_the_blur_of_an_impulse_is_the_gaussian(sigma):
    impulse = np.zeros((1, 1, 41, 41), np.float32)
    impulse[..., 20, 20] = 1
    d = np.arange(41) - 20
    line = np.exp(-(d**2) / (2 * sigma**2))
    expected = np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(degraded(f"blur:{sigma}", impulse)[0, 0], expected, atol=1e-7)


def test_blur_is_that_of_scipy_inside_and_keeps_a_flat_image_to_its_border():
    image = photo("camera")[:1, :48, :40].astype(np.float32) / 255
    found = degraded("blur:1.2", image[None])[0, 0]
    expected = ndimage.gaussian_filter(image[0].astype(np.float64), 1.2, truncate=8)
    np.testing.assert_allclose(found[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-5)
    np.testing.assert_allclose(degraded("blur:2", np.full_like(IMAGES, 0.3)), 0.3, rtol=1e-5)
    np.testing.assert_array_equal(degraded("blur:0"), IMAGES)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downscale_is_pillows_bicubic_there_and_back(factor):
    image = photo("chelsea")[0, :96, :120].astype(np.float32) / 255
    small = Image.fromarray(image).resize((120 // factor, 96 // factor), Image.Resampling.BICUBIC)
    expected = np.asarray(small.resize((120, 96), Image.Resampling.BICUBIC))
    found = degraded(f"downscale:{factor}", image[None, None])[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    tensor = mg.tensor(image[None, None])
    np.testing.assert_allclose(shrink(tensor, factor).numpy()[0, 0], np.asarray(small), atol=1e-6)
    assert enlarge(tensor, factor).shape == (1, 1, 96 * factor, 120 * factor)


def test_downscale_of_a_smooth_image_changes_little():
    y, x = np.mgrid[0:64, 0:64] / 64
    smooth = (0.5 + 0.4 * np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y)).astype(np.float32)
    found = degraded("downscale:2", smooth[None, None])[0, 0]
    assert abs(found - smooth)[4:-4, 4:-4].max() < 2e-3


def test_downscale_wants_sizes_that_it_divides():
    with pytest.raises(ValueError, match="downscale:5: images are 10x12 pixels, expected multip"):
        degraded("downscale:5")


@pytest.mark.parametrize("spec", [part.example for part in PARTS.values()])
def test_gradients_agree_with_finite_differences(spec):
    gradcheck(lambda x: parse(spec)(x, mg.Generator(3)), [IMAGES[:, :, :6, :6]], order=1)


@pytest.mark.parametrize("name, low, high", [("noise", 0, 50), ("darken", 1, 3), ("blur", 0, 2),
                                             ("contrast", 0.4, 1)])  # fmt: skip
def test_each_image_has_a_strength_of_its_own_uniform_in_the_range(name, low, high):
    ramp = np.linspace(0, 1, 144, dtype=np.float32).reshape(1, 1, 12, 12)
    images = np.repeat(ramp, 200, axis=0)
    y = degraded(f"{name}:{low}-{high}", images)
    if name == "noise":
        strength = (y - images).std((1, 2, 3)) * 255
    elif name == "darken":
        strength = -GAMMA * np.log2(y[:, 0, 11, 11])
    elif name == "contrast":
        strength = (y[:, 0, 11, 11] - 0.5) / 0.5
    else:
        # How far the corner is drawn to its neighbours says how wide the blur is.
        table = np.linspace(0, 2, 401)
        corners = [degraded(f"blur:{s}", ramp)[0, 0, 0, 0] for s in table]
        strength = np.interp(y[:, 0, 0, 0], corners, table)
    slack = 0.1 * (high - low)
    assert low - slack < strength.min() < low + slack
    assert high - slack < strength.max() < high + slack
    assert strength.mean() == pytest.approx((low + high) / 2, abs=slack)


def test_the_same_generator_gives_the_same_bits_and_another_does_not():
    spec = "downscale:2,darken:1-3,contrast:0.5-1,blur:0-1,noise:0-50"
    assert degraded(spec).tobytes() == degraded(spec).tobytes()
    assert not np.array_equal(degraded(spec), degraded(spec, seed=2))
    one = parse(spec).image(IMAGES[0], mg.Generator(5))
    np.testing.assert_array_equal(one, degraded(spec, IMAGES[:1], seed=5)[0])
    assert one.dtype == np.float32 and one.shape == IMAGES[0].shape


def test_parts_act_in_the_order_in_which_they_are_written():
    dark = degraded("darken:2")
    twice = parse("darken:2,contrast:0.5")(mg.tensor(IMAGES), mg.Generator(1)).numpy()
    mean = dark.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(twice, mean + 0.5 * (dark - mean), atol=1e-6)
    noisy = degraded("darken:2,noise:50") - degraded("noise:50,darken:2")
    assert abs(noisy).std() > 0.05  # noise that came first is darkened too


def test_scale_and_spec():
    both = parse(" noise : 0 - 50,downscale:3")
    assert both.scale == 3 and parse("noise:25").scale == 1
    assert both.spec == "noise:0-50,downscale:3"
    assert parse(both.spec) == both and parse("contrast:.5-1.").spec == "contrast:0.5-1"


@pytest.mark.parametrize(
    "spec, message",
    [
        ("", "degradation '': names no part; there are noise:0-50, darken:1-3"),
        ("nose:3", "'nose:3': no part 'nose'; did you mean noise:0-50?"),
        ("noise:1,xx:3", "'xx:3': no part 'xx'; there are noise:0-50, darken"),
        ("blur", "'blur': '' is no number of at least 0 .* expected for instance blur:0-1.5"),
        ("noise:-3", "'noise:-3': '-3' is no number of at least 0"),
        ("noise:nan", "'nan' is no number"),
        ("darken:3-1", "'darken:3-1': runs from 3 down to 1; expected darken:1-3"),
        ("downscale:1", "got 1, expected one whole number of at least 2, as in downscale:2"),
        ("downscale:2-3", "got 2-3, expected one whole number"),
        ("downscale:2.5", "got 2.5, expected one whole number"),
        ("downscale:2,noise:1,downscale:2", "names downscale more than once; give one factor"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        parse(spec)
    assert "\n" not in str(error.value)
