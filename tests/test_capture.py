"""Captured steps: the bits of ordinary ones, what is recorded anew, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim
from minigen.graph import recorded
from minigen.vae.vae import VAE, VAEOptions

DRAW = np.random.default_rng(0)


class Model(nn.Module):
    """Dropout, batch norm, noise, a schedule, clipping and an average, in one small step."""

    def __init__(self, step=None, momentum=0.1):
        rng = mg.Generator(1)
        self.rng = mg.Generator(2)
        self.net = nn.Sequential(
            nn.Linear(6, 8, rng=rng), nn.BatchNorm1d(8, negative_slope=0.1, momentum=momentum),
            nn.Dropout(0.3, rng=self.rng), nn.Linear(8, 4, rng=rng),
        )  # fmt: skip
        self.scale = mg.tensor(np.float32(1.5), requires_grad=True)
        self.optimizer = optim.AdamW(self, lr=optim.cosine(1e-2, steps=200))
        self.ema = optim.EMA(self, 0.9, warmup=True)
        self.step = mg.capture(self.train_step) if step is None else step.__get__(self)

    def loss(self, x, rng):
        mu, log_var = mg.split(self.net(x * self.scale + rng.normal(x.shape, std=0.1)), 2, axis=1)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        keep = rng.bernoulli(0.5, z.shape)
        loss = mg.where(keep, z, 0.1)[:, ::2].mean() + 0.1 * kl.sum()
        loss += mg.concatenate([z, kl], axis=1).max()
        return loss, kl.detach()

    def train_step(self, x, rng):
        (loss, kl), grads = mg.value_and_grad(self.loss, self)(mg.asarray(x), rng)
        grads, norm = optim.clip_grad_norm(grads, 0.5)
        self.optimizer.step(grads)
        self.ema.update()
        return {"loss": loss, "rest": [kl, (norm, None)]}


def same(a, b):
    if isinstance(a, dict):
        return all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return all(same(p, q) for p, q in zip(a, b, strict=True))
    return a is b or np.array_equal(getattr(a, "data", a), getattr(b, "data", b))


def batches(n, *sizes):
    return [DRAW.standard_normal((sizes[i % len(sizes)], 6)).astype(np.float32) for i in range(n)]


def states(*models):
    return [{k: np.array(v) for k, v in m.state_dict().items()} for m in models]


def test_a_hundred_steps_have_the_bits_of_ordinary_ones_also_when_resumed():
    plain, captured = Model(Model.train_step), Model()
    rngs = mg.Generator(5), mg.Generator(5)
    for i, x in enumerate(batches(100, 9, 9, 9, 5)):
        assert same(plain.step(x, rngs[0]), captured.step(x, rngs[1])), i
        if i == 50:
            resumed = Model()
            resumed.load_state_dict(captured.state_dict())
            captured = resumed
    one, other = states(plain, captured)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert rngs[0].counter == rngs[1].counter


def test_a_replay_calls_no_ops(monkeypatch):
    model, rng = Model(), mg.Generator(0)
    x = batches(1, 4)[0]
    for _ in range(2):
        model.step(x, rng)
    monkeypatch.setattr(mg.autograd.Op, "__call__", None)
    model.step(x + 1, rng)


@pytest.mark.parametrize(
    "options", [{}, {"likelihood": "gaussian"}, {"likelihood": "gaussian", "sigma": 0}]
)
def test_the_vae_trains_as_it_did(options):
    image = DRAW.random((7, 1, 5, 5)).astype(np.float32)
    models = [VAE(VAEOptions(**options), (1, 5, 5), rng=mg.Generator(0)) for _ in range(2)]
    rngs, recorded = (mg.Generator(5), mg.Generator(5)), mg.capture(models[1].step)
    for _ in range(5):
        expected = models[0].step(image, None, rngs[0])
        assert same(expected, recorded(image, None, rngs[1]))


def test_what_was_moved_frozen_or_rebound_is_recorded_anew():
    w = mg.tensor(np.ones(3), requires_grad=True)
    b = mg.tensor(np.ones(3), requires_grad=True)
    step = mg.capture(lambda x: mg.value_and_grad(lambda: (w * b * x).sum(), [w])()[1][0])
    x = np.arange(3.0)
    for _ in range(3):
        np.testing.assert_array_equal(step(x).data, x)
    b.data[...] = 2.0
    np.testing.assert_array_equal(step(x).data, 2 * x)
    b.data = np.full(3, 3.0)
    np.testing.assert_array_equal(step(x).data, 3 * x)
    b.requires_grad = False
    for k in range(1, 5):
        np.testing.assert_array_equal(step(k * x).data, 3 * k * x)
        np.testing.assert_array_equal(step(mg.tensor(x[:2].repeat(3)[:3])).data.shape, (3,))


def test_copies_and_pickles_start_afresh():
    model, rng = Model(), mg.Generator(0)
    x = batches(1, 4)[0]
    for _ in range(3):
        model.step(x, rng)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        before = other.scale.item()
        for _ in range(3):
            other.step(x, mg.Generator(0))
        assert other.scale.item() != before
        assert other.step.function.__self__ is other


def test_a_step_within_a_step_is_part_of_it():
    inner = mg.capture(lambda x: mg.exp(x))
    outer = mg.capture(lambda x: inner(x) + 1)
    for k in range(5):
        np.testing.assert_array_equal(outer(np.full(2, float(k))).data, np.exp(float(k)) + 1)


def test_errors_leave_no_recording_behind():
    step = mg.capture(lambda x: mg.matmul(x, x))
    with pytest.raises(ValueError, match="matmul"):
        step(np.ones((2, 3)))
    for _ in range(3):
        np.testing.assert_array_equal(step(np.ones((2, 2))).data, 2)


leaf = mg.tensor(np.ones(2), requires_grad=True)
buffer = mg.tensor(np.ones(2))
calls = iter(range(100))


def descend(x):
    """An optimiser of one's own."""
    (g,) = mg.grad((leaf * x).sum(), [leaf])
    leaf.data[...] -= 0.1 * g.data
    leaf.version[0] += 1
    return x * 2


