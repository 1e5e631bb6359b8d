"""`vae-gan`: each loss by its formula, whose gradient reaches whom, options, resuming, capture."""

import dataclasses

import numpy as np
import pytest

import minigen as mg
from minigen import kernels, nn
from minigen.vae.conv_vae import ConvVAE
from minigen.vae.vae_gan import VAEGAN, VAEGANOptions

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 1, 28, 28)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
TINY = {"batch_size": 4, "channels": 2, "discriminator_channels": 2, "latent": 3}


@pytest.fixture(autouse=True)
def plain():
    with kernels.use("reference"):
        yield


def make(shape=(1, 28, 28), **options):
    return VAEGAN(VAEGANOptions(**TINY | options), shape, rng=mg.Generator(0))


def trained(steps=3, **options):
    model, rng = make(**options), mg.Generator(1)
    for _ in range(steps):
        losses = model.step(IMAGES, LABELS, rng)
    return model, {name: value.item() for name, value in losses.items()}


def logs(probabilities):
    return np.log(probabilities.numpy().astype(np.float64))


# ------------------------------------------------------------------------- networks and losses


def test_encoder_and_decoder_are_those_of_conv_vae():
    mine, other = VAEGAN.Options(), ConvVAE.Options()
    for name in ("latent", "network", "channels", "activation", "likelihood"):
        assert getattr(mine, name) == getattr(other, name)
    model = make()
    peer = ConvVAE(ConvVAE.Options(channels=2, latent=3), (1, 28, 28), rng=mg.Generator(0))
    for part in ("encoder", "decoder"):
        a, b = getattr(model, part).state_dict(), getattr(peer, part).state_dict()
        assert a.keys() == b.keys() and len(a) > 4
        for key, value in a.items():
            np.testing.assert_array_equal(value, b[key])  # down to the first weights


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 24)])
def test_discriminator_halves_down_to_the_features_of_layer_l(shape):
    model = make(shape)
    features, logits = model.discriminator(mg.zeros((2, *shape)))
    assert logits.shape == (2,) and 4 <= min(features.shape[2:]) <= 7
    widths = [m.out_channels for m in model.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [2 << i for i in range(len(widths))] and features.shape[1] == widths[-1]
    assert model.sample(2, mg.Generator(0)).shape == (2, *shape)


def test_losses_are_their_formulas():
    model, rng = make(), np.random.default_rng(1)
    x, again, new = (mg.asarray(rng.uniform(size=(4, 1, 28, 28))) for _ in range(3))
    like, generator, discriminator = (t.numpy() for t in model.judge(x, again, new))
    (f, real), (g, of_again), (_, of_new) = (model.discriminator(each) for each in (x, again, new))
    gaps = (f - g).numpy().astype(np.float64)
    np.testing.assert_allclose(like, [0.5 * (gap**2).sum() for gap in gaps], rtol=1e-5)
    d, d_again, d_new = map(mg.sigmoid, (real, of_again, of_new))
    np.testing.assert_allclose(generator, -logs(d_again) - logs(d_new), rtol=1e-4)
    expected = -logs(d) - logs(1 - d_again) - logs(1 - d_new)
    np.testing.assert_allclose(discriminator, expected, rtol=1e-4)


def test_a_step_reports_the_means_of_the_losses():
    model = make(lr=0.0, discriminator_lr=0.0)
    losses = model.step(IMAGES, None, mg.Generator(1))
    rng, x = mg.Generator(1), mg.asarray(IMAGES)
    mu, log_var = model.encode(x)
    z, _ = mg.reparameterize(mu, log_var, rng=rng)
    closed = 0.5 * (mu.numpy() ** 2 + np.exp(log_var.numpy()) - 1 - log_var.numpy()).sum(1).mean()
    judged = model.judge(x, model.pictures(z), model.pictures(rng.normal(z.shape)))
    assert losses["kl"].item() == pytest.approx(closed, rel=1e-4)
    for name, each in zip(("reconstruction", "generator", "discriminator"), judged, strict=True):
        assert losses[name].item() == pytest.approx(each.mean().item(), rel=1e-5), name


# ------------------------------------------------------------------------------------ gradients


def gradients(model):
    """Algorithm 1 by the letter: each loss in full, differentiated by each player's weights."""
    rng, x = mg.Generator(1), mg.asarray(IMAGES)
    mu, log_var = model.encode(x)
    z, kl = mg.reparameterize(mu, log_var, rng=rng)
    judged = model.judge(x, model.pictures(z), model.pictures(rng.normal(z.shape)))
    like, generator, discriminator = (each.mean() for each in judged)
    prior, gamma = model.options.beta * kl.sum(1).mean(), model.options.gamma
    return (
        mg.grad(prior + like, model.encoder.parameters()),
        mg.grad(gamma * like + generator, model.decoder.parameters()),
        mg.grad(discriminator, model.discriminator.parameters()),
    )


def test_gradients_are_those_of_algorithm_1():
    model = make(gamma=0.3, beta=2.0).to(dtype=np.float64)
    found = model.gradients(mg.asarray(IMAGES), None, mg.Generator(1))[1]
    for player, expected in zip(found, gradients(model), strict=True):
        for a, b in zip(player, expected, strict=True):
            assert abs(b.numpy()).max() > 0
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-9)


