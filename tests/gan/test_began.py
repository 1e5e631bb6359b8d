"""`began`: the controller by hand, equilibrium, options, capture."""

import numpy as np
import pytest

import minigen as mg
from minigen.gan.began import BEGAN, BEGANOptions, move_controller

IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32)


def small(shape=(1, 28, 28), **options):
    options = {"batch_size": 4, "channels": 4, "latent": 8} | options
    return BEGAN(BEGANOptions(**options), shape, rng=mg.Generator(0))


def test_controller_moves_by_the_imbalance_and_stays_in_zero_to_one():
    k = mg.tensor(np.float32(0.5))
    move_controller(k, mg.tensor(np.float32(0.2)), 0.1)
    assert k.item() == pytest.approx(0.52)
    move_controller(k, mg.tensor(np.float32(-50)), 0.1)
    assert k.item() == 0
    move_controller(k, mg.tensor(np.float32(50)), 0.1)
    assert k.item() == 1


def test_a_step_reports_the_papers_quantities():
    model = small(gain=0.1, gamma=0.7, lr=0.0)
    losses = {name: v.item() for name, v in model.step(IMAGES, None, mg.Generator(1)).items()}
    of_real = model.score(mg.asarray(IMAGES)).mean().item()
    assert losses["discriminator"] == pytest.approx(of_real, rel=1e-5)
    balance = 0.7 * losses["discriminator"] - losses["generator"]
    assert losses["k"] == pytest.approx(np.clip(0.1 * balance, 0, 1), abs=1e-6)
    assert losses["convergence"] == pytest.approx(of_real + abs(balance), rel=1e-4)


def test_k_is_part_of_the_state():
    model, again = small(gain=1.0), small(gain=1.0)
    for _ in range(2):
        model.step(IMAGES, None, mg.Generator(1))
    assert model.k.item() > 0
    again.load_state_dict(model.state_dict())
    assert again.k.item() == model.k.item()


@pytest.mark.parametrize("change", [{"latent": 5}, {"channels": 8}, {"gamma": 0.0}, {"gain": 0.5},
                                    {"lr": 1e-2}, {"beta1": 0.0}, {"ema": 0.0},
                                    {"batch_size": 2}], ids=str)  # fmt: skip
def test_each_option_changes_what_is_trained(change):
    def samples(**options):
        model, rng = small(**options), mg.Generator(1)
        for _ in range(3):
            losses = model.step(IMAGES[: model.images_per_step], None, rng)
        return [v.item() for v in losses.values()], model.sample(2, mg.Generator(2))

    losses, images = samples()
    others, pictures = samples(**change)
    assert losses != others or not np.array_equal(images, pictures)


def test_an_autoencoder_learns_its_images():
    model, rng = small(lr=2e-3), mg.Generator(1)
    bright, dark = np.full((2, 1, 28, 28), 0.8), np.full((2, 1, 28, 28), -0.8)
    images = np.concatenate([bright, dark]).astype(np.float32)
    losses = [model.step(images, None, rng)["discriminator"].item() for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_captured_steps_give_the_bits_of_ordinary_ones():
    def run(wrap):
        model, rng = small(gain=0.1), mg.Generator(1)
        step = wrap(model.step)
        return [v.item() for _ in range(5) for v in step(IMAGES, None, rng).values()]

    assert run(mg.capture) == run(lambda step: step)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_networks_fit_sizes(size):
    model = small((3, size, size))
    assert model.sample(2, mg.Generator(0)).shape == (2, 3, size, size)
    assert model.score(mg.zeros((2, 3, size, size))).shape == (2, 1)


@pytest.mark.parametrize("shape", [(1, 28, 30), (1, 27, 27), (1, 3, 3)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=f"began: images are {shape[1]}x{shape[2]}"):
        small(shape)


def test_evaluation_gives_both_errors():
    found = small().evaluate([(IMAGES, None)], mg.Generator(0))
    assert found["discriminator_loss"]["low"] < found["discriminator_loss"]["high"]
    assert found["generator_loss"]["value"] > 0
