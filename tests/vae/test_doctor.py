"""The doctor of VAEs: what it measures, what it concludes from made-up and recorded histories, that
it names forced collapses and is silent in health, and that its remedies can be followed.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.data import load
from minigen.train.config import make_config
from minigen.train.registry import MODELS, model_class
from minigen.vae.doctor import LEVEL, OF_CODEBOOKS, RULES, explained
from minigen.vae.vae import VAE
from tests import doctors
from tests.doctors import patient

WITH_CODES = [
    name for name, entry in MODELS.items()
    if entry.family == "vae" and issubclass(model_class(name), VAE)
]  # fmt: skip
FLOWING = {
    "active_units": 9.0, "nats": 5.0, "explained": 0.5, "least_log_variance": -3.0,
    "most_log_variance": 0.1, "sigma": 0.1, "in_use": 0.5,
}  # fmt: skip
told = functools.partial(doctors.told, FLOWING)

# Signs at 20, 40 ... 200, 250 ... of the first steps of runs on Fashion-MNIST: nats, active units
# of 10, and the share explained. Of `beta-vae`, channels 8, batches of 16:
HEALTHY = (
    (.14, 0, -.55), (1.01, 6, -.35), (1.1, 10, -.1), (2.29, 10, .02), (3.93, 10, .22),
    (3.36, 10, .27), (3.8, 10, .39), (4.77, 10, .36), (5.38, 10, .51), (3.98, 10, .37),
    (3.79, 10, .34), (4.29, 10, .4), (4.85, 10, .51), (5.02, 10, .52), (5.66, 10, .54),
)  # fmt: skip
# Of `mmd-vae`, channels 16, batches of 32: long undecided, then in use.
LATE = (
    (.0103, 0, -.45), (.0083, 0, -.085), (.027, 0, -.036), (2.11, 5, .036), (3.07, 8, .067),
    (5.61, 10, .16), (7.67, 10, .24), (8.62, 10, .32), (10.8, 10, .32), (8.49, 10, .42),
)  # fmt: skip
# Of `vae` with a learning rate of 1e-4, beta 4 and 10 units: slow.
SLOW = (
    (.025, 0, -1.02), (.1, 0, -.9), (.304, 0, -.785), (.7, 3, -.5), (1.15, 6, -.24), (1.1, 7, -.15),
    (1., 8, -.093), (.8, 8, -.06), (.681, 8, -.044), (.5, 8, -.04), (.346, 8, -.044),
    (.5, 9, -.02), (.695, 10, -.006), (.7, 10, -.008), (.739, 10, -.01), (1., 10, .04),
)  # fmt: skip
# Of `vae` with beta = 50: the two units come and go at the threshold.
COLLAPSED = (
    (.0146, 1, -.137), (.0282, 0, -.03), (.0159, 0, -.005), (.0171, 0, -.05), (.0161, 0, -.015),
    (.0096, 0, -.02), (.0114, 0, -.07), (.0211, 0, -.062), (.0114, 0, -.03), (.0043, 0, -.018),
)  # fmt: skip


@pytest.fixture(scope="module")
def clothes():
    """10,000 images of 14x14."""
    images = load("fashion-mnist").images
    small = images.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5), dtype=np.float32) / 255
    return small


def tiny(name="vae", **options):
    cls = model_class(name)
    sizes = {"batch_size": 4, "channels": 2, "encoder": (8,), "decoder": (8,), "samples": 2}
    sizes |= {"discriminator_channels": 2, **options}
    names = {field.name for field in dataclasses.fields(cls.Options)}
    names -= {"encoder", "decoder"} if name == "style-vae" else set()
    made = cls.Options(**{k: v for k, v in sizes.items() if k in names})
    images = np.random.default_rng(0).uniform(0, 1, (4, 1, 28, 28)).astype(np.float32)
    return cls(made, (1, 28, 28), rng=mg.Generator(0)), images, np.arange(4)


def recorded(rows):
    return [dict(zip(("nats", "active_units", "explained"), row, strict=True)) for row in rows]


def watched(images, steps, seed, cls="vae", forced=None, **options):
    """(step, name) of what the doctor finds in a run, and the run's last signs."""
    cls = forced or model_class(cls)
    model = cls(cls.Options(**options), images.shape[1:], rng=mg.Generator(seed))
    doctor, rng, found, signs = model.doctor(), mg.Generator(seed).spawn("steps"), [], {}
    step, size = mg.capture(model.step), model.options.batch_size
    draw = np.random.default_rng(seed)
    for i in range(1, steps + 1):
        batch = mg.asarray(images[draw.integers(0, len(images), size)])
        losses = step(batch, None, rng)
        if doctor.due(i):
            seen = {name: value.item() for name, value in losses.items()}
            signs, findings = doctor.examine(i, seen, batch, None, mg.Generator(i))
            found += [(i, each.name) for each in findings]
    return found, signs