def test_each_loss_reaches_only_whom_it_should():
    norm = lambda player: max(abs(g.numpy()).max() for g in player)

    def found(model):
        return model.gradients(mg.asarray(IMAGES), None, mg.Generator(1))[1]

    plain = found(make())
    # With equal features nothing draws the encoder but the prior, here without weight.
    blind = make(beta=0.0)
    blind.discriminator.features[-1].weight.data[:] = 0
    encoder, decoder, discriminator = found(blind)
    assert norm(encoder) == 0 and norm(decoder) == 0 and norm(discriminator) > 0
    # Without decisions the decoder has the features' likelihood alone, which gamma weighs.
    blunt = make(gamma=0.0)
    blunt.discriminator.decision[1].weight.data[:] = 0
    encoder, decoder, discriminator = found(blunt)
    assert norm(encoder) > 0 and norm(decoder) == 0 and norm(discriminator) > 0
    # gamma and beta are no matter of the discriminator's, nor gamma of the encoder's.
    other = found(make(gamma=7.0, beta=3.0))
    for a, b in zip(plain[2], other[2], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    other = found(make(gamma=7.0))
    for a, b in zip(plain[0], other[0], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(plain[1], other[1], strict=True))


@pytest.mark.parametrize(
    "still, moving",
    [({"lr": 0.0}, "discriminator"), ({"discriminator_lr": 0.0}, "encoder decoder")],
)
def test_each_player_has_its_own_learning_rate(still, moving):
    before, after = make(**still), trained(1, **still)[0]
    for part in ("encoder", "decoder", "discriminator"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(),
                    strict=True)  # fmt: skip
        moved = any((a.numpy() != b.numpy()).any() for a, b in pairs)
        assert moved == (part in moving), part


# ------------------------------------------------------------------------------------- training


def test_an_encoder_and_a_decoder_learn_what_features_tell():
    model, rng = make(gamma=1.0, lr=5e-3, discriminator_lr=0.0), mg.Generator(1)
    losses = [model.step(IMAGES, None, rng) for _ in range(60)]
    first, last = (sum(x["reconstruction"].item() for x in part) for part in
                   (losses[:5], losses[-5:]))  # fmt: skip
    assert last < 0.5 * first


def test_a_discriminator_trained_alone_learns_to_tell():
    model, rng = make(lr=0.0, discriminator_lr=5e-3), mg.Generator(1)
    losses = [model.step(IMAGES, None, rng)["discriminator"].item() for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_generator_trained_alone_deceives():
    model, rng = make(gamma=0.0, lr=5e-3, discriminator_lr=0.0), mg.Generator(1)
    losses = [model.step(IMAGES, None, rng)["generator"].item() for _ in range(30)]
    assert losses[-1] < losses[0] - 0.2


CHANGES = [
    {"latent": 5},
    {"network": "dense"},
    {"network": "dense", "encoder": (8,)},
    {"network": "dense", "decoder": (8,)},
    {"channels": 4},
    {"activation": "tanh"},
    {"likelihood": "gaussian"},
    {"likelihood": "logistic"},
    {"beta": 5.0},
    {"warmup": 100},
    {"free_bits": 1.0},
    {"capacity": 3.0},
    {"capacity": 3.0, "capacity_steps": 50},
    {"conditional": "label"},
    {"conditional": "label", "classes": 4},
    {"lr": 1e-2},
    {"epsilon": 1e-3},
    {"gamma": 1.0},
    {"discriminator_channels": 4},
    {"discriminator_lr": 1e-2},
    {"optimizer": "rmsprop"},
    {"beta1": 0.9},
    {"ema": 0.0},
]


@pytest.fixture(scope="module")
def usual():
    with kernels.use("reference"):
        return trained()[0].sample(4, mg.Generator(2))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_option_changes_what_is_trained(change, usual):
    model, losses = trained(**change)
    images = model.sample(4, mg.Generator(2))
    assert np.isfinite(list(losses.values())).all() and not np.array_equal(images, usual)


def test_all_options_are_among_the_changes():
    alone = {"batch_size", "binarize", "sigma"}  # the next test's, of one value, and evaluate's
    tried = alone.union(*CHANGES)
    assert tried == {field.name for field in dataclasses.fields(VAEGANOptions)}


def test_sigma_is_of_the_pixels_likelihood_when_evaluated():
    found = [make(likelihood="gaussian", sigma=sigma).evaluate([(IMAGES, None)], mg.Generator(1))
             for sigma in (0.1, 0.5)]  # fmt: skip
    assert found[0]["reconstruction"] != found[1]["reconstruction"]
    assert found[0]["feature_reconstruction"] == found[1]["feature_reconstruction"]
    with pytest.raises(ValueError, match="sigma=0 with likelihood=gaussian"):
        make(likelihood="gaussian", sigma=0.0)


def test_labels_are_told_to_all_three():
    model, _ = trained(conditional="label", classes=3)
    x, z = mg.asarray(IMAGES[:1]), mg.Generator(3).normal((1, 3))
    for look in (
        lambda y: model.discriminator(x, y)[1].numpy(),
        lambda y: model.encode(x, y)[0].numpy(),
        lambda y: model.decode(z, y),
    ):
        one, two = (look(mg.asarray(np.array([k]))) for k in (1, 2))
        assert not np.array_equal(one, two)
    assert model.sample(2, mg.Generator(0), labels=[2, 2]).shape == (2, 1, 28, 28)


def test_the_averaged_weights_are_used_and_training_goes_on_with_its_own():
    model, _ = trained(5, ema=0.9)
    before = model.decoder[0].weight.numpy().copy()
    averaged = model.sample(2, mg.Generator(5)), model.reconstruct(IMAGES)
    np.testing.assert_array_equal(model.decoder[0].weight.numpy(), before)
    model.ema = None
    assert not np.array_equal(averaged[0], model.sample(2, mg.Generator(5)))
    assert not np.array_equal(averaged[1], model.reconstruct(IMAGES))
    assert model.training


def test_evaluate_gives_the_bound_of_pixels_and_the_losses():
    model, _ = trained()
    metrics = model.evaluate([(IMAGES, LABELS), (IMAGES, LABELS)], mg.Generator(1))
    value = {name: each["value"] for name, each in metrics.items()}
    assert value["negative_elbo"] == pytest.approx(value["reconstruction"] + value["kl"])
    assert value["reconstruction"] > 100 * value["feature_reconstruction"] > 0  # pixels, features
    assert value["generator_loss"] > 0 and value["discriminator_loss"] > 0
    assert metrics["generator_loss"]["low"] < value["generator_loss"]
    values, errors = model.log_likelihood(IMAGES, None, mg.Generator(1), k=20)
    assert (-values).mean() < value["negative_elbo"] and (errors > 0).all()


def test_a_run_goes_on_bit_for_bit_from_its_state():
    options = {"warmup": 9, "beta": 2.0}
    model, rng = make(**options), mg.Generator(1)
    model.step(IMAGES, None, rng)
    state = {k: np.copy(v) if hasattr(v, "shape") else v for k, v in model.state_dict().items()}
    held = rng.state_dict()
    first = [model.step(IMAGES, None, rng) for _ in range(2)]
    again, other = make(**options), mg.Generator(9)
    again.load_state_dict(state)
    other.load_state_dict(held)
    second = [again.step(IMAGES, None, other) for _ in range(2)]
    for a, b in zip(first, second, strict=True):
        assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name])


@pytest.mark.parametrize("change", [{}, {"conditional": "label"}, {"warmup": 5}], ids=str)
def test_captured_steps_give_the_bits_of_ordinary_ones(change):
    def run(wrap):
        model, rng = make(**change), mg.Generator(1)
        step = wrap(model.step)
        return [v.item() for _ in range(5) for v in step(IMAGES, LABELS, rng).values()]

    assert run(mg.capture) == run(lambda step: step)
