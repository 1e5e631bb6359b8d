"""Sliced Wasserstein distance: pyramid, patches and distances against plain constructions."""

import numpy as np
import pytest
from scipy import ndimage, stats

import minigen as mg
from minigen.metrics import sliced_wasserstein
from minigen.metrics.sliced_wasserstein import (
    _enlarge,
    directions,
    laplacian_pyramid,
    level_sizes,
    normalise,
    sliced_distance,
)

RNG = np.random.default_rng(3)
IMAGES = RNG.uniform(size=(40, 3, 32, 32)).astype(np.float32)


def test_pyramid_is_that_of_full_filters():
    """One 5x5 binomial filter with mirrored borders, as a plain 2-D convolution."""
    taps = np.array([1, 4, 6, 4, 1])
    kernel = (np.outer(taps, taps) / 256)[None, None]
    small = ndimage.convolve(IMAGES, kernel, mode="mirror")[:, :, ::2, ::2]
    spread = np.zeros_like(IMAGES)
    spread[:, :, ::2, ::2] = small
    large = ndimage.convolve(spread, 4 * kernel, mode="mirror")
    fine, coarse = laplacian_pyramid(IMAGES, 2)
    np.testing.assert_allclose(coarse, small, atol=1e-6)
    np.testing.assert_allclose(fine, IMAGES - large, atol=1e-6)
    np.testing.assert_allclose(fine + _enlarge(coarse), IMAGES, atol=1e-6)
    assert fine.dtype == np.float32


@pytest.mark.parametrize(
    ("size", "levels"), [(28, [28, 14]), (32, [32, 16]), (64, [64, 32, 16]), (50, [50, 25])]
)
def test_levels(size, levels):
    assert [height for height, _ in level_sizes(size, size, 14)] == levels


def test_patches_are_normalised_a_channel():
    patches = RNG.normal(5, 3, size=(100, 2, 7, 7)).astype(np.float32)
    patches[:, 1] = 4
    rows = normalise(patches).reshape(100, 2, 49)
    assert rows[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert rows[:, 0].std() == pytest.approx(1, rel=1e-5)
    assert not rows[:, 1].any()


def test_distance_is_the_mean_of_one_dimensional_ones():
    a, b = RNG.normal(size=(60, 5)).astype("f"), RNG.normal(1, 2, size=(60, 5)).astype("f")
    along = directions(5, 9, mg.Generator(0))
    np.testing.assert_allclose((along**2).sum(0), 1, rtol=1e-6)
    expected = np.mean([stats.wasserstein_distance(a @ d, b @ d) for d in along.T])
    assert sliced_distance(a, b, along) == pytest.approx(expected, rel=1e-5)


def test_same_images_are_near_and_others_far():
    def measure(fake):
        return sliced_wasserstein(
            IMAGES, fake, rng=mg.Generator(0), repeats=2, projections=32, patches_per_image=400
        )

    same, blurred = measure(IMAGES), measure(ndimage.uniform_filter(IMAGES, (1, 1, 3, 3)))
    assert list(same) == [32, 16]
    for size in same:
        assert 0 < 1.5 * same[size] < blurred[size]
    constant = measure(np.zeros_like(IMAGES))
    assert all(np.isfinite(value) and value > blurred[size] for size, value in constant.items())


def test_brightness_and_contrast_do_not_count():
    measure = lambda x: sliced_wasserstein(IMAGES, x, rng=mg.Generator(5), repeats=1)
    assert measure(3 * IMAGES + 7) == pytest.approx(measure(IMAGES), rel=1e-2)


def test_every_option_counts_and_progress_is_told():
    seen = []
    base = {"repeats": 2, "projections": 8, "patches_per_image": 4}
    run = lambda **o: sliced_wasserstein(
        IMAGES, IMAGES[::-1] ** 2, rng=mg.Generator(0), **(base | o)
    )
    first = run(progress=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert first == run()
    for change in ({"repeats": 3}, {"projections": 9}, {"patches_per_image": 5}):
        assert run(**change)[32] != first[32]
    assert list(run(smallest=8)) == [32, 16, 8]
    assert list(run(smallest=32)) == [32]


@pytest.mark.parametrize(
    ("fake", "options", "message"),
    [
        (IMAGES[:30], {}, "expected the same shape"),
        (IMAGES, {"smallest": 6}, "smallest is 6, expected 7 to 32"),
        (IMAGES, {"repeats": 0}, "expected at least 1"),
        (IMAGES[0], {}, r"expected \(N, C, H, W\)"),
    ],
)
def test_bad_arguments_are_named(fake, options, message):
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(IMAGES, fake, rng=mg.Generator(0), **options)
