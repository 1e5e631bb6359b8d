"""Spectral normalisation against singular value decompositions; the orthogonal penalty."""

import copy

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim
from minigen.testing import gradcheck

R = mg.Generator(0)
DRAW = np.random.default_rng(0)
LAYERS = {  # layer, the shape of its input, the axis of its outputs
    "conv": (lambda: nn.Conv2d(3, 6, 3, 1, 1, rng=R), (2, 3, 5, 5), 0),
    "wide": (lambda: nn.Conv2d(8, 2, (1, 3), rng=R), (2, 8, 5, 5), 0),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, rng=R), (2, 4, 5, 5), 0),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1, rng=R), (2, 4, 3, 3), 1),
    "linear": (lambda: nn.Linear(5, 7, rng=R), (3, 5), 0),
    "embedding": (lambda: nn.Embedding(6, 4, rng=R), None, 0),
}
EACH = pytest.mark.parametrize("kind", list(LAYERS))


def made(kind):
    make, shape, axis = LAYERS[kind]
    x = np.arange(6) if shape is None else mg.tensor(DRAW.normal(size=shape).astype(np.float32))
    return nn.spectral_norm(make()), x, axis


def matrix(weight, axis):
    return np.moveaxis(np.array(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)


def by_memory(weight, axis):
    """The matrix, its columns in the order in which a channels-last weight lies in memory."""
    weight = np.asarray(weight)
    return matrix(weight if weight.ndim == 2 or axis else np.moveaxis(weight, 1, 3), axis)


def iterated(w, u):
    """u and v after a step of algorithm 1."""
    v = w.T @ u / np.linalg.norm(w.T @ u)
    return w @ v / np.linalg.norm(w @ v), v


@EACH
def test_sigma_is_the_largest_singular_value_after_iterations(kind):
    layer, x, axis = made(kind)
    layer.weight.data *= 3.7
    for _ in range(200):
        layer(x)
    largest = np.linalg.svd(matrix(layer.weight, axis), compute_uv=False)[0]
    for training in (True, False):
        used = layer.train(training).used_weight()
        np.testing.assert_allclose(used.data, layer.weight.data / largest, rtol=1e-5)


@EACH
def test_a_training_call_makes_one_power_iteration_and_an_evaluation_none(kind):
    layer, x, axis = made(kind)
    w, u = by_memory(layer.weight, axis), layer.reweight.u.numpy()[0].copy()
    layer.eval()(x)
    np.testing.assert_array_equal(layer.reweight.u.data[0], u)
    sigma = np.linalg.norm(w.T @ u)  # u^T W v with v = W^T u / |W^T u|
    np.testing.assert_allclose(layer.used_weight().data * sigma, layer.weight.data, rtol=1e-5)
    layer.train()(x)
    np.testing.assert_allclose(layer.reweight.u.data[0], iterated(w, u)[0], rtol=1e-4)


@EACH
def test_gradients_equal_finite_differences_and_the_papers_formula(kind):
    layer, _, axis = made(kind)
    layer.to(dtype=np.float64)
    normal, shape = layer.reweight.eval(), layer.weight.shape
    gradcheck(lambda w: mg.tanh(normal(w)), [layer.weight.data], order=1)
    # eq. 12: dL/dW = (G - <G, W_bar> u v^T) / sigma
    g = DRAW.normal(size=shape)
    w, u = by_memory(layer.weight, axis), layer.reweight.u.numpy()[0].copy()
    layer.reweight.train()
    bar = layer.used_weight()
    (found,) = mg.grad((bar * g).sum(), [layer.weight])
    u, v = iterated(w, u)
    inner = (g * bar.numpy()).sum()
    expected = (by_memory(g, axis) - inner * np.outer(u, v)) / (u @ w @ v)
    np.testing.assert_allclose(by_memory(found.numpy(), axis), expected, atol=1e-9)


def critic():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1, rng=R), nn.Tanh(), nn.ConvTranspose2d(4, 3, 2, rng=R), nn.Tanh(),
        nn.Flatten(), nn.Linear(48, 1, rng=R),
    )  # fmt: skip
    return nn.spectral_norm(net)


def slopes(net, x):
    """The penalty of a critic's gradient at x, with a graph."""
    (slope,) = mg.grad(net(x).sum(), [x], create_graph=True)
    return ((mg.sqrt((slope**2).sum((1, 2, 3))) - 1) ** 2).mean()


def test_a_gradient_penalty_is_differentiable_by_the_weights():
    net = critic().to(dtype=np.float64).eval()
    x = mg.tensor(DRAW.normal(size=(2, 2, 6, 6)), requires_grad=True)
    parameters = net.parameters()
    grads = mg.grad(slopes(net, x), parameters, allow_unused=True)
    for p, g in zip(parameters, grads, strict=True):
        if g is None:  # a bias that only shifts what is linear
            continue
        direction, values = DRAW.normal(size=p.shape), []
        start = p.data.copy()
        for step in (1e-5, -1e-5):
            p.data[...] = start + step * direction
            values.append(slopes(net, x).item())
        p.data[...] = start
        difference = (values[0] - values[1]) / 2e-5
        assert (g.numpy() * direction).sum() == pytest.approx(difference, rel=1e-5, abs=1e-9)
    gradcheck(lambda x: net(x), [x.data], order=2)