# what it measures --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*WITH_CODES, "vq-vae"])
def test_every_vae_is_examined_without_changing_anything(name):
    """Weights, statistics and the losses of the next step: the same to the bit."""
    runs = {}
    with mg.kernels.use("reference"):
        for look in (False, True):
            model, images, labels = tiny(name)
            rng, doctor = mg.Generator(1), model.doctor()
            for _ in range(2):
                losses = model.step(images, labels, rng)
                if look:
                    seen = {k: v.item() for k, v in losses.items()}
                    before = {k: np.copy(v) for k, v in model.state_dict().items()}
                    signs, _ = doctor.examine(1, seen, images, labels, mg.Generator(2))
                    after = model.state_dict()
                    assert all(np.array_equal(before[k], after[k]) for k in before)
                    assert all(isinstance(v, float) and math.isfinite(v) for v in signs.values())
                    assert set(signs) >= ({"in_use"} if name == "vq-vae" else {"active_units"})
            runs[look] = model.state_dict(), [v.item() for v in losses.values()]
    assert runs[True][1] == runs[False][1]
    for key, value in runs[False][0].items():
        np.testing.assert_array_equal(runs[True][0][key], value, err_msg=key)


def test_units_and_nats_are_those_of_a_code_that_is_known():
    """The encoder tells the mean of three pixels; two of them vary enough to count."""
    model, *_ = tiny(latent=3, encoder=())
    weight = np.zeros((6, 784), np.float32)
    weight[[0, 1, 2], [0, 1, 2]] = 1
    model.encoder[-1].weight.data[...] = weight
    model.encoder[-1].bias.data[...] = [0, 0, 0, 0, -1, 2]
    images = np.zeros((64, 1, 28, 28), np.float32)
    images[::2, 0, 0, :3] = [0.9, 0.21, 0.19]  # variances of the means: 0.2, 0.011, 0.009
    signs = model.doctor().signs(images, None, mg.Generator(0))
    mu2 = (0.81 + 0.0441 + 0.0361) / 2
    kl = 0.5 * (mu2 + (math.exp(-1) + 1 - 1) + (math.exp(2) - 2 - 1))
    assert signs["active_units"] == 2
    assert signs["nats"] == pytest.approx(kl, rel=1e-5)
    assert (signs["least_log_variance"], signs["most_log_variance"]) == (-1, 2)


def test_the_share_explained_is_1_for_the_images_and_0_for_their_mean():
    x = np.random.default_rng(0).uniform(0, 1, (16, 1, 5, 5))
    assert explained(x, x) == 1
    assert explained(x, np.broadcast_to(x.mean(0), x.shape)) == pytest.approx(0, abs=1e-12)
    assert explained(x, x.mean(0) + 0.5 * (x - x.mean(0))) == pytest.approx(0.75)
    assert explained(x, 1 - x) < 0
    assert explained(x[:1], x[:1]) == 1


def test_sigma_is_a_sign_where_it_is_learnt():
    for options, there in (
        ({"likelihood": "gaussian", "sigma": 0.0}, True),
        ({"likelihood": "gaussian", "sigma": 0.1}, False),
        ({"likelihood": "logistic", "sigma": 0.0}, False),
        ({}, False),
    ):
        model, images, _ = tiny(**options)
        signs = model.doctor().signs(images, None, mg.Generator(0))
        assert ("sigma" in signs) == there
    model, images, _ = tiny(likelihood="gaussian", sigma=0.0)
    model.likelihood.log_sigma.data[...] = math.log(0.25)
    assert model.doctor().signs(images, None, mg.Generator(0))["sigma"] == pytest.approx(0.25)


