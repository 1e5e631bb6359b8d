"""`gan` and `dcgan`: losses against theory, networks against their tables, steps, sampling."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions
from minigen.gan.losses import discriminator_loss, minimax, non_saturating
from minigen.gan.regularizers import gradient_penalty
from minigen.testing import gradcheck

IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32)


def small(kind=DCGAN, shape=(1, 28, 28), **options):
    if kind is DCGAN:
        options = {"channels": 4} | options
    return kind(kind.Options(batch_size=4, **options), shape, rng=mg.Generator(0))


def test_optimal_discriminator_pays_two_ln_two():
    undecided = mg.tensor(np.zeros((8, 1)))
    loss = discriminator_loss(undecided, undecided)
    assert loss.item() == pytest.approx(2 * np.log(2), abs=1e-12)


def test_discriminator_loss_is_minimal_at_the_ratio_of_densities():
    """On two points with p_data (.8, .2), p_model (.3, .7): D* = p_data / (p_data + p_model)."""
    p, q = np.array([0.8, 0.2]), np.array([0.3, 0.7])
    logit = mg.tensor(np.log(p / q), requires_grad=True)
    loss = (p * mg.softplus(-logit)).sum() + (q * mg.softplus(logit)).sum()
    (g,) = mg.grad(loss, [logit])
    np.testing.assert_allclose(g.numpy(), 0, atol=1e-12)
    divergence = 0.5 * sum((d * np.log(2 * d / (p + q))).sum() for d in (p, q))
    assert loss.item() == pytest.approx(2 * np.log(2) - 2 * divergence)


def test_generator_losses_agree_in_sign_and_differ_where_saturated():
    fake = mg.tensor(np.array([-30.0]), requires_grad=True)
    (flat,) = mg.grad(minimax(fake), [fake])
    (steep,) = mg.grad(non_saturating(fake), [fake])
    assert -1e-12 < flat.item() < 0 and steep.item() == pytest.approx(-1)


def test_losses_stay_finite_for_any_logit():
    for size in (1e4, -1e4):
        logit = mg.tensor(np.array([size], np.float32))
        for loss in (discriminator_loss(logit, logit), minimax(logit), non_saturating(logit)):
            assert np.isfinite(loss.item())


def test_gradient_penalty_of_a_linear_critic_is_exact():
    w = np.random.default_rng(0).standard_normal((3 * 4 * 4,))
    critic = lambda x: x.reshape(len(x), -1) @ mg.tensor(w)
    real, fake = (mg.tensor(np.random.default_rng(i).standard_normal((2, 3, 4, 4))) for i in (1, 2))
    penalty = gradient_penalty(critic, real, fake, rng=mg.Generator(0))
    assert penalty.item() == pytest.approx((np.linalg.norm(w) - 1) ** 2)


def test_gradient_penalty_is_differentiable_by_the_critic():
    real, fake = (mg.tensor(np.random.default_rng(i).standard_normal((2, 1, 4, 4))) for i in (1, 2))

    def penalty(w, v):
        critic = lambda x: mg.tanh(mg.conv2d(x, w, stride=2)).reshape(2, -1) @ v
        return gradient_penalty(critic, real, fake, rng=mg.Generator(0))

    rng = np.random.default_rng(3)
    gradcheck(penalty, [rng.standard_normal((2, 1, 2, 2)), rng.standard_normal(8)], order=1)


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
def test_generator_loss_option_is_obeyed(loss):
    out = small(generator_loss=loss).step(IMAGES, None, mg.Generator(0))
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
