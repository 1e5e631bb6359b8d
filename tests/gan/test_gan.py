"""`gan` and `dcgan`: networks against their tables, steps, sampling, each option."""

import dataclasses

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions

IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32)


def small(kind=DCGAN, shape=(1, 28, 28), **options):
    if kind is DCGAN:
        options = {"channels": 4} | options
    return kind(kind.Options(batch_size=4, **options), shape, rng=mg.Generator(0))


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64, 128])
def test_dcgan_networks_follow_the_paper(size, colours):
    model = small(shape=(colours, size, size))
    convs = [m for m in model.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    width = 4 * 2 ** (len(convs) - 2)
    assert [c.weight.shape[1] for c in convs] == [
        *(width >> i for i in range(len(convs) - 1)),
        colours,
    ]
    mirrored = [m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [c.weight.shape[0] for c in mirrored][:-1] == [c.weight.shape[1] for c in convs[-2::-1]]
    norms = [m for m in model.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(mirrored) - 2  # none at the input, none at the logit
    assert model.sample(2, mg.Generator(0)).shape == (2, colours, size, size)
    images = mg.zeros((2, colours, size, size))
    assert model.discriminator(images).shape == (2, 1)


def test_dcgan_weights_start_as_the_paper_says():
    model = DCGAN(DCGANOptions(channels=32), (1, 28, 28), rng=mg.Generator(0))
    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) and m.weight.size > 10_000:
            assert m.weight.numpy().std() == pytest.approx(0.02, rel=0.05)
            assert abs(m.weight.numpy().mean()) < 0.001
        elif isinstance(m, nn.BatchNorm2d):
            assert m.weight.numpy().std() == pytest.approx(0.02, rel=0.5)
            assert abs(m.weight.numpy().mean() - 1) < 0.02 and not m.bias.numpy().any()


def test_gan_networks_follow_the_table():
    model = small(GAN)
    dense = [m.weight.shape for m in model.generator.modules() if isinstance(m, nn.Linear)]
    assert dense == [(256, 100), (512, 256), (512, 512), (784, 512)]
    convs = [m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d)]
    layers = [(c.weight.shape[0], c.stride[0]) for c in convs]
    assert layers == [(64, 2), (128, 2), (256, 2), (512, 1)]
    assert model.sample(3, mg.Generator(0)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize("kind", [GAN, DCGAN])
def test_steps_move_both_networks_and_repeat_exactly(kind):
    def run():
        model, rng = small(kind), mg.Generator(1)
        start = {k: v.copy() for k, v in model.state_dict().items() if hasattr(v, "copy")}
        losses = [model.step(IMAGES, None, rng) for _ in range(3)]
        return model, start, [v.item() for step in losses for v in step.values()]

    model, start, losses = run()
    again, _, repeated = run()
    assert losses == repeated and np.isfinite(losses).all()
    first, second = model.state_dict(), again.state_dict()
    for name, before in start.items():
        np.testing.assert_array_equal(first[name], second[name])
        if name.endswith("weight"):
            assert not np.array_equal(first[name], before), name


def test_a_discriminator_trained_alone_learns_to_tell_real_from_fake():
    model, rng = small(DCGAN, lr=0.0), mg.Generator(1)
    model.discriminator_optimizer.lr = 2e-3
    losses = [model.step(IMAGES, None, rng)["discriminator"].item() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_loss_option_is_obeyed(loss):
    out = small(loss=loss).step(IMAGES, None, mg.Generator(0))
    assert (out["generator"].item() < 0) == (loss == "minimax")


def test_samples_come_from_the_averaged_generator():
    with_ema, without = small(ema=0.9), small(ema=0.0)
    for model in (with_ema, without):
        rng = mg.Generator(1)
        for _ in range(3):
            model.step(IMAGES, None, rng)
    a, b = (m.sample(2, mg.Generator(5)) for m in (with_ema, without))
    assert a.min() >= 0 and a.max() <= 1 and not np.array_equal(a, b)
    assert with_ema.generator.training


LABELS = np.array([0, 1, 2, 3])
BASE = {"batch_size": 4, "channels": 4, "normalization": "none"}
CHANGES = [
    {"latent": 7},
    {"network": "dense"},
    {"channels": 8},
    {"loss": "minimax"},
    {"loss": "least-squares"},
    {"loss": "hinge"},
    {"loss": "wasserstein", "regularizer": "gradient-penalty"},
    {"loss": "wasserstein", "regularizer": "weight-clipping"},
    {"regularizer": "gradient-penalty"},
    {"regularizer": "gradient-penalty", "regularizer_weight": 1.0},
    {"regularizer": "r1"},
    {"regularizer": "r2"},
    {"regularizer": "dragan"},
    {"regularizer": "weight-clipping"},
    {"normalization": "layer"},
    {"normalization": "batch"},
    {"normalization": "instance"},
    {"spectral_norm": True},
    {"minibatch_stddev": True},
    {"packing": 2},
    {"conditional": "embedding"},
    {"conditional": "projection"},
    {"conditional": "projection", "classes": 5},
    {"critic_steps": 2},
    {"lr": 1e-3},
    {"discriminator_lr": 1e-3},
    {"optimizer": "rmsprop"},
    {"beta1": 0.0},
    {"beta2": 0.9},
    {"clip_grad_norm": 0.01},
    {"orthogonal": 1.0},
    {"diff_augment": "translation"},
    {"ema": 0.0},
]


def trained(**options):
    """The state after three steps, and samples."""
    model = DCGAN(DCGANOptions(**BASE | options), (1, 28, 28), rng=mg.Generator(0))
    rng, images = mg.Generator(1), np.tile(IMAGES, (model.options.critic_steps, 1, 1, 1))
    labels = np.tile(LABELS, model.options.critic_steps)
    assert model.images_per_step == len(images)
    for _ in range(3):
        losses = model.step(images, labels, rng)
    assert all(np.isfinite(v.item()) for v in losses.values())
    return model, model.sample(4, mg.Generator(2))


@pytest.fixture(scope="module")
def plain():
    return trained()[1]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_option_changes_what_is_trained(change, plain):
    model, images = trained(**change)
    assert images.shape == plain.shape and not np.array_equal(images, plain)
    assert model.classes == (0 if "conditional" not in change else change.get("classes", 10))


def test_all_options_are_among_the_changes():
    tried = {"batch_size"}.union(*CHANGES)
    assert tried == {field.name for field in dataclasses.fields(GANOptions)}


def test_clipped_weights_stay_within_the_limit():
    model, _ = trained(regularizer="weight-clipping", regularizer_weight=0.005)
    for p in model.discriminator.parameters():
        assert abs(p.numpy()).max() <= np.float32(0.005)


def test_packs_are_images_stacked_along_the_channels():
    model = small(packing=2)
    x = mg.asarray(IMAGES)
    packs = model.shown(x, None)
    np.testing.assert_array_equal(packs.numpy(), IMAGES.reshape(2, 2, 28, 28))
    assert model.score(x).shape == (2, 1)


def test_a_discriminator_sees_how_a_batch_varies():
    model = small(minibatch_stddev=True, normalization="none")
    alike = mg.asarray(np.repeat(IMAGES[:1], 4, axis=0))
    alone, among = model.score(alike).numpy()[0], model.score(mg.asarray(IMAGES)).numpy()[0]
    assert alone != among  # the first image is the same


@pytest.mark.parametrize("kind", ["embedding", "projection"])
def test_conditional_networks_heed_the_label(kind):
    model, _ = trained(conditional=kind)
    z = mg.Generator(3).normal((1, 100))
    pictures = [model.decode(z, mg.asarray(np.array([y]))) for y in (0, 1)]
    assert not np.array_equal(*pictures)
    x = mg.asarray(IMAGES[:1])
    zero, one = (model.score(x, mg.asarray(np.array([y]))).item() for y in (0, 1))
    assert zero != one
    np.testing.assert_array_equal(
        model.sample(12, mg.Generator(2))[10:],
        model.sample(12, mg.Generator(2), labels=[*range(10), 0, 1])[10:],
    )


def test_labels_that_do_not_fit_are_refused():
    model = small(conditional="projection", classes=3)
    with pytest.raises(ValueError, match="labels are 0 to 3, expected 0 to 2"):
        model.sample(4, mg.Generator(0), labels=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"labels are int64 \(2,\), expected integers \(4,\)"):
        model.sample(4, mg.Generator(0), labels=[0, 1])
    with pytest.raises(ValueError, match="the images have no labels"):
        model.step(IMAGES, None, mg.Generator(0))
    with pytest.raises(ValueError, match="takes no labels"):
        small().sample(2, mg.Generator(0), labels=[0, 1])


def test_the_number_of_classes_is_that_of_the_learnt_vectors():
    model = small(conditional="projection", classes=3)
    assert model.classes == 3 and model.discriminator.embedding.weight.shape[0] == 3
    assert model.generator.embedding.weight.shape[0] == 3


def test_images_that_critic_steps_do_not_divide_are_refused():
    model = small(critic_steps=3)
    with pytest.raises(ValueError, match="got 4 images, expected a multiple of critic_steps 3"):
        model.step(IMAGES, None, mg.Generator(0))


def test_interpolation_in_one_dimension_is_a_line_and_no_images_are_no_images():
    model = small(latent=1)
    assert np.isfinite(model.interpolate(4, mg.Generator(0))).all()
    assert model.sample(0, mg.Generator(0)).shape == (0, 1, 28, 28)


def test_truncated_noise_lies_within_the_limit_and_is_normal_there():
    model = small()
    z = model._truncated(500, 0.5, mg.Generator(0)).numpy()
    assert abs(z).max() <= 0.5
    inside = np.random.default_rng(0).standard_normal(200_000)
    inside = inside[abs(inside) <= 0.5]
    assert z.std() == pytest.approx(inside.std(), rel=0.02)
    near = model.sample(8, mg.Generator(0), truncation=0.1)
    assert near.std(0).mean() < model.sample(8, mg.Generator(0)).std(0).mean()
    with pytest.raises(ValueError, match="truncation is 0"):
        model.sample(2, mg.Generator(0), truncation=0)


def test_a_run_of_critic_steps_goes_on_bit_for_bit_from_its_state():
    model, rng = small(critic_steps=2, spectral_norm=True, normalization="none"), mg.Generator(1)
    images = np.tile(IMAGES, (2, 1, 1, 1))
    model.step(images, None, rng)
    state = {k: np.copy(v) if hasattr(v, "shape") else v for k, v in model.state_dict().items()}
    held = rng.state_dict()
    first = model.step(images, None, rng)
    again = small(critic_steps=2, spectral_norm=True, normalization="none")
    again.load_state_dict(state)
    other = mg.Generator(9)
    other.load_state_dict(held)
    second = again.step(images, None, other)
    assert [v.item() for v in first.values()] == [v.item() for v in second.values()]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name])


CAPTURED = [
    {},
    {"critic_steps": 2, "spectral_norm": True},
    {"loss": "wasserstein", "regularizer": "gradient-penalty"},
    {"conditional": "projection"},
    {"diff_augment": "color,translation,cutout"},
]


@pytest.mark.parametrize("change", CAPTURED, ids=str)
def test_captured_steps_give_the_bits_of_ordinary_ones(change):
    def run(wrap):
        model = DCGAN(DCGANOptions(**BASE | change), (1, 28, 28), rng=mg.Generator(0))
        step, rng = wrap(model.step), mg.Generator(1)
        n = model.options.critic_steps
        images, labels = np.tile(IMAGES, (n, 1, 1, 1)), np.tile(LABELS, n)
        return [v.item() for _ in range(5) for v in step(images, labels, rng).values()]

    assert run(mg.capture) == run(lambda step: step)


def test_interpolation_ends_at_its_two_noise_vectors():
    model = small()
    z = model.noise(2, mg.Generator(3))
    frames = model.interpolate(5, mg.Generator(3))
    np.testing.assert_allclose(frames[[0, -1]], model.decode(z), atol=1e-6)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="dcgan: images are 28x30"):
        small(shape=(1, 28, 30))


def test_options_defaults_are_the_sources():
    assert (GANOptions().batch_size, GANOptions().lr, GANOptions().beta1) == (100, 2e-4, 0.5)
    assert (DCGANOptions().batch_size, DCGANOptions().latent) == (128, 100)