# what it concludes -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [HEALTHY, LATE, SLOW], ids=["beta-vae", "mmd-vae", "slow"])
def test_recorded_healthy_runs_raise_no_alarm(rows):
    assert told(patient("vae"), recorded(rows), every=20) == []


def test_a_recorded_collapse_is_named_after_200_steps():
    assert told(patient("vae"), recorded(COLLAPSED), every=20) == [(200, "posterior collapse")]


WELL = [{}] * 14
UNUSED = {"nats": 0.01, "active_units": 0.0, "explained": 0.0}
PROVOKED = {
    "divergence": [*WELL, {"nats": math.nan}],
    "posterior collapse": [*WELL, *[UNUSED] * 3],
    "reconstruction stuck": [{"explained": 0.01}] * 30,
    "exploding code": [*WELL, *[{"nats": 1e4}] * 3],
    "variance out of range": [{"least_log_variance": -40.0}] * 3,
    "sigma without bound": [{"sigma": LEVEL / 2}] * 3,
    "dead codes": [{"in_use": 0.05}] * 15,
}


def test_every_rule_is_provoked_below():
    assert set(PROVOKED) == {rule.name for rule in (*RULES, *OF_CODEBOOKS)}


@pytest.mark.parametrize("name", PROVOKED)
def test_every_finding_can_be_provoked_and_needs_to_last(name):
    history, model = PROVOKED[name], "vq-vae" if name == "dead codes" else "vae"
    assert told(patient(model), history) == [(50 * len(history), name)]
    if name != "divergence":
        assert told(patient(model), [*history[:-1], {}, {}]) == []


def test_a_variance_too_large_is_out_of_range_too():
    found = told(patient("vae"), [{"most_log_variance": 11.0}] * 3)
    assert found == [(150, "variance out of range")]


def test_some_units_without_use_are_no_illness():
    assert told(patient("vae", latent=50), [{"active_units": 1.0, "nats": 1.0}] * 40) == []


def test_free_nats_that_tell_nothing_are_a_collapse():
    free = {"active_units": 0.0, "nats": 5.0, "explained": 0.0}
    assert told(patient("vae", free_bits=0.5), [free] * 12) == [(500, "posterior collapse")]


def test_the_weight_and_the_capacity_are_given_time_to_rise():
    rows = [UNUSED] * 30
    assert told(patient("vae", warmup=1000), rows) == [(1050, "posterior collapse")]
    assert told(patient("vae", warmup=2000), rows) == []
    rising = patient("vae", capacity=10.0, capacity_steps=12_000)
    assert told(rising, rows) == [(1200, "posterior collapse")]  # at a capacity of 1 nat
    assert told(patient("vae", capacity=10.0), rows) == [(500, "posterior collapse")]


def test_a_run_that_is_suspected_of_collapse_is_no_good_state():
    doctor = patient("vae")
    told(doctor, WELL)
    assert doctor.healthy
    told(doctor, [UNUSED], 15)
    assert not doctor.healthy


def test_how_much_of_a_codebook_is_in_use():
    model, images, _ = tiny("vq-vae", codes=8)
    for codes, share in (
        (np.zeros(4 * 49), 1 / 8), (np.arange(4 * 49) % 4, 1 / 2), (np.arange(4 * 49) % 8, 1.0),
    ):  # fmt: skip
        grids = codes.reshape(4, 7, 7).astype(np.int64)
        model.encode = lambda x, grids=grids: mg.tensor(grids)
        signs = model.doctor().signs(images, None, mg.Generator(0))
        assert signs["in_use"] == pytest.approx(share, rel=1e-3)


# Of `vq-vae` of 128 codes, channels 16, batches of 16, at 20, 40 ...: its perplexity.
RESTARTED = (3.2, 4.5, 3, 44, 66, 60, 55, 60, 65, 67, 68, 74, 80, 86, 85, 85, 92, 92)
NOT_RESTARTED = (1.1, 1.9, 3, 4.6, 4.7, 4.5, 4.4, 4.5, 4.6, 4.6, 4.7, 4.5, 4.5, 4.4, 4.5, 4.7)


