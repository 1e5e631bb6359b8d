"""Rearranging, sampling at coordinates (frozen values of another library), and latent variables."""

import numpy as np
import pytest

from minigen import kernels
from minigen.autograd import grad
from minigen.ops.sampling import (
    affine_grid,
    channel_shuffle,
    grid_sample,
    one_hot,
    pixel_shuffle,
    pixel_unshuffle,
    reparameterize,
)
from minigen.random import Generator
from minigen.tensor import Tensor
from minigen.testing import gradcheck

X = np.arange(12.0).reshape(1, 1, 3, 4) ** 1.5
GRID = np.array([[[[-0.5, 0.2], [1.4, -1.3], [0.9, 2.6]]]])


def leaf(array):
    t = Tensor(np.asarray(array))
    t.requires_grad = True
    return t


def test_pixel_shuffle_and_back():
    x = np.arange(2 * 8 * 2 * 3).reshape(2, 8, 2, 3)
    y = pixel_shuffle(Tensor(x), 2).numpy()
    assert y.shape == (2, 2, 4, 6)
    for c, i, j in np.ndindex(2, 4, 6):
        np.testing.assert_array_equal(
            y[:, c, i, j], x[:, c * 4 + i % 2 * 2 + j % 2, i // 2, j // 2]
        )
    np.testing.assert_array_equal(pixel_unshuffle(Tensor(y), 2).numpy(), x)
    np.testing.assert_array_equal(pixel_shuffle(Tensor(x[0]), 2).numpy(), y[0])


def test_channel_shuffle():
    x = np.arange(6).reshape(1, 6, 1)
    assert channel_shuffle(Tensor(x), 2).numpy().ravel().tolist() == [0, 3, 1, 4, 2, 5]


def test_one_hot():
    y = one_hot([[0, 2], [1, 1]])
    assert y.dtype == np.int64 and y.shape == (2, 2, 3)
    np.testing.assert_array_equal(y.numpy(), np.eye(3)[[[0, 2], [1, 1]]])
    assert one_hot(Tensor(np.zeros(0, np.int64)), 4).shape == (0, 4)
    with pytest.raises(ValueError, match="labels span 0 to 3; expected 0 to 2"):
        one_hot([0, 3], 3)
    with pytest.raises(TypeError, match="labels have dtype float64"):
        one_hot(np.array([0.5]))


FROZEN = [  # torch.nn.functional.grid_sample, version 2.13, float64
    ("bilinear", "zeros", False, [14.157232, 0.0, 0.0]),
    ("bilinear", "zeros", True, [13.489575, 1.454923, 0.0]),
    ("bilinear", "border", False, [14.157232, 5.196152, 36.482873]),
    ("bilinear", "border", True, [13.489575, 5.196152, 35.753858]),
    ("bilinear", "reflection", False, [14.157232, 4.485835, 6.528563]),
    ("bilinear", "reflection", True, [13.489575, 7.510742, 10.083301]),
    ("nearest", "zeros", False, [8.0, 0.0, 0.0]),
    ("nearest", "zeros", True, [11.18034, 0.0, 0.0]),
    ("nearest", "border", False, [8.0, 5.196152, 36.482873]),
    ("nearest", "border", True, [11.18034, 5.196152, 36.482873]),
    ("nearest", "reflection", False, [8.0, 5.196152, 5.196152]),
    ("nearest", "reflection", True, [11.18034, 2.828427, 5.196152]),
]


@pytest.mark.parametrize(("mode", "padding_mode", "align_corners", "expected"), FROZEN)
def test_grid_sample_s_frozen_values(mode, padding_mode, align_corners, expected):
    y = grid_sample(Tensor(X), Tensor(GRID), mode, padding_mode, align_corners)
    np.testing.assert_allclose(y.numpy().ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_identity_map_returns_the_image(align_corners):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    theta = np.tile(np.eye(2, 3), (2, 1, 1))
    grid = affine_grid(Tensor(theta), x.shape, align_corners)
    assert grid.shape == (2, 4, 5, 2)
    for mode in ("bilinear", "nearest"):
        y = grid_sample(Tensor(x), grid, mode, align_corners=align_corners)
        np.testing.assert_allclose(y.numpy(), x, atol=1e-12)


def test_affine_grid_s_frozen_values():
    theta = np.array([[[1.0, 0.5, 0.1], [-0.2, 0.8, 0.3]]])
    grid = affine_grid(Tensor(theta), (1, 1, 2, 3)).numpy()[0, 0]
    expected = [[-0.816667, 0.033333], [-0.15, -0.1], [0.516667, -0.233333]]
    np.testing.assert_allclose(grid, expected, atol=1e-6)
    corners = affine_grid(Tensor(theta), (1, 1, 2, 3), True).numpy()[0, 1]
    np.testing.assert_allclose(corners, [[-0.4, 1.3], [0.6, 1.1], [1.6, 0.9]], atol=1e-12)


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reparameterize(target, dtype):
    rng = np.random.default_rng(0)
    mu, log_var = rng.standard_normal((2, 5, 7)).astype(dtype)
    m, v = leaf(mu), leaf(log_var)
    with kernels.use(target):
        z, kl = reparameterize(m, v, rng=Generator(3))
        noise = Generator(3).normal((5, 7), dtype=dtype).numpy()
        tolerance = 1e-6 if dtype == np.float32 else 1e-12
        std = np.exp(log_var / 2)
        np.testing.assert_allclose(z.numpy(), mu + std * noise, rtol=tolerance, atol=tolerance)
        expected = 0.5 * (mu**2 + std**2 - 1 - log_var)
        np.testing.assert_allclose(kl.numpy(), expected, rtol=1e-5, atol=tolerance)
        dm, dv = grad(z.sum() + 2 * kl.sum(), [m, v])
        np.testing.assert_allclose(dm.numpy(), 1 + 2 * mu, rtol=1e-5, atol=tolerance)
        np.testing.assert_allclose(
            dv.numpy(), 0.5 * std * noise + (std**2 - 1), rtol=1e-4, atol=10 * tolerance
        )
        (only,) = grad(z.sum(), [m])
        np.testing.assert_array_equal(only.numpy(), 1)
    assert z.dtype == kl.dtype == dtype


def test_reparameterize_to_third_order():
    rng = np.random.default_rng(1)
    inputs = list(rng.standard_normal((2, 2, 3)))
    gradcheck(lambda m, v: reparameterize(m, v, rng=Generator(0)), inputs, order=3)


def test_reparameterize_moves_its_generator():
    rng = Generator(0)
    m = Tensor(np.zeros((3, 3)))
    first, _ = reparameterize(m, m, rng=rng)
    assert rng.counter == 3
    second, _ = reparameterize(m, m, rng=rng)
    assert (first.numpy() != second.numpy()).any()


IMAGE = Tensor(np.zeros((2, 6, 3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel_shuffle(IMAGE, 2), "6 channels of input (2, 6, 3, 4) do not divide by 2^2"),
        (lambda: pixel_unshuffle(IMAGE, 2), "sides (3, 4) of input (2, 6, 3, 4) do not divide"),
        (lambda: channel_shuffle(IMAGE, 4), "groups 4 must divide the 6 channels"),
        (lambda: grid_sample(IMAGE, Tensor(GRID)), "grid (1, 1, 3, 2); expected"),
        (lambda: grid_sample(Tensor(X), Tensor(GRID), "cubic"), "mode 'cubic', padding_mode"),
        (lambda: affine_grid(Tensor(GRID), (1, 1, 2, 2)), "theta has shape (1, 1, 3, 2)"),
        (
            lambda: reparameterize(IMAGE, Tensor(X), rng=Generator(0)),
            "mu has shape (2, 6, 3, 4), log_var (1, 1, 3, 4); expected the same",
        ),
    ],
)
def test_errors_name_both_values(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
