"""Layers: each is the op of its name with its own parameters; shapes, defaults, memory, errors."""

import numpy as np
import pytest

from minigen import nn, ops
from minigen.autograd import grad
from minigen.random import Generator
from minigen.tensor import Tensor


def image(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


X = (2, 4, 6, 6)
R = Generator(0)
LAYERS = [
    (nn.Conv2d(4, 8, 3, rng=R), (2, 8, 4, 4)),
    (nn.Conv2d(4, 8, (3, 1), 2, (1, 0), groups=2, bias=False, rng=R), (2, 8, 3, 3)),
    (nn.Conv2d(4, 8, 3, padding="same", dilation=2, rng=R), X[:1] + (8, 6, 6)),
    (nn.Conv2d(4, 8, 3, padding=(1, 2), padding_mode="reflect", rng=R), (2, 8, 6, 8)),
    (nn.Conv2d(4, 8, 3, negative_slope=0.2, rng=R), (2, 8, 4, 4)),
    (nn.ConvTranspose2d(4, 6, 4, 2, 1, rng=R), (2, 6, 12, 12)),
    (nn.ConvTranspose2d(4, 6, 4, 2, 1, negative_slope=0.0, rng=R), (2, 6, 12, 12)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, rng=R), (2, 6, 12, 12)),
    (nn.MaxPool2d(2), (2, 4, 3, 3)),
    (nn.MaxPool2d(3, 2, 1), (2, 4, 3, 3)),
    (nn.AvgPool2d(2, ceil_mode=True), (2, 4, 3, 3)),
    (nn.AdaptiveAvgPool2d((1, None)), (2, 4, 1, 6)),
    (nn.Upsample(scale_factor=2), (2, 4, 12, 12)),
    (nn.Upsample((3, 9), mode="bilinear", align_corners=False), (2, 4, 3, 9)),
    (nn.PixelShuffle(2), (2, 1, 12, 12)),
    (nn.ReflectionPad2d((1, 2, 3, 0)), (2, 4, 9, 9)),
    (nn.ReplicationPad2d(2), (2, 4, 10, 10)),
    (nn.ZeroPad2d(1), (2, 4, 8, 8)),
    (nn.BatchNorm2d(4), X),
    (nn.LayerNorm((6, 6)), X),
    (nn.LayerNorm(6, bias=False), X),
    (nn.GroupNorm(2, 4), X),
    (nn.InstanceNorm2d(4), X),
    (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), X),
    (nn.PixelNorm(), X),
    (nn.Linear(6, 5, rng=R), (2, 4, 6, 5)),
    (nn.Linear(6, 5, negative_slope=0.2, rng=R), (2, 4, 6, 5)),
    (nn.Dropout(0.5, rng=R), X),
    (nn.Dropout2d(0.5, rng=R), X),
    (nn.Flatten(), (2, 144)),
    (nn.Flatten(0, 2), (48, 6)),
    (nn.Unflatten(1, (2, 2)), (2, 2, 2, 6, 6)),
    (nn.Unflatten(-1, (3, -1)), (2, 4, 6, 3, 2)),
    (nn.Reshape(36, 4), (2, 36, 4)),
    (nn.Identity(), X),
    (nn.Lambda(lambda x: x[:, :1]), (2, 1, 6, 6)),
    *((layer, X) for layer in (
        nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(),
        nn.Softplus(), nn.Softmax(1),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: repr(v)[:40])
def test_shape_and_gradient(layer, shape):
    x = image(*X)
    x.requires_grad = True
    y = layer(x)
    assert y.shape == shape and y.dtype == np.float32
    grads = grad((y * y).sum(), [x, *layer.parameters()])
    assert all(np.isfinite(g.data).all() for g in grads)
    assert repr(layer).startswith(type(layer).__name__)


def test_values_are_those_of_the_ops():
    x = image(*X)
    conv = nn.Conv2d(4, 8, 3, 2, 1, rng=Generator(1))
    expected = ops.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
    np.testing.assert_array_equal(conv(x).numpy(), expected.numpy())
    up = nn.ConvTranspose2d(4, 8, 3, 2, 1, 1, rng=Generator(1))
    expected = ops.conv_transpose2d(x, up.weight, up.bias, 2, 1, 1)
    np.testing.assert_array_equal(up(x).numpy(), expected.numpy())
    np.testing.assert_array_equal(
        nn.ReflectionPad2d((1, 2, 3, 4))(x).numpy(),
        np.pad(x.numpy(), ((0, 0), (0, 0), (3, 4), (1, 2)), mode="reflect"),
    )


def test_convolution_weights_are_channels_last_in_memory():
    for layer in (nn.Conv2d(3, 5, 4, rng=R), nn.ConvTranspose2d(3, 5, 4, rng=R)):
        assert layer.weight.data.transpose(0, 2, 3, 1).flags.c_contiguous
    assert nn.Conv2d(3, 5, 4, rng=R).weight.shape == (5, 3, 4, 4)
    assert nn.ConvTranspose2d(3, 5, 4, rng=R).weight.shape == (3, 5, 4, 4)


def test_one_seed_gives_one_network():
    a, b = (nn.Conv2d(3, 5, 4, rng=Generator(7)) for _ in range(2))
    c = nn.Conv2d(3, 5, 4, rng=Generator(8))
    np.testing.assert_array_equal(a.weight.data, b.weight.data)
    assert not np.array_equal(a.weight.data, c.weight.data)
    with pytest.raises(TypeError, match="rng"):
        nn.Linear(2, 3)


def test_batch_norm_running_statistics_and_modes():
    layer, x = nn.BatchNorm2d(4), image(*X)
    array = layer.running_mean.data
    layer(x)
    mean, var = x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.data, 0.1 * mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(layer.running_var.data, 0.9 + 0.1 * var, rtol=1e-5)
    assert layer.running_mean.data is array and layer.num_batches_tracked.item() == 1
    layer.eval()
    y = layer(x).numpy()
    shape = (1, 4, 1, 1)
    expected = x.numpy() - layer.running_mean.data.reshape(shape)
    expected /= np.sqrt(layer.running_var.data.reshape(shape) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert layer.num_batches_tracked.item() == 1


def test_batch_norm_averages_all_batches_without_momentum():
    layer = nn.BatchNorm1d(3, momentum=None)
    xs = [image(8, 3, seed=s) for s in range(3)]
    for x in xs:
        layer(x)
    expected = np.mean([x.numpy().mean(0) for x in xs], 0)
    np.testing.assert_allclose(layer.running_mean.data, expected, rtol=1e-5, atol=1e-7)


def test_batch_norm_with_the_activation_fused():
    x = image(*X)
    fused, plain = nn.BatchNorm2d(4, negative_slope=0.2), nn.BatchNorm2d(4)
    expected = ops.leaky_relu(plain(x), 0.2).numpy()
    np.testing.assert_allclose(fused(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    relu = nn.BatchNorm2d(4, negative_slope=0.0, track_running_stats=False).eval()
    expected = np.maximum(plain(x).numpy(), 0)
    np.testing.assert_allclose(relu(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert relu.buffers() == []


def test_dropout_follows_its_generator_and_mode():
    layer, x = nn.Dropout(0.5, rng=Generator(3)), Tensor(np.ones(1000, np.float32))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, 2} and abs(y.mean() - 1) < 0.2
    assert not np.array_equal(layer(x).numpy(), y)
    np.testing.assert_array_equal(layer(x, Generator(3)).numpy(), y)
    assert layer.eval()(x) is x
    assert set(layer.state_dict()) == {"rng.seed", "rng.counter"}


def test_embedding():
    layer = nn.Embedding(5, 3, padding_idx=-1, rng=Generator(0))
    assert layer(np.array([[0, 4], [1, 1]])).shape == (2, 2, 3)
    assert (layer.weight.data[4] == 0).all()
    (g,) = grad(layer(np.array([0, 0, 4])).sum(), [layer.weight])
    np.testing.assert_array_equal(g.data[:, 0], [2, 0, 0, 0, 0])


def test_sequential_is_indexable_iterable_and_sliceable():
    a, b, c = nn.Linear(2, 3, rng=R), nn.ReLU(), nn.Linear(3, 1, rng=R)
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and net[0] is a and net[-1] is c and list(net) == [a, b, c]
    assert isinstance(net[:2], nn.Sequential) and net[:2][1] is b
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net[1] = nn.Tanh()
    x = image(4, 2)
    np.testing.assert_array_equal(net(x).numpy(), c(ops.tanh(a(x))).numpy())
    assert nn.Sequential()(x) is x
    twice = type("Twice", (nn.Sequential,), {"forward": lambda self, x: 2 * x})
    assert twice(a)(3) == 6
    modules = nn.ModuleList([a]).append(c)
    assert len(modules) == 2 and len(modules.parameters()) == 4
    with pytest.raises(TypeError, match="Sequential: layer 1 is a function, expected a Module"):
        nn.Sequential(a, lambda x: x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2, rng=R), "Conv2d: groups is 2, which must divide"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror", rng=R), "padding_mode is 'mirror'"),
        (lambda: nn.Dropout(1.5, rng=R), r"Dropout: p is 1.5, expected a probability in \[0, 1\]"),
        (lambda: nn.GroupNorm(3, 4), "num_groups 3 must divide num_channels 4"),
        (lambda: nn.Upsample(), "got size=None and scale_factor=None"),
        (lambda: nn.ZeroPad2d((1, 2)), r"ZeroPad2d: padding is \(1, 2\), expected"),
        (lambda: nn.Embedding(3, 2, padding_idx=3, rng=R), "padding_idx is 3, there are 3"),
        (lambda: nn.BatchNorm2d(3)(image(2, 3)), r"BatchNorm2d: input has shape \(2, 3\)"),
        (lambda: nn.Flatten(2, 1)(image(2, 3, 4)), "start_dim 2 is after end_dim 1"),
    ],
)
def test_errors_are_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("after", [nn.ReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(-0.5), nn.Tanh()])
def test_sequential_runs_a_layer_and_its_rectifier_as_one(after, monkeypatch):
    layers = [
        (nn.Conv2d(4, 3, 3, rng=R), image(*X)),
        (nn.ConvTranspose2d(4, 3, 2, bias=False, rng=R), image(*X)),
        (nn.BatchNorm2d(4).eval(), image(*X)),
        (nn.Linear(6, 5, rng=R), image(*X)),
        (nn.Linear(6, 5, negative_slope=0.1, rng=R), image(*X)),
    ]
    for layer, x in layers:
        apart = after(layer(x)).numpy()
        together = nn.Sequential(layer, after, nn.Flatten())
        np.testing.assert_allclose(together(x).numpy(), apart.reshape(2, -1), atol=1e-6)
    calls = []
    for kind in (nn.ReLU, nn.LeakyReLU):
        monkeypatch.setattr(kind, "forward", lambda self, x: calls.append(x) or x)
    for layer, x in layers:
        nn.Sequential(layer, after)(x)
    # A layer activates once; a negative slope cannot be fused.
    expected = {"ReLU()": 1, "LeakyReLU(0.2)": 1, "LeakyReLU(-0.5)": 5, "Tanh()": 0}
    assert len(calls) == expected[repr(after)]