def test_recorded_codebooks_are_told_apart():
    for perplexities, found in ((RESTARTED, []), (NOT_RESTARTED, [(300, "dead codes")])):
        rows = [{"in_use": each / 128} for each in perplexities]
        assert told(patient("vq-vae"), rows, every=20) == found
    dead = next(rule for rule in OF_CODEBOOKS if rule.name == "dead codes").remedy
    Options = model_class("vq-vae").Options
    assert dead(Options(restart=0.0)).startswith("try --set restart=0.05, or")
    assert dead(Options(codes=128)) == "try --set codes=32"


class Deaf(VAE):
    """Its decoder hears nothing of the code."""

    def make_decoder(self, rng):
        return nn.Sequential(nn.Lambda(lambda z: 0 * z), super().make_decoder(rng))


@pytest.mark.parametrize("seed", range(3))
def test_forced_collapses_are_named_within_200_steps(seed, clothes):
    for forced, options in ((None, {"beta": 50.0}), (Deaf, {})):
        found, signs = watched(clothes, 200, seed, forced=forced, **options)
        assert found == [(200, "posterior collapse")]
        assert signs["nats"] < 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "options"), [
    ("vae", {}), ("conv-vae", {"channels": 4, "batch_size": 16}),
    ("beta-vae", {"channels": 4, "batch_size": 16}),
])  # fmt: skip
def test_healthy_runs_raise_no_alarm(name, options, seed, clothes):
    found, signs = watched(clothes, 600, seed, name, **options)
    assert found == []
    assert signs["active_units"] >= 2 and signs["nats"] > 1 and signs["explained"] > 0.1


def test_a_rate_far_too_high_is_noticed(clothes):
    found, _ = watched(clothes, 400, 0, lr=0.3)
    assert found and found[0][1] != "posterior collapse"


def test_what_can_be_foretold_exactly_brings_sigma_down():
    black = np.zeros((32, 1, 4, 4), np.float32)
    options = {"likelihood": "gaussian", "sigma": 0.0, "encoder": (), "decoder": (), "lr": 0.01}
    found, signs = watched(black, 1200, 0, **options)
    assert "sigma without bound" in {name for _, name in found}
    assert signs["sigma"] < LEVEL


# what helps --------------------------------------------------------------------------------------


def applied(text, name, options):
    """The options after each of the ways that a remedy proposes, as the command reads them."""
    for way in text.removeprefix("try ").split(", or "):
        settings = way.split("--set ")[1:]
        if settings:
            yield make_config(name, options=dataclasses.asdict(options),
                              settings=[each.strip() for each in settings]).options  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_remedies_fit_what_is_set_and_change_it(rule):
    tried = 0
    for name, beta, capacity, free_bits, warmup, likelihood in itertools.product(
        WITH_CODES, (0.0, 1.0, 50.0), (0.0, 20.0), (0.0, 0.1), (0, 100), ("bernoulli", "gaussian")
    ):
        options = model_class(name).Options(
            beta=beta, capacity=capacity, free_bits=free_bits, warmup=warmup, likelihood=likelihood
        )
        try:
            options.check()
        except ValueError:
            continue
        for after in applied(rule.remedy(options), name, options):
            after.check()
            assert after != options
            tried += 1
    assert tried > 0


def test_the_obvious_remedy_comes_first():
    collapsed = next(rule for rule in RULES if rule.name == "posterior collapse").remedy
    Options = model_class("vae").Options
    assert collapsed(Options(beta=50.0)).startswith("try --set beta=5, or --set free_bits=0.1")
    assert collapsed(Options()) == "try --set free_bits=0.1, or --set warmup=2000"
    assert collapsed(Options(likelihood="gaussian")).startswith("try --set sigma=0, or")
    assert collapsed(Options(capacity=5.0)).startswith("try --set capacity=10, or")
    assert collapsed(model_class("mmd-vae").Options()).startswith("try --set mmd=50, or")
    assert collapsed(model_class("iwae").Options()) == (
        "try --set latent=25, or --set decoder=100,100"
    )


def test_the_remedies_of_a_collapse_end_it(clothes):
    for remedy in ({"beta": 5.0}, {"beta": 50.0, "free_bits": 1.0}):
        found, signs = watched(clothes, 200, 0, **remedy)
        assert found == [] and signs["nats"] > 0.5