REFUSED = {
    "the step writes into a Tensor": descend,
    "reads values": lambda x: mg.exp(x) * mg.exp(x).sum().item(),
    "reads values, which": lambda x: mg.exp(x) if mg.exp(x).sum() > 0 else x,
    "writes into a Tensor": lambda x: buffer.__setitem__(0, mg.exp(x)[0]),
    r"exp takes an array of shape \(2,\) that is neither an argument": lambda x: mg.exp(
        np.log(x.data)
    ),
    "multiply takes [0-9]+ that is neither": lambda x: x * next(calls),
    "was called, then": lambda x: (mg.exp if next(calls) % 2 else mg.sin)(x),
    "a Tensor in a graph; detach": lambda x: leaf * x,
    "return takes": lambda x: np.zeros(2),
    "calls backward": lambda x: (leaf * x).sum().backward(),
    "reads .grad": lambda x: leaf.grad,
    "sets .grad": lambda x: setattr(leaf, "grad", x),
    "the step sets .grad": lambda x: optim.SGD([leaf]).zero_grad(),
    "steps by .grad": lambda x: optim.SGD([leaf]).step(),
    "reads values, which a": lambda x: mg.grad((leaf * x).prod(), [leaf])[0],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_replay_would_not_repeat_is_refused(message):
    step, x = mg.capture(REFUSED[message]), mg.tensor(np.ones(2))
    with pytest.raises(RuntimeError, match=message):
        for _ in range(2):
            step(x)


def test_arguments_are_arrays_generators_and_plain_values():
    step = mg.capture(lambda x, power: mg.asarray(x) ** power)
    for power in (2, 3, 2, 2, 3, 3, *map(np.float32, (2, 2, 2, 3))):
        np.testing.assert_array_equal(step(np.full(2, 2.0), power).data, 2.0**power)
    with pytest.raises(RuntimeError, match="argument 0 is a list, expected"):
        step([1.0], 2)
    with pytest.raises(RuntimeError, match="argument 0 requires a gradient"):
        step(leaf, 2)
    with pytest.raises(TypeError, match="'power' is given by name; pass it by position"):
        step(np.ones(2), power=2)


def fed(function, *calls):
    """What a captured function returns for each call, and what the function itself does."""
    step = mg.capture(function)
    return [[f(*args).data.tolist() for args in calls] for f in (step, function)]


def test_arguments_that_were_one_object_may_be_two_later():
    x, y = np.ones(2), mg.tensor(np.full(2, 5.0))
    calls = (x, x), (x, x), (x, y), (y, y)
    captured, plain = fed(lambda a, b: mg.asarray(a) * 2 + mg.asarray(b), *calls)
    assert captured == plain
    around, other = mg.tensor(np.ones(2)), mg.tensor(np.full(2, 5.0))
    for same in (around, around.data):
        step = (lambda a: mg.asarray(a) + around), (same,), (same,), (other,), (same,)
        captured, plain = fed(*step)
        assert captured == plain


def test_constants_may_be_made_in_a_step():
    def step(labels, x):
        made = mg.zeros((2,)) + mg.ones(2) + mg.full((2,), 3.0) + mg.linspace(0, 1, 2)
        return mg.one_hot(labels, 2) * made + mg.eye(2) * x + mg.arange(2)

    calls = [(np.array([k % 2, 1]), np.full(2, float(k))) for k in range(5)]
    captured, plain = fed(step, *calls)
    assert captured == plain


def test_a_generator_around_the_step_is_not_its_argument():
    def results(wrap):
        own, other = mg.Generator(1), mg.Generator(2)
        step = wrap(lambda rng: rng.normal((3,)) + 10 * own.normal((3,)))
        values = [step(rng).tolist() for rng in (own, own, other, own, other)]
        return values, own.counter, other.counter

    assert results(mg.capture) == results(lambda function: function)


def test_no_grad_around_a_step_is_recorded_anew():
    def slope(x):
        loss = (leaf * x).sum()
        return mg.grad(loss, [leaf])[0] if loss.requires_grad else loss

    step, x = mg.capture(slope), np.full(2, 3.0)
    for _ in range(3):
        with mg.no_grad():
            assert step(x).shape == ()
        assert step(x).shape == (2,)


class Scaler:
    def __init__(self, scale):
        self.scale = mg.tensor(np.float64(scale))

    @mg.capture
    def times(self, x):
        """x times the scale."""
        return x * self.scale


class Shifter(Scaler):
    @mg.capture
    def times(self, x):
        return super().times(x) + 1


def test_a_captured_method_may_override_another():
    shifter = Shifter(2)
    for k in range(4):
        np.testing.assert_array_equal(shifter.times(np.full(2, k)).data, 2 * k + 1)


def test_a_method_is_captured_for_each_object():
    scalers = [Scaler(2), Scaler(3)]
    scalers += [copy.deepcopy(scalers[0]), pickle.loads(pickle.dumps(scalers[1]))]
    for _ in range(3):
        for scaler, scale in zip(scalers, (2, 3, 2, 3), strict=True):
            np.testing.assert_array_equal(scaler.times(np.ones(2)).data, scale)
    late = copy.deepcopy(scalers[1]), pickle.loads(pickle.dumps(scalers[1]))
    for scaler in late:
        assert scaler.times.function.__self__ is scaler
        np.testing.assert_array_equal(scaler.times(np.ones(2)).data, 3)
    assert scalers[0].times is scalers[0].times
    assert Scaler.times.__doc__ == "x times the scale."


@recorded
def positive(x):
    return bool(mg.tensor(x).data.max() > 0)


def test_flags_of_a_recorded_call_do_not_stand_for_others():
    def step(x):
        positive(x)
        return mg.sum(x, keepdims=True)

    captured, plain = fed(step, *[(np.full(2, k),) for k in (1, 1, -1)])
    assert captured == plain
