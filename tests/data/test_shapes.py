"""The generated shapes: every property of an image is known, and no two images are alike."""

import itertools
import time

import numpy as np
import pytest

from minigen import data
from minigen.data import DataError, Dataset
from minigen.data.shapes import FACTORS, SHAPES, ShapeImages, shapes


def test_every_combination_once_and_no_two_images_alike():
    whole = data.load("shapes", "all")
    assert len(whole) == 32_400 and whole.image_shape == (1, 28, 28)
    assert whole.classes == SHAPES and whole.factor_names == tuple(FACTORS)
    assert len(np.unique(whole.factors, axis=0)) == len(whole)
    assert whole.factors.max(0).tolist() == [count - 1 for count in FACTORS.values()]
    np.testing.assert_array_equal(whole.labels, whole.factors[:, 0])
    pixels = whole.images[:].reshape(len(whole), -1)
    assert len({row.tobytes() for row in pixels}) == len(whole)


def one(side=28, **values):
    """The image (side, side) in [0, 1] of the middle values of all factors but those given."""
    factors = [[values.get(name, count // 2) for name, count in FACTORS.items()]]
    return ShapeImages(np.array(factors), side).take(np.array([0]))[0, 0] / 255


@pytest.mark.parametrize("side", [28, 32, 64])
def test_places_sizes_and_angles_are_what_the_factors_say(side):
    def centre(image):
        at = np.arange(side)
        return (image.sum(0) @ at / image.sum(), image.sum(1) @ at / image.sum())

    for shape in range(3):
        x, y = centre(one(side, shape=shape))
        left, up = centre(one(side, shape=shape, x=0, y=0))
        step = side // 28
        assert x - left == pytest.approx(7 * step) and y - up == pytest.approx(7 * step)
        areas = [one(side, shape=shape, scale=k).sum() for k in range(6)]
        assert areas[5] / areas[0] == pytest.approx(4, rel=0.05)
    # Square: (2 * 0.7)^2; ellipse: 0.55 pi; of a disc that reaches 0.23 of the side.
    for shape, area in ((0, 1.96), (1, 0.55 * np.pi)):
        radius = 0.23 * side
        drawn = one(side, shape=shape, scale=5, orientation=3).sum()
        assert drawn / radius**2 == pytest.approx(area, rel=0.02)
    # The long axis of the ellipse: k / 8 of a quarter of a turn above the horizontal.
    at = np.arange(side)
    for k in range(8):
        image = one(side, shape=1, scale=5, orientation=k)
        (x, y), mass = centre(image), image.sum()
        xx, yy = image.sum(0) @ (at - x) ** 2 / mass, image.sum(1) @ (at - y) ** 2 / mass
        xy = (at - y) @ image @ (at - x) / mass
        assert np.arctan2(-2 * xy, xx - yy) / 2 == pytest.approx(k * np.pi / 16, abs=0.03)


def test_edges_are_antialiased_and_shapes_stay_inside():
    corner = one(scale=5, x=0, y=0, orientation=4, shape=0)
    assert 0 < corner[:, 0].max() < 1 and corner[:, -1].max() == 0  # it ends within the first pixel
    assert len(np.unique(one(shape=2))) > 6
    assert abs(one(shape=2) - one(shape=2)[:, ::-1]).max() > 0  # turned, a heart has no symmetry
    upright = one(shape=2, orientation=0)
    np.testing.assert_array_equal(upright, upright[:, ::-1])
    assert upright[14:].sum() < upright[:14].sum()  # its tip points down


def test_splits_share_all_values_and_no_image():
    train, test = data.load("shapes"), data.load("shapes", "test")
    assert len(train) + len(test) == 32_400 and 3000 < len(test) < 3500
    both = np.concatenate([train.factors, test.factors])
    assert len(np.unique(both, axis=0)) == 32_400
    for column, count in enumerate(FACTORS.values()):
        shares = np.bincount(test.factors[:, column]) / len(test)
        assert len(shares) == count and abs(shares * count - 1).max() < 0.07
        assert len(np.unique(train.factors[:, column])) == count
    for (i, a), (j, b) in itertools.combinations(enumerate(FACTORS.values()), 2):
        for split in (train, test):
            assert len(np.unique(split.factors[:, [i, j]], axis=0)) == a * b


def test_quick_and_always_the_same():
    start = time.process_time()
    first = shapes("train").batch(range(0, 29_000, 7))[0]
    assert time.process_time() - start < 2  # a tenth of a second; the machine may be busy
    np.testing.assert_array_equal(first, shapes("train").batch(range(0, 29_000, 7))[0])


def test_factors_follow_their_images():
    train = data.load("shapes", image_size=32, channels=3)
    assert train.image_shape == (3, 32, 32)
    chosen = train.select([5, 3000, 9])
    np.testing.assert_array_equal(chosen.factors, train.factors[[5, 3000, 9]])
    kept, held = chosen.holdout(3)
    assert held.factor_names == train.factor_names
    np.testing.assert_array_equal(held.factors, train.factors[[9]])
    np.testing.assert_array_equal(kept.factors, train.factors[[5, 3000]])
    assert data.load("shapes", image_size=64).image_shape == (1, 64, 64)
    assert data.load("shapes", image_size=(20, 16)).image_shape == (1, 20, 16)
    assert data.load("fashion-mnist", "test").factors is None


def test_faults():
    images = np.zeros((4, 1, 5, 5), np.uint8)
    for factors in (
        np.zeros((4, 2)),
        np.zeros((3, 2), int),
        np.zeros((4, 3), int),
        np.zeros(4, int),
    ):
        with pytest.raises(
            DataError, match=r"bad: factors are .* expected integers of shape \(4, 2"
        ):
            Dataset(images, name="bad", factors=factors, factor_names=("a", "b"))
    with pytest.raises(ValueError, match="side is 20 pixels, expected at least 28"):
        ShapeImages(np.zeros((1, 5), int), 20)
    with pytest.raises(DataError, match="shapes is built in and takes no path"):
        data.load("shapes:folder")
