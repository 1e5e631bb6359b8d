"""VGG16 and SqueezeNet against the same networks written in plain NumPy loops."""

import numpy as np
import pytest

import minigen as mg
from minigen.nn.perceptual import VGG16, SqueezeNet

RNG = np.random.default_rng(0)
SMALL_VGG = ((2, 3), (4, 4), (5, 5, 5), (6, 6, 6), (6, 6, 6))


@pytest.fixture(autouse=True)
def reference():
    with mg.kernels.use("reference"):
        yield


def convolved(x, layer, stride=1, pad=0):
    """relu(conv) of one image (C, H, W), a pixel at a time."""
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    k = weight.shape[-1]
    rows, columns = ((extent - k) // stride + 1 for extent in x.shape[1:])
    out = np.empty((len(weight), rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = (weight * window).sum(axis=(1, 2, 3)) + bias
    return np.maximum(out, 0)


def pooled(x, k, stride, ceil):
    rows, columns = (
        -(-(n - k) // stride) + 1 if ceil else (n - k) // stride + 1 for n in x.shape[1:]
    )
    out = np.empty((len(x), rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = window.max(axis=(1, 2))
    return out


def compare(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].numpy()[0], array, rtol=1e-4, atol=1e-6)


def test_vgg16_is_its_formula(monkeypatch):
    monkeypatch.setattr(VGG16, "blocks", SMALL_VGG)
    net = VGG16(rng=mg.Generator(1))
    image = RNG.random((3, 17, 16)).astype(np.float32)
    x = (image - net.mean.numpy()[:, None, None]) / net.std.numpy()[:, None, None]
    expected, layers = {}, iter(net.convolutions)
    for number, block in enumerate(SMALL_VGG, 1):
        x = x if number == 1 else pooled(x, 2, 2, False)
        for _ in block:
            x = convolved(x, next(layers), pad=1)
        expected[f"relu{number}_{len(block)}"] = x
    compare(net(mg.asarray(image[None])), expected)
    np.testing.assert_allclose(
        net.features(mg.asarray(image[None])).numpy()[0], x.mean(axis=(1, 2)), rtol=1e-4
    )


def test_squeezenet_is_its_formula(monkeypatch):
    monkeypatch.setattr(SqueezeNet, "fires", tuple((2, 3) for _ in SqueezeNet.fires))
    net = SqueezeNet(rng=mg.Generator(1))
    net.mean.data[...], net.std.data[...] = (0.1, 0.2, 0.3), (0.5, 2, 1)
    image = RNG.random((3, 34, 29)).astype(np.float32)
    x = (image - net.mean.numpy()[:, None, None]) / net.std.numpy()[:, None, None]
    x = convolved(x, net.conv1, stride=2)
    expected = {"conv1": x}
    for number, fire in enumerate(net.fire, 2):
        if number in (2, 4, 6):  # rounding up: the last windows may hang over the border
            x = pooled(x, 3, 2, True)
        squeezed = convolved(x, fire.squeeze)
        wide = convolved(squeezed, fire.expand3x3, pad=1)
        x = np.concatenate([convolved(squeezed, fire.expand1x1), wide])
        if number in (3, 5, 9):
            expected[f"fire{number}"] = x
    compare(net(mg.asarray(image[None])), expected)


@pytest.mark.parametrize("network", [VGG16, SqueezeNet])
def test_images_that_do_not_fit(monkeypatch, network):
    monkeypatch.setattr(VGG16, "blocks", SMALL_VGG)
    net = network(rng=mg.Generator(0))
    for shape in ((1, 1, 32, 32), (3, 32, 32), (1, 3, net.smallest - 1, 64)):
        with pytest.raises(
            ValueError, match=r"images have shape .*, expected \(N, 3, H, W\) of at"
        ):
            net(mg.zeros(shape))
    smallest = net(mg.zeros((1, 3, net.smallest, net.smallest)))
    assert list(smallest.values())[-1].shape[2:] == (1, 1)


def test_the_real_sizes():
    net = VGG16(rng=mg.Generator(0))
    assert net.num_parameters() == 14_714_688  # of the 13 convolutions
    assert [layer.out_channels for layer in net.convolutions][-3:] == [512] * 3
    net = SqueezeNet(rng=mg.Generator(0))
    assert net.num_parameters() == 1_235_496 - 513_000  # less the classifier of 1,000