class Game(nn.Module):
    """A critic's step on two batches, with a gradient penalty, an optimiser and an average."""

    def __init__(self):
        self.net = critic()
        self.optimizer = optim.Adam(self.net, lr=1e-2)
        self.ema = optim.EMA(self.net, 0.9)

    def loss(self, real, fake):
        mix = (real + fake) / 2
        mix.requires_grad = True
        return (self.net(real) - self.net(fake)).mean() + slopes(self.net, mix)

    def step(self, real, fake):
        loss, grads = mg.value_and_grad(self.loss, self.net)(mg.asarray(real), mg.asarray(fake))
        self.optimizer.step(grads)
        self.ema.update()
        return loss


def batch():
    return DRAW.normal(size=(3, 2, 6, 6)).astype(np.float32)


def test_captured_steps_have_the_bits_of_ordinary_ones_also_when_resumed():
    plain, captured = Game(), Game()
    captured.load_state_dict(plain.state_dict())
    replayed = mg.capture(captured.step)
    for i in range(8):
        real, fake = batch(), batch()
        a, b = plain.step(real, fake), replayed(real, fake)
        assert a.item() == b.item(), i
        if i == 5:
            resumed = Game()
            resumed.load_state_dict(captured.state_dict())
            captured, replayed = resumed, mg.capture(resumed.step)
    one, other = plain.state_dict(), captured.state_dict()
    assert "net.0.reweight.u" in one and "ema.buffer.0.reweight.u" in one
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_an_average_brings_its_own_vector():
    game = Game()
    for _ in range(3):
        game.step(batch(), batch())
    x, u = mg.tensor(batch()), game.net[0].reweight.u.numpy().copy()
    game.net(x)  # moves the vector, not its copy
    moved = game.net[0].reweight.u.numpy().copy()
    with game.ema.applied():
        game.net.eval()(x)
        np.testing.assert_array_equal(game.net[0].reweight.u.data, u)
    np.testing.assert_array_equal(game.net[0].reweight.u.data, moved)
    assert not np.array_equal(u, moved)


def test_a_layer_and_its_rectifier_still_run_as_one(monkeypatch):
    x = mg.tensor(batch())
    net = nn.Sequential(nn.Conv2d(2, 4, 3, rng=R), nn.LeakyReLU(0.2), nn.Flatten())
    nn.spectral_norm(net).eval()
    apart = net[2](net[1](net[0](x))).numpy()
    monkeypatch.setattr(nn.LeakyReLU, "forward", None)
    np.testing.assert_allclose(net(x).numpy(), apart, atol=1e-6)


def test_only_the_kinds_asked_for_are_normalised():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, rng=R), nn.Flatten(), nn.Linear(16, 2, rng=R))
    nn.spectral_norm(net, kinds=(nn.Linear,))
    assert net[0].reweight is None and isinstance(net[2].reweight, nn.SpectralNorm)
    clone = copy.deepcopy(net)
    clone[2].reweight.u.data[...] = 0
    assert net[2].reweight.u.numpy().any()
    with pytest.raises(ValueError, match="spectral_norm: ReLU has no layer of Conv2d, ConvTr"):
        nn.spectral_norm(nn.ReLU())
    with pytest.raises(ValueError, match="is normalised already"):
        nn.spectral_norm(net)
    assert net[0].reweight is None


def test_a_weight_of_zeros_stays_finite_and_is_normalised_once_it_is_not():
    layer = nn.Linear(3, 2, rng=R)
    nn.init.zeros_(layer.weight)
    nn.spectral_norm(layer)
    assert not layer.used_weight().numpy().any()
    layer.weight.data[...] = DRAW.normal(size=(2, 3))
    for _ in range(50):
        used = layer.used_weight()
    assert np.linalg.norm(used.numpy(), 2) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("make", [v[0] for k, v in LAYERS.items() if k != "embedding"])
def test_orthogonal_penalty_is_that_of_its_equation(make):
    layer = make().to(dtype=np.float64)
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    w = matrix(layer.weight, axis)
    off = w @ w.T * (1 - np.eye(len(w)))
    assert nn.orthogonal_penalty(layer).item() == pytest.approx((off**2).sum(), rel=1e-12)
    (found,) = mg.grad(nn.orthogonal_penalty(layer), [layer.weight])
    np.testing.assert_allclose(matrix(found.numpy(), axis), 4 * off @ w, atol=1e-12)


def test_orthogonal_penalty_sums_layers_and_is_none_for_orthogonal_filters():
    a, b = nn.Conv2d(3, 4, 3, rng=R), nn.Linear(6, 5, rng=R)
    net = nn.Sequential(a, nn.BatchNorm2d(4), b, nn.Embedding(4, 2, rng=R))
    both = nn.orthogonal_penalty(a).item() + nn.orthogonal_penalty(b).item()
    assert nn.orthogonal_penalty(net).item() == pytest.approx(both, rel=1e-6) and both > 1e-3
    for layer in (a, b):
        nn.init.orthogonal_(layer.weight, rng=R)
    assert nn.orthogonal_penalty(net).item() < 1e-10
    with pytest.raises(ValueError, match="orthogonal_penalty: ReLU has no convolution or linear"):
        nn.orthogonal_penalty(nn.ReLU())
