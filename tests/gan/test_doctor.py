"""The doctor of GANs: what it measures, what it concludes from made-up and recorded histories, that
looking changes nothing, and that the remedies it proposes can be followed.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from minigen.gan import remedies
from minigen.gan.began import BEGAN
from minigen.gan.dcgan import DCGAN
from minigen.gan.doctor import norm, variety
from minigen.gan.gan import GANOptions
from minigen.gan.options import check_combination
from minigen.gan.rules import RULES
from minigen.nn import Dropout, Model, Sequential
from minigen.nn.doctor import Doctor
from minigen.train import fit, resume
from minigen.train.config import make_config
from minigen.train.registry import MODELS, model_class
from tests import doctors
from tests.doctors import patient

GAN_NAMES = [name for name, entry in MODELS.items() if entry.family == "gan"]
FLOWING = {
    "real": 1.2, "fake": -1.1, "separation": 0.97, "slope": 0.75, "balance": 0.45,
    "certainty": 1.1, "discriminator_gradient": 20.0, "generator_gradient": 8.0,
    "diversity": 0.9, "nearest": 0.95,
}  # fmt: skip
told = functools.partial(doctors.told, FLOWING)

# Signs of runs of dcgan, channels 32, batches of 64: balance, certainty, diversity at 20, 40, ...
FORCED = (
    ((.0049, 7.6, .19), (.022, 6.9, .19), (1.2, 2., .19), (.50, 1.8, .22), (2., 2.7, .21),
     (.20, 2.2, .24), (1.9, 2.5, .26), (.083, 3.5, .26), (.31, 1.5, .27), (.13, 2.8, .28)),
    ((.66, 3.3, .19), (.023, 6.3, .18), (2.2, 3.7, .18), (.47, 3.3, .19), (1.4, 2.3, .20),
     (.96, 2.4, .23), (.49, 2.2, .21), (.070, 3.8, .22), (.098, 3.1, .22), (.27, 2.4, .23)),
    ((.10, 7.3, .19), (.87, 4.6, .19), (.077, 3.6, .18), (.028, 4.5, .18), (.12, 4.5, .20),
     (.12, 3.2, .21), (.30, 2., .19), (.46, 1.1, .20), (2.5, 3.3, .21), (1.1, 1.6, .24)),
)  # fmt: skip
HEALTHY = (
    (.48, .5, .19), (.38, 1.1, .17), (.37, 1.2, .16), (.42, 1.2, .20), (.38, 1.1, .28),
    (.37, 1.4, .38), (.36, 1.4, .49), (.32, 1.4, .49), (.44, .7, .56), (.26, 1.7, .61),
    (.34, 1., .68), (.35, 1., .82), (.26, 1.6, .86), (.34, 1.2, .93), (.37, 1., .96),
    (.42, 1., .97), (.58, .8, 1.), (.78, .1, .95), (.69, .6, .97), (.64, .3, .97),
)  # fmt: skip

# Diversity within classes of runs of cgan, channels 32, batches of 64, at 20, 40 ... 200, 250 ...;
# of biggan, channels 8, batches of 32. The first had too large vectors of classes in its generator.
SAME_IN_CLASS = (
    .22, .17, .17, .15, .18, .17, .16, .15, .17, .15, .15, .15, .16, .14, .15,
    .14, .14, .13, .13, .13, .11, .13, .14, .14, .16, .17, .16, .17, .22, .24,
    .27, .45, .39, .39, .35, .43, .35, .42, .29, .46, .43, .33, .41, .48, .29,
    .60, .40, .26, .56, .36, .46, .50, .39, .27, .42, .35, .39, .41, .42, .47,
)  # fmt: skip
VARIED_IN_CLASS = {
    "batch norm": (
        .26, .20, .22, .22, .33, .37, .44, .52, .57, .54, .60, .61, .73, .61, .66,
        .64, .68, .55, .66, .61, .65, .77, .78, .79, .65, .75, .63, .74, .67, .76,
        .68, .74, .63, .75, .64, .70, .69, .72, .62, .70,
    ),
    "hinge and spectral norm, slow": (
        .26, .21, .22, .19, .21, .17, .18, .17, .18, .17, .20, .22, .29, .27, .34,
        .44, .47, .43, .57, .55, .51, .57, .74, .48, .56, .50, .51, .63, .54, .69,
        .63, .71, .47, .52, .59, .81, .61, .57, .72, .82, .69, .54, .60, .49, .50,
        .65, .56, .54, .56,
    ),
    "biggan": (
        .79, .97, .84, .81, 1.08, .76, .80, .99, 1.04, .84, .82, .94, .96, .71, .89,
        .89, .71, 1.05, .77, .79, .69, .81, .71, .76, .74, .80, .88, 1.01,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _uncompiled():
    with kernels.use("reference"):
        yield


class Forgetful(DCGAN):
    """With dropout, whose layer holds a generator of random numbers."""

    def make_discriminator(self, rng):
        return Sequential(Dropout(0.5, rng=rng.spawn("drop")), super().make_discriminator(rng))


def tiny(name, **options):
    cls = Forgetful if name == "forgetful" else model_class(name)
    shape = (1, 28, 28)
    sizes = {"batch_size": 4, "channels": 2, "latent": 6, **options}
    names = {field.name for field in dataclasses.fields(cls.Options)}
    made = cls.Options(**{k: v for k, v in sizes.items() if k in names})
    model = cls(made, shape, rng=mg.Generator(0))
    images = np.random.default_rng(0).uniform(-1, 1, (model.images_per_step, *shape))
    labels = np.arange(len(images)) // 2 % 10
    return model, images.astype(np.float32), labels


def recorded(rows):
    return [dict(zip(("balance", "certainty", "diversity"), row, strict=True)) for row in rows]


# what it measures --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*GAN_NAMES, "forgetful"])
def test_every_gan_is_examined_without_changing_anything(name):
    """Weights, statistics, averages and the losses of the next step: the same to the bit."""
    runs = {}
    for look in (False, True):
        model, images, labels = tiny(name)
        rng = mg.Generator(1)
        doctor = model.doctor()
        for _ in range(2):
            losses = model.step(images, labels, rng)
            if look:
                seen = {k: v.item() for k, v in losses.items()}
                before = {k: np.copy(v) for k, v in model.state_dict().items()}
                signs, _ = doctor.examine(1, seen, images, labels, mg.Generator(2))
                after = model.state_dict()
                assert all(np.array_equal(before[k], after[k]) for k in before)
                assert all(isinstance(v, float) and math.isfinite(v) for v in signs.values())
                assert {"diversity", "nearest", "real", "generator_gradient"} <= set(signs)
        runs[look] = model.state_dict(), [v.item() for v in losses.values()]
    assert runs[True][1] == runs[False][1]
    for key, value in runs[False][0].items():
        np.testing.assert_array_equal(runs[True][0][key], value, err_msg=key)


@pytest.mark.parametrize(("loss", "balanced", "certain"), [
    ("non-saturating", True, True), ("minimax", True, True), ("hinge", True, False),
    ("least-squares", True, False), ("wasserstein", False, False),
])  # fmt: skip
def test_signs_are_those_that_the_loss_knows(loss, balanced, certain):
    regularizer = "weight-clipping" if loss == "wasserstein" else "none"
    doctor = tiny("dcgan", loss=loss, regularizer=regularizer)[0].doctor()
    even = float(doctor.model.loss.undecided or 0)
    signs = doctor.decision_signs(np.full(8, even), np.full(8, even))
    assert ("balance" in signs, "certainty" in signs) == (balanced, certain)
    assert signs.get("balance", 1) == pytest.approx(1)
    assert signs["separation"] == 0 and (signs["real"], signs["fake"]) == (even, even)
    sure = doctor.decision_signs(np.full(8, 20.0), np.full(8, -20.0))
    assert sure["separation"] == 1
    assert sure.get("certainty", 20) == 20
    assert (sure["slope"] < 1e-8) == (loss == "minimax")


def test_energies_are_compared_with_their_equilibrium():
    model, *_ = tiny("began")
    assert isinstance(model, BEGAN)
    signs = model.doctor().decision_signs(np.array([0.1, 0.2]), np.array([0.3, 0.15]))
    expected = {"real": 0.15, "fake": 0.225, "equilibrium": 3.0}
    assert signs == pytest.approx(expected)


def test_variety_is_one_for_equals_and_falls_with_copies():
    rng = np.random.default_rng(0)
    real, other = rng.standard_normal((2, 32, 1, 8, 8))
    assert variety(real, other)["diversity"] == pytest.approx(1, abs=0.05)
    assert variety(real, real[:1] + 0.01 * other)["diversity"] == pytest.approx(0.01, abs=0.002)
    twins = variety(real, np.repeat(other[:16], 2, axis=0))
    assert twins["diversity"] > 0.9 and twins["nearest"] < 1e-6
    assert variety(real[:1], other[:1]) == {}


def test_with_labels_only_images_of_one_class_are_compared():
    """Classes far apart, of a kind of image each, hide from the mean over all that they are so."""
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 10
    means = 5 * rng.standard_normal((10, 64))[labels]
    noise, other = rng.standard_normal((2, 32, 64))
    real, fake = means + noise, means + 0.1 * other
    assert variety(real, fake)["diversity"] > 0.9
    within = variety(real, fake, labels)
    assert within == pytest.approx({"diversity": 0.1, "nearest": 0.1}, abs=0.02)
    assert variety(real, means + other, labels)["diversity"] == pytest.approx(1, abs=0.1)
    assert variety(real, fake, np.zeros(32, int)) == variety(real, fake)
    assert variety(real, fake, np.arange(32)) == {}


def test_conditional_models_are_measured_within_classes():
    model, images, labels = tiny("cgan", batch_size=8)
    model.generator.embedding.weight.data[...] *= 100  # the class is all that the images show
    for given, alike in ((labels, True), (np.zeros(8, int), True), (np.arange(8), None)):
        signs = model.doctor().signs(images, given, mg.Generator(1))
        assert (signs["diversity"] < 0.2 if "diversity" in signs else None) == alike


def test_the_norm_is_of_all_gradients():
    assert norm([mg.tensor([3.0, 0.0]), None, mg.tensor([[4.0]])]) == 5


def test_it_looks_often_at_first():
    doctor = patient("dcgan")
    assert [s for s in range(1, 401) if doctor.due(s)] == [*range(20, 201, 20), 250, 300, 350, 400]


# what it concludes -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", FORCED)
def test_recorded_collapses_are_named_within_200_steps(rows):
    found = told(patient("dcgan", discriminator_lr=0.02), recorded(rows), every=20)
    assert found[0] == (60, "discriminator saturated")


def test_a_recorded_healthy_run_raises_no_alarm():
    assert told(patient("dcgan"), recorded(HEALTHY)) == []


def test_a_recorded_run_of_one_image_a_class_is_named():
    """Its diversity over all classes was as that of real images, and at the end recall was 0."""
    doctor = patient("cgan")
    (found,) = [
        finding for i, diversity in enumerate(SAME_IN_CLASS)
        for finding in doctor.conclude(i, {**FLOWING, "diversity": diversity})
    ]  # fmt: skip
    assert found.name == "mode collapse"
    assert found.seen.startswith("generated images of one class have never varied more than 0.42")


@pytest.mark.parametrize("name", VARIED_IN_CLASS)
def test_recorded_conditional_runs_that_vary_raise_no_alarm(name):
    assert told(patient("cgan"), [{"diversity": d} for d in VARIED_IN_CLASS[name]]) == []


def test_what_lost_its_variety_within_classes_is_called_so():
    for name, images in (("dcgan", "generated images"), ("cgan", "generated images of one class")):
        for sign, verb in (("diversity", "vary"), ("nearest", "differ from the one most like")):
            doctor = patient(name)
            signs = [FLOWING] * 14 + [{**FLOWING, sign: 0.2}] * 3
            (found,) = [each for i, s in enumerate(signs) for each in doctor.conclude(i, s)]
            assert found.seen.startswith(f"{images} {verb}")


WELL = [{}] * 14
PROVOKED = {
    "divergence": [*WELL, {"generator_gradient": math.nan}],
    "discriminator saturated": [{"certainty": 6.0, "diversity": 0.2}] * 3,
    "losses out of balance": [*[{"balance": b, "diversity": 0.3} for b in (1, 2, .05, 2, .1, .3)]],
    "vanishing generator gradient": [*WELL, *[{"generator_gradient": 1e-4}] * 4],
    "exploding generator gradient": [*WELL, *[{"generator_gradient": 1e5}] * 3],
    "exploding discriminator gradient": [*WELL, *[{"discriminator_gradient": 1e5}] * 3],
    "decisions without bound": [*WELL, *[{"real": 9e4, "fake": -1e3}] * 3],
    "mode collapse": [*WELL, *[{"diversity": 0.2}] * 3],
    "repeated images": [*WELL, *[{"nearest": 0.2}] * 3],
    "generator winning": [*WELL, *[{"separation": 0.2}] * 6],
    "controller at its limit": [{"k": 1.0}] * 10,
}  # fmt: skip


def test_every_rule_is_provoked_below():
    assert set(PROVOKED) == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", PROVOKED)
def test_every_finding_can_be_provoked_and_needs_to_last(name):
    history = PROVOKED[name]
    assert told(patient("dcgan"), history) == [(50 * len(history), name)]
    if name != "divergence":
        assert told(patient("dcgan"), [*history[:-1], {}, {}]) == []


def test_a_flat_loss_is_a_vanishing_gradient():
    flat = {"slope": 1e-3, "diversity": 0.2, "certainty": 2.0}
    found = told(patient("dcgan", loss="minimax"), [flat] * 4)
    assert found == [(200, "vanishing generator gradient")]


def test_no_gradient_at_all_is_a_vanishing_one_from_the_start():
    found = told(patient("wgan"), [{"generator_gradient": 0.0}] * 4)
    assert found == [(200, "vanishing generator gradient")]


def test_images_that_were_never_varied_have_not_lost_it():
    slow = [{"diversity": 0.1 * 1.03**i, "nearest": 0.1} for i in range(60)]
    assert told(patient("dcgan"), slow) == []


def test_images_that_never_become_varied_are_named_long_after_the_beginning():
    found = told(patient("dcgan"), [{"diversity": 0.2}] * 60)
    assert found == [(50 * 42, "mode collapse")]
    assert told(patient("dcgan"), [{"diversity": 0.2}] * 41) == []
    assert told(patient("dcgan"), [{"diversity": 0.5}] * 60) == []


def test_noise_before_the_first_images_is_no_variety_to_lose():
    noise = [{"diversity": 1.4, "nearest": 2.0}] * 4
    assert told(patient("dcgan"), [*noise, *[{"diversity": 0.3, "nearest": 0.3}] * 6]) == []


def test_a_sure_discriminator_is_no_alarm_where_images_vary():
    sure = {"certainty": 9.0, "balance": 1e-4, "separation": 1.0}
    assert told(patient("dcgan"), [sure] * 20) == []


def test_a_finding_is_told_once_and_again_when_it_comes_back():
    ill = [{"nearest": 0.2}]
    found = told(patient("dcgan"), [*WELL, *ill * 10, {}, *ill * 10, *[{}] * 6, *ill * 3])
    assert [name for _, name in found] == ["repeated images"] * 2
    assert found[1][0] == 50 * (14 + 10 + 1 + 10 + 6 + 3)


def test_healthy_means_not_even_suspected():
    doctor = patient("dcgan")
    told(doctor, WELL)
    assert doctor.healthy
    told(doctor, [{"diversity": 0.2}], 15)
    assert not doctor.healthy
    told(doctor, [{}], 16)
    assert doctor.healthy
    told(doctor, [{"diversity": 0.2}] * 3, 17)
    told(doctor, [{}], 20)
    assert not doctor.healthy  # told, and not ended


def test_state_goes_on_where_it_was_taken():
    histories = [{}, *WELL, *[{"diversity": 0.2}] * 2, {"diversity": 0.2}, {"nearest": 0.1}]
    whole, half, other = patient("dcgan"), patient("dcgan"), patient("dcgan")
    expected = told(whole, histories)
    first = told(half, histories[:16])
    other.load_state_dict(half.state_dict())
    assert first + told(other, histories[16:], 17) == expected
    assert other.state_dict() == whole.state_dict()


def test_the_history_stays_short():
    doctor = patient("dcgan")
    told(doctor, [{}] * 100)
    assert len(doctor.state_dict()["last"]) == 40


# what helps --------------------------------------------------------------------------------------


def applied(text, options):
    """The options after each of the ways that a remedy proposes, as the command reads them."""
    for way in text.removeprefix("try ").split(", or "):
        settings = way.split("--set ")[1:]
        if settings:
            yield make_config("dcgan", options=dataclasses.asdict(options),
                              settings=[each.strip() for each in settings]).options  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_remedies_fit_what_is_set_and_change_it(rule):
    cls = model_class("dcgan").Options
    tried = 0
    for loss, regularizer, normalization, spectral, packing in itertools.product(
        ("non-saturating", "minimax", "wasserstein", "hinge"),
        ("none", "gradient-penalty", "r1", "weight-clipping"),
        ("batch", "layer", "none"), (False, True), (1, 2),
    ):  # fmt: skip
        options = cls(
            loss=loss, regularizer=regularizer, normalization=normalization,
            spectral_norm=spectral, packing=packing, batch_size=6,
        )  # fmt: skip
        try:
            check_combination(options)
        except ValueError:
            continue
        for after in applied(rule.remedy(options), options):
            check_combination(after)
            assert after != options
            tried += 1
    assert tried > 0 or rule.name == "controller at its limit"


def test_the_obvious_remedy_comes_first():
    saturated = next(rule for rule in RULES if rule.name == "discriminator saturated").remedy
    options = model_class("dcgan").Options(discriminator_lr=0.02)
    assert saturated(options).startswith("try --set discriminator_lr=0.0002, or --set loss=")
    flat = next(rule for rule in RULES if rule.name == "vanishing generator gradient").remedy
    assert flat(model_class("gan").Options(loss="minimax")).startswith(
        "try --set loss=non-saturating, or"
    )
    collapsed = next(rule for rule in RULES if rule.name == "mode collapse").remedy
    assert collapsed(model_class("pacgan").Options()).startswith("try --set packing=4")
    assert collapsed(model_class("began").Options()) == "try --set gamma=0.7"


def test_ways_that_do_not_fit_are_left_out():
    impossible = remedies.propose({"packing": 3}, {"loss": "non-saturating"}, {"gamma": 1.0})
    assert impossible(GANOptions()) == "try another --seed"


def test_treatment_slows_who_runs_away():
    """To half its learning rate, or to the geometric mean of both where that is lower."""
    model, *_ = tiny("dcgan", discriminator_lr=0.02)
    assert model.doctor().treat(["discriminator saturated"]) == [
        "discriminator optimizer's learning rate 0.002"
    ]
    assert model.generator_optimizer.lr == 2e-4
    model.discriminator_optimizer.lr = 2e-4
    assert len(model.doctor().treat(["divergence"])) == 2
    assert (model.generator_optimizer.lr, model.discriminator_optimizer.lr) == (1e-4, 1e-4)


def test_no_state_of_a_sure_discriminator_is_good():
    doctor = patient("dcgan")
    assert told(doctor, [{"certainty": 6.0, "diversity": 0.2}]) == [] and not doctor.healthy
    assert told(doctor, [{"balance": 2.0, "diversity": 0.2}]) == [] and not doctor.healthy
    assert told(doctor, [{"certainty": 6.0, "balance": 2.0}]) == [] and doctor.healthy


def test_models_have_no_doctor_of_their_own_accord():
    assert Model.doctor(object()) is None
    with pytest.raises(TypeError, match="Doctor must define signs"):
        Doctor(None).signs(None, None, mg.Generator(0))


# in a run ----------------------------------------------------------------------------------------


def test_a_run_that_is_watched_has_the_weights_of_one_that_is_not(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    given = {
        "data": tmp_path / "images.npy", "sample_every": 100,
        "options": {"channels": 2, "batch_size": 4, "latent": 6, "normalization": "batch"},
    }  # fmt: skip
    runs = {
        policy: fit("gan", steps=41, out=tmp_path / policy, on_collapse=policy, **given)
        for policy in ("off", "warn", "rollback")
    }
    for policy in ("warn", "rollback"):
        state = runs[policy].model.state_dict()
        for key, value in runs["off"].model.state_dict().items():
            np.testing.assert_array_equal(state[key], value, err_msg=key)
    lines = runs["warn"].directory.read_metrics()
    looked = {line["step"]: line["health"] for line in lines if "health" in line}
    assert list(looked) == [20, 40] and set(looked[20]) == set(FLOWING)
    half = fit("gan", steps=30, out=tmp_path / "half", **given)
    resume(half.directory.path, steps=41)
    assert half.directory.read_metrics()[39]["health"] == looked[40]
