"""What every model has from its base class: the labels it takes, and ways between codes."""

from dataclasses import dataclass

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.nn.latent import great_circle, straight_line


@dataclass(frozen=True)
class Options:
    conditional: str = "label"
    classes: int = 3


class Labelled(nn.Model):
    def __init__(self, options):
        super().__init__(options, (1, 2, 2))
        self.layer = nn.Linear(1, 1, rng=mg.Generator(0))


def test_labels_are_checked_or_chosen():
    model = Labelled(Options())
    assert model.classes == 3
    labels = model.chosen_labels(5, None)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 2, 0, 1]
    assert model.chosen_labels(2, [2, 0]).tolist() == [2, 0]
    for wrong, message in (
        ([0, 1], r"Labelled: labels are int64 \(2,\), expected integers \(3,\)"),
        ([0.0, 1.0, 2.0], r"labels are float32 \(3,\), expected integers \(3,\)"),
        ([0, 1, 3], "Labelled: labels are 0 to 3, expected 0 to 2"),
        ([-1, 1, 2], "Labelled: labels are -1 to 2, expected 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.chosen_labels(3, wrong)


def test_images_that_exist_have_labels():
    model, images = Labelled(Options()), np.zeros((2, 1, 2, 2))
    assert model.known([1, 2]).tolist() == model.labels_of(images, [1, 2]).tolist() == [1, 2]
    for ask in (model.known, lambda labels: model.labels_of(images, labels)):
        with pytest.raises(ValueError, match="conditional=label: the images have no labels"):
            ask(None)
    with pytest.raises(ValueError, match="labels are 1 to 3, expected 0 to 2"):
        model.labels_of(images, [1, 3])
    assert Labelled(Options(conditional="none")).known([1, 2]) is None  # the data's, not needed


@pytest.mark.parametrize("options", [Options(conditional="none"), object()])
def test_a_model_without_classes_takes_no_labels(options):
    model = Labelled(options)
    assert model.classes == 0 and model.chosen_labels(4, None) is None
    with pytest.raises(ValueError, match="Labelled: takes no labels; train a conditional model"):
        model.chosen_labels(1, [0])


def test_ways_between_codes():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    np.testing.assert_allclose(straight_line(a, b, 3), [[2, 0], [1, 1], [0, 2]])
    half = 2**0.5
    np.testing.assert_allclose(great_circle(a, b, 3), [[2, 0], [half, half], [0, 2]], atol=1e-12)
    np.testing.assert_allclose(great_circle(a, -a, 3), straight_line(a, -a, 3))
