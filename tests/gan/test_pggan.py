"""`pggan`: the schedule, no jump where a resolution comes in, networks, options, resuming."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.gan.growing import (
    Growth,
    Smeared,
    averaged,
    averaging_conv,
    enlarged,
    upsampling_conv,
    widths_of,
)
from minigen.gan.pggan import PGGAN, PGGANOptions
from minigen.testing import gradcheck

IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32)


@pytest.fixture(autouse=True)
def plain_kernels():
    with mg.kernels.use("reference"):
        yield


def small(shape=(1, 28, 28), **options):
    options = {"batch_size": 4, "channels": 2, "latent": 8, "phase_steps": 4} | options
    return PGGAN(PGGANOptions(**options), shape, rng=mg.Generator(0))


def stages(growth, steps):
    found = []
    for growth.steps in range(steps):
        found.append((growth.level, growth.alpha))
    return found


def states_equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


# the schedule ------------------------------------------------------------------------------------


def test_each_size_is_faded_in_over_half_a_phase_then_stays():
    found = stages(Growth((7, 14, 28), 4), 14)
    first, second, third = [(0, 1.0)] * 4, [(1, 0.5), *[(1, 1.0)] * 3], [(2, 0.5), *[(2, 1.0)] * 5]
    assert found == first + second + third
    growth = Growth((4, 8), 1000)
    growth.steps = 1249
    assert (growth.level, growth.alpha) == (1, 0.5)
    assert stages(Growth((4, 8), 1), 3) == [(0, 1.0), (1, 1.0), (1, 1.0)]


def test_full_size_from_the_beginning_without_growing():
    assert stages(Growth((7, 14, 28), 4, grow=False), 9) == [(2, 1.0)] * 9


def test_a_phase_begins_once():
    growth, begins = Growth((7, 14, 28), 4), []
    for growth.steps in range(20):
        begins += [growth.steps] if growth.begins else []
    assert begins == [0, 4, 8]


def test_too_few_steps_to_grow_up_are_told_before():
    model = small()
    assert model.notice(9) == small(grow=False).notice(1) == ""
    assert model.notice(8) == (
        "pggan: 8 steps of phase_steps=4 end at 14x14 pixels; for 28x28 give more than --steps 8,"
        " or --set phase_steps=2"
    )
    assert "end at 7x7 pixels" in model.notice(4) and "phase_steps=1" in model.notice(2)


def test_steps_and_options_move_the_growth():
    model, rng = small(phase_steps=2), mg.Generator(1)
    assert (model.growth.level, small(grow=False).growth.level) == (0, 2)
    for _ in range(5):
        model.step(IMAGES, None, rng)
    assert (model.growth.steps, model.growth.level) == (5, 2)


# the networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(28, (7, 14, 28)), (32, (4, 8, 16, 32)), (64, (4, 8, 16, 32, 64)), (128, None)],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_networks_at_each_size(size, sizes, colours):
    model = small((colours, size, size))
    growth = model.growth
    assert growth.sizes == (sizes or (4, 8, 16, 32, 64, 128))
    z = model.noise(2, mg.Generator(1))
    for level, pixels in enumerate(growth.sizes):
        growth.steps = 4 * level + 3
        images = model.generator.at(z, level, 1.0)
        assert images.shape == (2, colours, pixels, pixels)
        full = model.generator(z)
        assert full.shape == (2, colours, size, size)
        again = averaged(full, growth.factor(level)).numpy()
        np.testing.assert_allclose(again, images.numpy(), rtol=1e-4, atol=1e-6)
        assert model.discriminator(full).shape == (2, 1)
    assert model.sample(2, mg.Generator(0)).shape == (2, colours, size, size)


def test_widths_double_with_each_halving_up_to_the_papers_limit():
    assert widths_of(Growth((4, 8, 16, 32, 64), 1), 64) == [512, 512, 256, 128, 64]
    model = small((1, 32, 32))
    assert [layer.in_channels for layer in model.generator.to_colours] == [16, 8, 4, 2]
    assert [each[0].out_channels for each in model.discriminator.from_colours] == [16, 8, 4, 2]


def test_all_weights_are_equalised_and_standard_normal():
    model = small(channels=16)
    layers = [m for m in model.modules() if getattr(m, "weight", None) is not None]
    assert len(layers) == 19 and all(type(m).__name__.startswith("Equalized") for m in layers)
    for layer in layers:
        if layer.weight.size > 2000:
            assert layer.weight.numpy().std() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("level", [1, 2])
def test_a_new_size_comes_in_without_a_jump(level):
    model = small()
    z, x = model.noise(3, mg.Generator(1)), mg.tensor(IMAGES[:, :, :: 4 >> level, :: 4 >> level])
    generator, critic = model.generator, model.discriminator
    before = enlarged(generator.at(z, level - 1, 1.0), 2)
    np.testing.assert_array_equal(generator.at(z, level, 0.0).numpy(), before.numpy())
    after, half = (generator.at(z, level, alpha).numpy() for alpha in (1.0, 0.5))
    np.testing.assert_allclose(half, (before.numpy() + after) / 2, atol=1e-6)
    assert not np.allclose(before.numpy(), after, atol=1e-2)
    judged = critic.at(averaged(x, 2), level - 1, 1.0).numpy()
    np.testing.assert_allclose(critic.at(x, level, 0.0).numpy(), judged, rtol=1e-5)
    assert not np.allclose(critic.at(x, level, 1.0).numpy(), judged, rtol=1e-2)


def test_real_images_are_faded_as_generated_ones():
    model = small(phase_steps=8)
    x = mg.tensor(IMAGES)
    model.growth.steps = 8
    assert (model.growth.level, model.growth.alpha) == (1, 0.25)
    seen = averaged(model.faded(x), 2).numpy()
    coarse = enlarged(averaged(x, 4), 2).numpy()
    np.testing.assert_allclose(seen, 0.75 * coarse + 0.25 * averaged(x, 2).numpy(), atol=1e-6)
    model.growth.steps = 12
    assert model.faded(x) is x


def test_samples_have_full_size_before_the_networks_do():
    images = small((3, 28, 28)).sample(2, mg.Generator(0))
    assert images.shape == (2, 3, 28, 28)
    blocks = images.reshape(2, 3, 7, 4, 7, 4)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :, :, :1, :, :1], blocks.shape))
    assert np.ptp(images) > 0.1


def test_latents_count_by_direction_alone():
    model = small()
    z = model.noise(3, mg.Generator(1))
    np.testing.assert_allclose(
        model.generator(z).numpy(), model.generator(5 * z).numpy(), atol=1e-4
    )


@pytest.mark.parametrize("make", [upsampling_conv, averaging_conv])
def test_convolutions_that_resize_equal_the_two_steps(make):
    layer = make(3, 4, rng=mg.Generator(0))
    x = mg.tensor(np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32))
    if make is upsampling_conv:
        kernel = mg.flip(mg.swapaxes(layer.weight, 0, 1), (2, 3)) * (2 / 27) ** 0.5
        expected = mg.conv2d(enlarged(x, 2), kernel, padding=1)
    else:
        expected = averaged(mg.conv2d(x, layer.weight * (2 / 27) ** 0.5, padding=1), 2)
    np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), atol=1e-5)


# the step ----------------------------------------------------------------------------------------


def test_layers_not_in_use_are_left_alone_and_adam_counts_for_each():
    model, rng = small(), mg.Generator(1)
    start = {name: t.numpy().copy() for name, t in model.named_parameters()}

    def moved():
        return {name for name, t in model.named_parameters() if (t.numpy() != start[name]).any()}

    def counts(optimizer, part):
        pairs = zip(optimizer.names, optimizer.steps, strict=True)
        return {count for name, count in pairs if name.startswith(part)}

    for _ in range(4):
        model.step(IMAGES, None, rng)
    assert moved() and all(
        any(name.startswith(f"{player}.{part}.0") for part in parts)
        for name in moved()
        for player, parts in [(name.split(".")[0], ("blocks", "to_colours", "from_colours"))]
    )
    model.step(IMAGES, None, rng)  # fading in
    generator, critic = model.generator_optimizer, model.discriminator_optimizer
    assert counts(generator, "blocks.0") == {5} and counts(generator, "blocks.1") == {1}
    assert counts(generator, "blocks.2") == {0} and counts(critic, "blocks.2") == {0}
    for _ in range(2):
        model.step(IMAGES, None, rng)
    assert counts(generator, "to_colours.0") == counts(critic, "from_colours.0") == {5}
    assert counts(critic, "from_colours.1") == {3}


def test_the_penalty_reaches_every_layer_in_use_by_second_order():
    """The gradient of the penalty alone, by finite differences, in the middle of a fade."""
    model = small(grow=True, phase_steps=8).to(dtype=np.float64)
    model.growth.steps = 8
    critic = model.discriminator
    mix = np.random.default_rng(2).uniform(-1, 1, (4, 1, 28, 28))

    def penalty(first, last, old):
        critic.blocks[1][0].weight, critic.blocks[0][1].weight = first, last
        critic.from_colours[0][0].weight = old
        x = mg.tensor(mix, requires_grad=True)
        (slope,) = mg.grad(critic(x).sum(), [x], create_graph=True)
        return ((mg.sqrt((slope**2).sum((1, 2, 3))) - 1) ** 2).mean()

    layers = critic.blocks[1][0], critic.blocks[0][1], critic.from_colours[0][0]
    gradcheck(penalty, [layer.weight.numpy().copy() for layer in layers], order=1, eps=1e-6)


def test_drift_is_the_mean_square_of_the_decisions_on_real_images():
    without, with_drift = small(drift=0.0), small(drift=0.5)
    x = mg.tensor(IMAGES)
    fake = without.generator(without.noise(4, mg.Generator(1))).detach()
    losses = [m.judge(x, fake, None, mg.Generator(2))[1].item() for m in (without, with_drift)]
    square = (without.discriminator(x).numpy() ** 2).mean()
    assert losses[1] - losses[0] == pytest.approx(0.5 * square, rel=1e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {"phase_steps": 1}, {"grow": False}, {"drift": 0.1}, {"minibatch_stddev": False},
        {"channels": 3}, {"loss": "non-saturating"}, {"critic_steps": 2},
        {"loss": "hinge", "regularizer": "r1"},
        {"regularizer_weight": 1.0}, {"packing": 2}, {"conditional": "embedding"}, {"beta2": 0.9},
        {"diff_augment": "translation"}, {"clip_grad_norm": 1e-3},
        {"optimizer": "rmsprop"}, {"discriminator_lr": 0.02},
    ],
    ids=repr,
)  # fmt: skip
def test_options_change_the_run(changed):
    def run(**options):
        model, rng = small(**options), mg.Generator(1)
        images = IMAGES if options.get("critic_steps", 1) == 1 else np.concatenate([IMAGES] * 2)
        losses = [model.step(images, np.arange(len(images)), rng) for _ in range(3)]
        assert all(np.isfinite(v.item()) for step in losses for v in step.values())
        return model.sample(2, mg.Generator(5))

    assert not np.array_equal(run(), run(**changed))


def test_classes_are_embedded():
    model = small(conditional="embedding", classes=3)
    model.step(IMAGES, np.array([0, 1, 2, 0]), mg.Generator(1))
    a, b = (model.sample(2, mg.Generator(5), labels=[k, k]) for k in (0, 1))
    assert model.classes == 3 and not np.array_equal(a, b)


def test_the_average_warms_up_anew_with_each_size():
    model, rng = small(ema=0.9), mg.Generator(1)
    updates = []
    for _ in range(9):
        model.step(IMAGES, None, rng)
        updates.append(model.ema.updates)
    assert updates == [1, 2, 3, 4, 1, 2, 3, 4, 1]


@pytest.mark.parametrize("steps", [5, 6])  # within a fade, and at its end
def test_resuming_in_the_middle_of_a_fade_is_exact(steps):
    def train(model, rng, count):
        return [v.item() for _ in range(count) for v in model.step(IMAGES, None, rng).values()]

    whole, rng = small(phase_steps=4), mg.Generator(1)
    train(whole, rng, steps)
    kept = {k: np.array(v) for k, v in whole.state_dict().items()}
    place = rng.state_dict()
    expected = train(whole, rng, 5)

    again, rng = small(phase_steps=4), mg.Generator(9)
    again.load_state_dict(kept)
    rng.load_state_dict(place)
    assert again.growth.steps == steps and again.growth.level == 1
    assert train(again, rng, 5) == expected and states_equal(whole, again)
    np.testing.assert_array_equal(
        whole.sample(2, mg.Generator(3)), again.sample(2, mg.Generator(3))
    )


def test_a_step_is_not_one_to_be_replayed():
    assert not getattr(PGGAN.step, "replayable", False)


def test_evaluates_while_it_grows():
    found = small().evaluate([(IMAGES, None)], mg.Generator(0))
    assert np.isfinite([v["value"] for v in found.values()]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: small((1, 28, 32)),
            "pggan: images are 28x32, expected squares of 28, 32, 64, 128",
        ),
        (lambda: small((1, 30, 30)), "pggan: images are 30x30, expected squares of"),
        (lambda: small(spectral_norm=True), "spectral_norm=true: pggan scales its weights already"),
        (lambda: small(orthogonal=0.1), "orthogonal=0.1: it would move pggan's layers"),
        (lambda: small(regularizer="none"), "loss=wasserstein with regularizer=none"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_options_have_the_papers_defaults():
    o = PGGANOptions()
    assert (o.loss, o.regularizer, o.drift, o.critic_steps) == (
        "wasserstein", "gradient-penalty", 0.001, 1,
    )  # fmt: skip
    assert (o.beta1, o.beta2, o.ema) == (0.0, 0.99, 0.999)
    assert o.minibatch_stddev and o.grow
    assert isinstance(small().discriminator.blocks[0][0], nn.MinibatchStddev)
    assert isinstance(small().generator.blocks[0][0], nn.PixelNorm)
    assert isinstance(small().generator.blocks[1][0].reweight, Smeared)
