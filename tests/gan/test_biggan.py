"""`biggan`: its networks, what every option of its own does, labels, truncation, resuming."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.gan.biggan import BigGAN, BigGANOptions, DownBlock, UpBlock
from minigen.testing import gradcheck

DRAW = np.random.default_rng(0)
LABELS = np.arange(16) % 3
IMAGES = DRAW.uniform(-1, 1, (16, 1, 28, 28)).astype(np.float32)


@pytest.fixture(autouse=True)
def reference():
    with mg.kernels.use("reference"):
        yield


def small(shape=(1, 28, 28), seed=0, **options):
    options = {
        "batch_size": 4, "latent": 12, "channels": 2, "classes": 3, "embedding": 4, "standing": 2
    } | options  # fmt: skip
    return BigGAN(BigGANOptions(**options), shape, rng=mg.Generator(seed))


def step(model, rng=None):
    n = model.images_per_step
    images, labels = IMAGES[:n], LABELS[:n] if model.classes else None
    return model.step(images, labels, mg.Generator(1) if rng is None else rng)


def state(model):
    return {key: np.array(value) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(("size", "ups"), [(28, 2), (32, 3), (64, 4)])
def test_networks_follow_the_table(size, ups, colours):
    model = small((colours, size, size), latent=60)
    ups_, downs = (
        [m for m in net.modules() if isinstance(m, kind)]
        for net, kind in ((model.generator, UpBlock), (model.discriminator, DownBlock))
    )
    assert [b.conv2.weight.shape[0] for b in ups_] == [2 << i for i in reversed(range(ups))]
    assert [b.conv2.weight.shape[0] for b in downs] == [2 << i for i in range(ups + 1)]
    assert [b.down for b in downs] == [True] * ups + [False]
    assert model.sample(3, mg.Generator(0)).shape == (3, colours, size, size)
    images = mg.zeros((2, colours, size, size))
    assert model.discriminator(images, LABELS[:2]).shape == (2, 1)


def test_blocks_are_those_of_their_figures():
    """The 1x1 convolution commutes with growing and shrinking, so it runs where it is cheaper."""
    x, rng = mg.tensor(DRAW.normal(size=(2, 3, 4, 4)).astype(np.float32)), mg.Generator(0)
    up, y = UpBlock(3, 2, 5, rng=rng), mg.tensor(DRAW.normal(size=(2, 5)).astype(np.float32))
    twice = lambda a: mg.interpolate(a, scale_factor=2)
    main = up.conv2(up.norm2(up.conv1(twice(up.norm1(x, y))), y))
    expected = (main + up.skip(twice(x))).numpy()
    np.testing.assert_allclose(up(x, y).numpy(), expected, atol=1e-5)
    for first in (False, True):
        down = DownBlock(3, 2, first=first, rng=rng)
        main = down.conv2(mg.relu(down.conv1(x if first else mg.relu(x))))
        expected = mg.avg_pool2d(main + down.skip(x), 2).numpy()
        np.testing.assert_allclose(down(x).numpy(), expected, atol=1e-5)


def test_blocks_gradients_to_order_two():
    up = UpBlock(2, 1, 3, rng=mg.Generator(0)).to(dtype=np.float64)
    gradcheck(up, [DRAW.normal(size=(2, 2, 2, 2)), DRAW.normal(size=(2, 3))])
    down = DownBlock(2, 3, rng=mg.Generator(0)).to(dtype=np.float64)
    gradcheck(down, [DRAW.normal(size=(2, 2, 4, 4))])


def test_weights_begin_orthogonal():
    model = small(channels=8)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            w = layer.weight.numpy().reshape(len(layer.weight), -1)
            gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
            np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
            assert layer.bias is None or not layer.bias.numpy().any()


def test_spectral_norm_is_of_both_networks_but_not_of_the_shared_vectors():
    for asked in (True, False):
        model = small(spectral_norm=asked)
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert all((layer.reweight is not None) == asked for layer in layers)
        assert (model.discriminator.embedding.reweight is not None) == asked
        assert model.generator.embedding.reweight is None


def test_steps_move_both_networks_and_a_resumed_one_continues_bit_for_bit():
    model, rng = small(), mg.Generator(1)
    start = state(model)
    losses = [v.item() for _ in range(2) for v in step(model, rng).values()]
    assert np.isfinite(losses).all()
    resumed = small(seed=5)
    resumed.load_state_dict(state(model))
    again = mg.Generator(0)
    again.load_state_dict(rng.state_dict())
    a, b = step(model, rng), step(resumed, again)
    assert [v.item() for v in a.values()] == [v.item() for v in b.values()]
    one, other = state(model), state(resumed)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
        trained = name.endswith((".weight", ".u", "gamma")) and not name.startswith("ema")
        if trained and value.shape != (1, 1):  # the only unit vector of one number
            assert not np.array_equal(value, start[name]), name
    sampled = [m.sample(3, mg.Generator(2)) for m in (model, resumed)]
    np.testing.assert_array_equal(*sampled)


def test_a_captured_step_has_the_bits_of_an_ordinary_one():
    plain, captured = small(), small()
    replayed, rngs = mg.capture(captured.step), (mg.Generator(1), mg.Generator(1))
    for _ in range(4):
        a = plain.step(IMAGES[:8], LABELS[:8], rngs[0])
        b = replayed(IMAGES[:8], LABELS[:8], rngs[1])
        assert [v.item() for v in a.values()] == [v.item() for v in b.values()]
    one, other = state(plain), state(captured)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_images_and_decisions_depend_on_the_label():
    model, x = small(), mg.tensor(IMAGES[:2])
    z = model.noise(2, mg.Generator(0))
    images = [model.decode(z, mg.asarray(np.full(2, k))) for k in range(3)]
    decisions = [model.discriminator.eval()(x, np.full(2, k)).numpy() for k in range(3)]
    for found in (images, decisions):
        assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])
    model = small(conditional="none")
    assert model.classes == 0 and model.sample(2, mg.Generator(0)).shape == (2, 1, 28, 28)
    assert np.isfinite([v.item() for v in step(model).values()]).all()
    with pytest.raises(ValueError, match="takes no labels"):
        model.sample(1, mg.Generator(0), labels=[1])


def test_each_block_hears_its_own_part_of_the_noise():
    z = small().noise(4, mg.Generator(0)).numpy()
    for hierarchical, parts in ((True, 3), (False, 1)):
        model = small(hierarchical=hierarchical)
        assert model.generator.parts == parts
        known = sum(p.gain.weight.shape[1] for p in model.modules() if hasattr(p, "gain"))
        assert known == 4 * (4 + 4 * hierarchical)  # four norms: the class, and a part of 12
    model = small(attention=0).eval()
    heard = []
    plain = UpBlock.forward
    for i, block in enumerate(model.generator.blocks):
        block.forward = lambda x, y, i=i, b=block: heard.append((i, y.numpy())) or plain(b, x, y)
    model.generator(mg.tensor(z), LABELS[:4])
    for i, told in heard:
        np.testing.assert_array_equal(told[:, 4:], z[:, 4 * i + 4 : 4 * i + 8])
        np.testing.assert_array_equal(
            told[:, :4], model.generator.embedding.weight.numpy()[LABELS[:4]]
        )
    unconditional = small(hierarchical=False, conditional="none")
    assert not any(isinstance(m, nn.ConditionalBatchNorm2d) for m in unconditional.modules())
    assert unconditional.sample(2, mg.Generator(0)).shape == (2, 1, 28, 28)


def test_attention_stands_at_the_resolution_asked_for():
    def attending(**options):
        model = small(**options)
        seen = []
        for m in model.modules():
            if isinstance(m, nn.SelfAttention2d):
                m.forward = lambda x: seen.append(x.shape[2]) or x
        model.sample(1, mg.Generator(0))
        model.discriminator(mg.zeros((1, *model.image_shape)), LABELS[:1])
        return set(seen), len([m for m in model.modules() if isinstance(m, nn.SelfAttention2d)])

    assert attending() == ({14}, 2)
    assert attending(attention=0) == (set(), 0)
    assert attending(shape=(1, 32, 32), attention=8) == ({8}, 2)
    with pytest.raises(ValueError, match="biggan: attention is 28, expected 14 at 28x28, or 0"):
        small(attention=28)


def test_standing_statistics_are_those_of_generated_batches():
    model = small(standing=3, critic_steps=1)
    for _ in range(2):
        step(model)
    before, found = state(model), []
    norm = model.generator.norm

    def watched(x, slope=None):
        found.append((norm.training, x.numpy(), norm.running_mean.numpy() + 0, +norm.running_var))
        return nn.BatchNorm2d.forward(norm, x)

    norm.forward = watched
    model.sample(5, mg.Generator(3))
    del norm.forward
    assert [training for training, *_ in found] == [True] * 3 + [False]
    measured = np.stack([x for _, x, *_ in found[:3]])
    _, _, mean, var = found[3]
    np.testing.assert_allclose(mean, measured.mean((0, 1, 3, 4)), atol=1e-6)
    np.testing.assert_allclose(var, measured.var((1, 3, 4), ddof=1).mean(0), rtol=1e-4)
    for name, value in state(model).items():  # and afterwards all is as it was
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    one = model.sample(1, mg.Generator(3), labels=[1])
    running = small(standing=0, critic_steps=1)
    running.load_state_dict(state(model))
    assert not np.allclose(one, running.sample(1, mg.Generator(3), labels=[1]), atol=1e-3)


def test_samples_of_a_model_without_average_leave_its_statistics_alone():
    model = small(ema=0.0)
    step(model)
    before = state(model)
    model.sample(4, mg.Generator(0))
    model.interpolate(3, mg.Generator(0), label=2)
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("standing", [0, 4])
def test_truncation_makes_samples_more_alike(standing):
    model = small(channels=4, standing=standing, ema=0.0)
    nn.init.normal_(model.generator.first.bias, rng=mg.Generator(0))  # as training would

    def spread(truncation):
        images = model.sample(64, mg.Generator(0), labels=[1] * 64, truncation=truncation)
        return images.std(0).mean()

    assert spread(0.1) < 0.7 * spread(0.5) and spread(0.5) < 0.9 * spread(None)


def test_minibatch_stddev_and_packing_reach_the_discriminator():
    model = small(minibatch_stddev=True)
    x = mg.tensor(IMAGES[:4])
    alone = model.discriminator.eval()(x[:1], LABELS[:1]).numpy()
    among = model.discriminator(x, LABELS[:4]).numpy()[:1]
    assert not np.allclose(alone, among)
    model = small(packing=2, conditional="none")
    assert model.score(x).shape == (2, 1)


def test_orthogonal_regularisation_keeps_filters_apart():
    penalties = []
    for weight in (0.0, 1.0):
        model, rng = small(orthogonal=weight, lr=1e-2, spectral_norm=False), mg.Generator(1)
        for _ in range(4):
            step(model, rng)
        penalties.append(nn.orthogonal_penalty(model.generator).item())
    assert penalties[1] < 0.5 * penalties[0]


@pytest.mark.parametrize(
    "options",
    [
        {"regularizer": "gradient-penalty"},
        {"regularizer": "r1"},
        {"diff_augment": "color,translation"},
        {"loss": "non-saturating"},
    ],
)
def test_parts_of_other_gans_combine_with_it(options):
    plain, model = small(), small(**options)
    expected, found = ({k: v.item() for k, v in step(m).items()} for m in (plain, model))
    assert np.isfinite(list(found.values())).all() and found["generator"] != expected["generator"]
    assert ("penalty" in found) == ("regularizer" in options)


def test_wrong_options_are_refused_in_one_line():
    for make, message in (
        (lambda: small((1, 28, 30)), "biggan: images are 28x30, expected squares of 28, 32, 64"),
        (lambda: small((1, 40, 40)), "biggan: images are 40x40, expected squares"),
        (lambda: small(latent=13), "latent is 13, which must divide into 3 parts: .* latent=15"),
        (lambda: small(packing=2), "packing=2 with conditional=projection"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            make()
        assert "\n" not in str(error.value)


def test_options_defaults():
    options = BigGANOptions()
    assert (options.loss, options.critic_steps, options.beta1) == ("hinge", 2, 0.0)
    assert options.conditional == "projection" and options.spectral_norm
