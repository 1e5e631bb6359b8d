"""Products on tensor cores against the reference, to the precision of TF32; and the layouts."""

import numpy as np
import pytest
from minigen.kernels.reference import conv as reference

from minigen import kernels

TOLERANCE = 2e-3  # of the root of the sum of squared products: a few roundings to 2**-11


@pytest.fixture
def tensor_core(gpu, monkeypatch):
    """The host functions, for products that are too small to be worth while."""
    from minigen.kernels.cuda import tensor_core

    monkeypatch.setattr(tensor_core, "SMALLEST", 1)
    monkeypatch.setattr(tensor_core, "LEAST", 1)
    forget(tensor_core)
    yield tensor_core
    forget(tensor_core)


def forget(tensor_core):
    tensor_core.gather_run.cache_clear()
    tensor_core.weight_grad_run.cache_clear()


def force(monkeypatch, tensor_core, splits, *tiles):
    """Let every plan be the one of these tiles that there is for the kernel."""
    monkeypatch.setattr(
        tensor_core, "plan", lambda names, *shape: (next(t for t in tiles if t in names), splits)
    )


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_dispatch_reaches_tensor_cores(tensor_core, gpu):
    """By default, and not where full precision is asked for; also from an odd address."""
    x, weight = normal(1, 8, 4, 4), normal(16, 8, 3, 3)
    args = ((1, 1), (1, 1), (1, 1), 1)
    room = gpu.asarray(np.append(np.float32(0), x.transpose(0, 2, 3, 1).reshape(-1)))
    odd = room[1:].reshape(1, 4, 4, 8).transpose(0, 3, 1, 2)
    found = kernels.conv2d(odd, to_device(gpu, weight), None, *args)
    compare(found, reference.conv2d, x, weight, None, *args)
    with kernels.use(precision="float32"):
        full = kernels.conv2d(odd, to_device(gpu, weight), None, *args)
    exact = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), None, *args)
    assert np.abs(full.get() - exact).max() < 2e-5 < np.abs(found.get() - exact).max()


def to_device(gpu, array):
    """An image or a weight, channels-last in memory."""
    if array.ndim != 4:
        return gpu.asarray(array)
    moved = gpu.asarray(np.ascontiguousarray(array.transpose(0, 2, 3, 1)))
    return moved.transpose(0, 3, 1, 2)


def compare(found, function, *args):
    """Against the reference in float64, in units of what rounding leaves."""
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
    squares = [a * a if isinstance(a, np.ndarray) else a for a in wide]
    expected = function(*wide)
    noise = np.sqrt(np.abs(function(*squares)))
    assert found is not None and found.shape == expected.shape and found.dtype == np.float32
    error = np.abs(found.get() - expected) / np.maximum(noise, 1e-3)
    assert error.max() < TOLERANCE, error.max()
    assert error.max() > 1e-7  # it was TF32


