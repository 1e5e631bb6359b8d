"""Tiles: no seams, whatever the sizes, and no more of the image at a time than was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigen as mg
from minigen import nn
from minigen.data.tiles import in_tiles, padded_size
from minigen.random import Generator


class Net(nn.Module):
    """Down by 2 and up again, with zeros around the image; depends on pixels 9 away."""

    def __init__(self):
        super().__init__()
        rng = Generator(3)
        self.first = nn.Conv2d(2, 4, 3, padding=1, rng=rng)
        self.down = nn.Conv2d(4, 6, 4, stride=2, padding=1, rng=rng)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, rng=rng)
        self.last = nn.Conv2d(10, 3, 3, padding=1, rng=rng)

    def __call__(self, x):
        first = mg.leaky_relu(self.first(x), 0.2)
        deep = mg.leaky_relu(self.deep(mg.leaky_relu(self.down(first), 0.2)), 0.2)
        deep = mg.interpolate(deep, scale_factor=2, mode="nearest")
        return self.last(mg.concatenate([first, deep], axis=1))


def applied(net):
    with mg.no_grad():
        return lambda pixels, position: net(mg.asarray(pixels[None])).numpy()[0]


@pytest.mark.parametrize("tile", [8, 12, 30, 64])
@pytest.mark.parametrize("size", [(37, 50), (64, 64), (8, 90)])
def test_a_network_in_tiles_is_the_network_at_once(size, tile):
    image = np.random.default_rng(0).random((2, *size), np.float32)
    net = applied(Net())
    with mg.kernels.use("reference"), mg.no_grad():
        parts = in_tiles(net, image, tile=tile, margin=9, multiple=2)
        whole = in_tiles(net, image, tile=1000, margin=9, multiple=2)
        padded = np.pad(image, [(0, 0), (0, size[0] % 2), (0, size[1] % 2)], mode="reflect")
        direct = net(padded, None)[:, : size[0], : size[1]]
    assert parts.shape == (3, *size)
    assert np.array_equal(whole, direct)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_margin_too_small_has_seams():
    """What the test above would see."""
    image = np.random.default_rng(0).random((2, 32, 32), np.float32)
    net = applied(Net())
    with mg.kernels.use("reference"), mg.no_grad():
        parts, whole = (
            in_tiles(net, image, tile=tile, margin=2, multiple=2) for tile in (16, 1000)
        )
    assert abs(parts - whole).max() > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 20),
    st.integers(1, 9),
)  # fmt: skip
def test_every_pixel_comes_out_where_it_was(height, width, tile, margin, multiple):
    image = np.arange(2 * height * width, dtype=np.float64).reshape(2, height, width)
    seen, told = [], []

    def function(pixels, position):
        seen.append((pixels.shape[1:], position))
        y, x = position
        assert y % multiple == x % multiple == 0
        assert not any(length % multiple for length in pixels.shape[1:])
        known = image[:, y : y + pixels.shape[1], x : x + pixels.shape[2]]
        assert np.array_equal(pixels[:, : known.shape[1], : known.shape[2]], known)
        return pixels[:1]

    result = in_tiles(
        function, image, tile=tile, margin=margin, multiple=multiple,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert np.array_equal(result, image[:1])
    most = tile + 2 * margin + 3 * (multiple - 1)
    assert all(max(size) <= most for size, _ in seen)
    assert told == [(i + 1, len(seen)) for i in range(len(seen))]
    bounds = padded_size((height, width), multiple)
    assert max(y + size[0] for size, (y, _) in seen) == bounds[0]
    assert max(x + size[1] for size, (_, x) in seen) == bounds[1]


def test_padding_reflects():
    image = np.array([[[1.0, 2, 3], [4, 5, 6]]])
    seen = []
    in_tiles(lambda p, _: (seen.append(p), p)[1], image, tile=8, margin=0, multiple=4)
    expected = [[1, 2, 3, 2], [4, 5, 6, 5], [1, 2, 3, 2], [4, 5, 6, 5]]
    assert np.array_equal(seen[0][0], expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tile": 0}, "tile is 0, expected at least 1"),
        ({"margin": -1}, "margin is -1, expected at least 0"),
        ({"multiple": 0}, "multiple is 0"),
    ],
)
def test_what_is_wrong_is_said(wrong, message):
    options = {"tile": 4, "margin": 0, "multiple": 1} | wrong
    with pytest.raises(ValueError, match=message):
        in_tiles(lambda pixels, _: pixels, np.zeros((1, 4, 4)), **options)
    with pytest.raises(ValueError, match=r"a tile became \(1, 2, 4\), expected \(channels, 4, 4\)"):
        in_tiles(lambda pixels, _: pixels[:, :2], np.zeros((1, 4, 4)), tile=4, margin=0)
    with pytest.raises(ValueError, match=r"the image is \(4, 4\), expected \(C, H, W\)"):
        in_tiles(lambda pixels, _: pixels, np.zeros((4, 4)), tile=4, margin=0)
