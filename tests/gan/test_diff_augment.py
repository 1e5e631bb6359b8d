"""Differentiable augmentation: what each transformation may do, and its gradient."""

import numpy as np
import pytest

import minigen as mg
from minigen.gan.diff_augment import POLICIES, cutout, diff_augment, parse, translation
from minigen.testing import gradcheck

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 2, 8, 8))


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_agree_with_finite_differences_to_order_two(name):
    gradcheck(lambda x: diff_augment(x, name, rng=mg.Generator(1)), [IMAGES], order=2)


@pytest.mark.parametrize("name", POLICIES)
def test_images_differ_from_each_other_and_from_draw_to_draw(name):
    same = mg.tensor(np.repeat(IMAGES[:1], 16, axis=0))
    out = diff_augment(same, name, rng=mg.Generator(1)).numpy()
    again = diff_augment(same, name, rng=mg.Generator(2)).numpy()
    assert out.shape == same.shape and not np.array_equal(out, again)
    assert len({image.tobytes() for image in out}) > 4


def test_translation_moves_whole_pixels_and_fills_with_zero():
    x = mg.tensor(np.ones((200, 1, 16, 16)))
    out = translation(x, mg.Generator(0)).numpy()
    assert set(np.unique(out)) == {0.0, 1.0}
    rows = out.max((1, 3)).sum(1)  # how many rows are left
    assert rows.min() == 14 and rows.max() == 16  # 16 / 8 = 2
    shifts = {tuple(image[0].sum(0)) for image in out}
    assert len(shifts) > 4


def test_translation_keeps_what_it_moves():
    x = np.zeros((50, 1, 16, 16))
    x[:, :, 8, 8] = np.arange(1, 51)[:, None]
    out = translation(mg.tensor(x), mg.Generator(0)).numpy()
    np.testing.assert_array_equal(out.sum((1, 2, 3)), np.arange(1, 51))
    places = np.argwhere(out)[:, 2:]
    assert places.min() == 6 and places.max() == 10


def test_cutout_blanks_a_square_of_half_the_size():
    out = cutout(mg.tensor(np.ones((400, 1, 8, 8))), mg.Generator(0)).numpy()
    gone = 64 - out.sum((1, 2, 3))
    assert gone.max() == 16 and gone.min() >= 4
    whole = out[gone == 16][0, 0]
    rows, columns = np.flatnonzero(1 - whole.min(1)), np.flatnonzero(1 - whole.min(0))
    assert len(rows) == len(columns) == 4 and rows[-1] - rows[0] == 3


def test_an_unknown_transformation_is_named():
    with pytest.raises(ValueError, match="no 'blur'; there are color, translation, cutout"):
        parse("color, blur")
    assert parse(" color ,cutout") == ("color", "cutout") and parse("") == ()
