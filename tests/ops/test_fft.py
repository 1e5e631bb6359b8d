"""Fourier transforms against numpy.fft."""

import numpy as np
import pytest

from minigen.autograd import grad
from minigen.ops import fft
from minigen.tensor import tensor
from tests.ops.support import same

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4, 5))
Z = X + 1j * rng.normal(size=X.shape)


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_one_axis(name, norm):
    x = X if name == "rfft" else Z
    for n, axis in ((None, -1), (3, -1), (8, 1), (4, 0), (None, 5)):
        same(getattr(fft, name), getattr(np.fft, name), x, n, axis, norm)
    narrow = x.astype(np.float32 if name == "rfft" else np.complex64)
    same(getattr(fft, name), getattr(np.fft, name), narrow, norm=norm, tolerance=1e-5)


@pytest.mark.parametrize("name", ["fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn"])
def test_several_axes(name):
    x = X if name == "rfft2" else Z
    for static in ({}, {"norm": "ortho"}, {"s": (3, 6), "axes": (-2, -1)}, {"axes": (0, 1)}):
        same(getattr(fft, name), getattr(np.fft, name), x, **static)
    same(getattr(fft, name), getattr(np.fft, name), x, s=(3,), axes=(0, 1))


def test_shifts():
    for axes in (None, 1, (0, 2)):
        same(fft.fftshift, np.fft.fftshift, X, axes)
        same(fft.ifftshift, np.fft.ifftshift, X, axes)


def test_transforms_invert_each_other_and_their_gradients():
    x = tensor(X, requires_grad=True)
    back = fft.irfft2(fft.rfft2(x), s=(4, 5))
    np.testing.assert_allclose(back.data, X, atol=1e-12)
    np.testing.assert_allclose(grad((back * X).sum(), x)[0].data, X, atol=1e-12)


def test_an_unknown_norm_is_numpys_error():
    same(fft.fft, np.fft.fft, Z, norm="other")