@pytest.mark.parametrize(
    ("size", "channels", "outputs", "taps", "stride", "padding", "dilation", "splits"),
    [
        ((2, 5, 7), 8, 20, (3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((2, 9, 6), 4, 68, (4, 3), (2, 3), (2, 1), (1, 2), 1),
        ((1, 6, 6), 36, 64, (3, 2), (1, 2), (0, 1), (2, 1), 3),
    ],
)
def test_convolution(
    gpu, tensor_core, monkeypatch, size, channels, outputs, taps, stride, padding, dilation, splits
):
    force(monkeypatch, tensor_core, splits, "small")
    x, weight = normal(size[0], channels, *size[1:]), normal(outputs, channels, *taps)
    bias = normal(outputs)
    args = (stride, padding, dilation, 1, 0.2)
    given = [to_device(gpu, a) for a in (x, weight, bias)]
    compare(tensor_core.conv2d(*given, *args), reference.conv2d, x, weight, bias, *args)


@pytest.mark.parametrize(
    ("size", "channels", "outputs", "taps", "output_size", "stride", "padding", "dilation",
     "splits"),
    [
        ((2, 3, 5), 8, 20, (4, 4), (6, 10), (2, 2), (1, 1), (1, 1), 1),
        ((1, 4, 3), 4, 68, (3, 2), (5, 10), (1, 3), (1, 0), (1, 2), 1),
        ((2, 3, 3), 36, 16, (3, 3), (8, 7), (2, 2), (0, 1), (2, 3), 3),
    ],
)  # fmt: skip
def test_transposed_convolution(
    gpu, tensor_core, monkeypatch,
    size, channels, outputs, taps, output_size, stride, padding, dilation, splits,
):  # fmt: skip
    force(monkeypatch, tensor_core, splits, "small")
    x, weight = normal(size[0], channels, *size[1:]), normal(channels, outputs, *taps)
    bias = normal(outputs)
    args = (output_size, stride, padding, dilation, 1, 0.2)
    given = [to_device(gpu, a) for a in (x, weight, bias)]
    found = tensor_core.conv_transpose2d(*given, *args)
    compare(found, reference.conv_transpose2d, x, weight, bias, *args)


@pytest.mark.parametrize(
    ("size", "channels", "outputs", "taps", "output_size", "stride", "padding", "dilation",
     "splits"),
    [
        ((2, 5, 7), 8, 20, (3, 3), (5, 7), (1, 1), (1, 1), (1, 1), 1),
        ((3, 9, 6), 4, 68, (4, 3), (5, 2), (2, 2), (2, 1), (1, 2), 2),
        ((9, 4, 4), 20, 16, (4, 4), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ],
)  # fmt: skip
def test_weight_gradient(
    gpu, tensor_core, monkeypatch,
    size, channels, outputs, taps, output_size, stride, padding, dilation, splits,
):  # fmt: skip
    force(monkeypatch, tensor_core, splits, "small")
    x, grad = normal(size[0], channels, *size[1:]), normal(size[0], outputs, *output_size)
    args = (taps, stride, padding, dilation, 1)
    found = tensor_core.conv2d_weight_grad(to_device(gpu, x), to_device(gpu, grad), *args)
    compare(found, reference.conv2d_weight_grad, x, grad, *args)


@pytest.mark.parametrize("tiles", [("large",), ("huge", "tall"), ("narrow", "flat")], ids=str)
def test_larger_tiles(gpu, tensor_core, monkeypatch, tiles):
    """One tile of each kind, with more slices than the ring has stages."""
    force(monkeypatch, tensor_core, 1, *tiles)
    args = ((1, 1), (0, 1), (1, 1), 1)
    x, weight, grad = normal(1, 12, 8, 8), normal(100, 12, 2, 4), normal(1, 100, 7, 7)
    given = [to_device(gpu, a) for a in (x, weight, grad)]
    compare(tensor_core.conv2d(*given[:2], None, *args), reference.conv2d, x, weight, None, *args)
    found = tensor_core.conv2d_weight_grad(given[0], given[2], (2, 4), *args)
    compare(found, reference.conv2d_weight_grad, x, grad, (2, 4), *args)
    x, weight, args = normal(1, 12, 7, 7), weight.transpose(1, 0, 2, 3), ((8, 8), *args)
    found = tensor_core.conv_transpose2d(to_device(gpu, x), to_device(gpu, weight), None, *args)
    compare(found, reference.conv_transpose2d, x, weight, None, *args)


def matrix_product(a, b, bias, slope):
    y = a @ b if bias is None else a @ b + bias
    return np.where(y > 0, y, slope * y)


@pytest.mark.parametrize(("a_by", "b_by"), ["CF", "CC", "FC"])
def test_matrices(gpu, tensor_core, monkeypatch, a_by, b_by):
    force(monkeypatch, tensor_core, 1 + (a_by == "C"), "small")
    a, b, bias, slope = normal(36, 80), normal(80, 68), normal(68), 0.1
    if a_by == "F":
        bias, slope = None, 1.0
    given = [by_order(gpu, a, a_by), by_order(gpu, b, b_by)]
    given_bias = None if bias is None else gpu.asarray(bias)
    compare(tensor_core.matmul2d(*given, given_bias, slope), matrix_product, a, b, bias, slope)
    assert tensor_core.matmul2d(by_order(gpu, a, "F"), by_order(gpu, b, "F")) is None


def by_order(gpu, a, order):
    return gpu.asarray(a) if order == "C" else gpu.asarray(np.ascontiguousarray(a.T)).T


def test_what_tensor_cores_do_not_serve_is_left_to_others(gpu, tensor_core):
    x, w = (to_device(gpu, normal(*shape)) for shape in ((2, 8, 5, 5), (16, 8, 3, 3)))
    args = ((1, 1), (1, 1), (1, 1))
    assert tensor_core.conv2d(x, w[:, :4], None, *args, 2) is None
    assert tensor_core.conv2d(x[:, :6], w[:, :6], None, *args, 1) is None  # 6 channels
    assert tensor_core.conv2d(x.astype("float64"), w.astype("float64"), None, *args, 1) is None
    assert tensor_core.conv2d(x[:0], w, None, *args, 1) is None


def test_plans(gpu):
    """Large problems get large tiles, small ones are split to fill the device; all fit into it."""
    from minigen.kernels.cuda.code.tensor_sizes import GATHER, TILES, WEIGHT_GRAD
    from minigen.kernels.cuda.tensor_core import plan

    assert plan(GATHER, 1 << 18, 256, 2304, 1) == ("huge", 1)
    assert plan(WEIGHT_GRAD, 256, 2304, 1 << 18, 1)[0] == "tall"
    assert plan(GATHER, 1 << 18, 64, 576, 1)[0] == "narrow"
    assert plan(WEIGHT_GRAD, 64, 576, 1 << 18, 1)[0] == "flat"
    name, splits = plan(GATHER, 1024, 256, 2048, 1)
    tile = TILES[name]
    assert 1024 // tile.rows * 256 // tile.columns * splits > 64
    for name, tile in TILES.items():
        for a_by_k, b_by_k in ((True, True), (True, False), (False, False)):
            if (name in GATHER) >= a_by_k and (name in WEIGHT_GRAD) >= (not a_by_k):
                assert tile.shared(a_by_k, b_by_k) <= 99 << 10
