"""Convolutions on the device against the reference, in full float32 and in float64."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

# input (N, C, H, W), output channels, kernel size, stride, padding, dilation, groups
SHAPES = {
    "4x4 stride 2": ((2, 4, 6, 6), 8, (4, 4), (2, 2), (1, 1), (1, 1), 1),
    "3x3": ((2, 3, 5, 4), 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "1x1": ((3, 5, 2, 3), 7, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "stride over kernel": ((1, 2, 7, 7), 3, (2, 1), (3, 2), (0, 0), (1, 1), 1),
    "uneven": ((1, 4, 9, 7), 6, (3, 2), (2, 3), (2, 1), (2, 1), 2),
    "dilated": ((1, 3, 8, 9), 2, (3, 3), (2, 3), (2, 3), (2, 3), 1),
    "stride and dilation share a factor": ((1, 2, 9, 9), 2, (3, 2), (4, 6), (3, 1), (6, 4), 1),
    "whole image": ((3, 8, 3, 2), 1, (3, 2), (1, 1), (0, 0), (1, 1), 1),
    "groups": ((2, 6, 5, 5), 12, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "depthwise": ((2, 5, 6, 5), 5, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    "depthwise stride 2": ((1, 6, 7, 8), 12, (4, 3), (2, 2), (1, 1), (1, 2), 6),
    "no pictures": ((0, 3, 5, 5), 4, (3, 3), (1, 1), (0, 0), (1, 1), 1),
}


def normal(*shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def last(x):
    """The same array in channels-last memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.fixture(autouse=True)
def full_precision():
    with kernels.use(precision="float32"):
        yield


@pytest.fixture
def cut_into(monkeypatch):
    """A function that makes products go by one tile, with their sums in so many parts."""
    import minigen.kernels.cuda.conv_plan as host
    from minigen.kernels.cuda.gemm_plan import cut

    def force(tile, parts=1):
        monkeypatch.setattr(host, "plan", lambda *shape: cut(tile, *shape[:-1], parts))
        forget()

    def forget():
        host.gather_run.cache_clear()
        host.weight_grad_run.cache_clear()

    yield force
    forget()


def check_all(case, dtype="float32", arrange=last, slope=1.0, biased=False):
    """The convolution, its transpose and its weight gradient of one shape."""
    shape, o, kernel_size, stride, padding, dilation, groups = case
    x = arrange(normal(*shape, dtype=dtype))
    weight = arrange(normal(o, shape[1] // groups, *kernel_size, dtype=dtype, seed=1))
    bias = normal(o, dtype=dtype) if biased else None
    geometry = stride, padding, dilation, groups
    y = check("conv2d", x, weight, bias, *geometry, slope)
    grad = arrange(normal(*y.shape, dtype=dtype, seed=2))
    bias = normal(shape[1], dtype=dtype) if biased else None
    dx = check("conv_transpose2d", grad, weight, bias, shape[2:], *geometry, slope)
    d = check("conv2d_weight_grad", x, grad, kernel_size, *geometry)
    for made in (y, dx, d):
        assert made.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape(gpu, name):
    check_all(SHAPES[name])


@pytest.mark.parametrize("name", ["4x4 stride 2", "uneven", "depthwise stride 2"])
def test_bias_and_activation_in_float64(gpu, name):
    check_all(SHAPES[name], "float64", slope=0.2, biased=True)


@pytest.mark.parametrize(("tile", "parts"), [("medium", 3), ("small", 1), ("small", 3)])
def test_tiles_and_sums_in_parts(gpu, cut_into, tile, parts):
    cut_into(tile, parts)
    check_all(SHAPES["4x4 stride 2"], slope=0.1, biased=True)
    if tile == "small":
        check_all(SHAPES["uneven"], slope=0.0, biased=True)


def test_few_outputs(gpu, cut_into):
    case = (2, 8, 6, 7), 3, (3, 2), (2, 1), (1, 1), (1, 2), 1
    shape, o, kernel_size, *geometry = case
    x, weight = last(normal(*shape)), last(normal(o, shape[1], *kernel_size))
    cut_into("thin", 2)
    y = check("conv2d", x, weight, normal(o), *geometry, 0.2)
    check("conv_transpose2d", last(normal(*y.shape)), weight, None, shape[2:], *geometry)
    cut_into("flat", 2)
    check("conv2d_weight_grad", x, last(normal(*y.shape)), kernel_size, *geometry)


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 44), ("float64", 4)])
def test_pictures_from_teams(gpu, monkeypatch, dtype, channels):
    import minigen.kernels.cuda.conv_plan as host

    monkeypatch.setattr(host, "MANY", 0)
    host.gather_run.cache_clear()
    x, bias = last(normal(2, channels, 5, 3, dtype=dtype)), normal(3, dtype=dtype)
    weight = last(normal(3, channels, 3, 2, dtype=dtype))
    check("conv2d", x, weight, bias, (1, 2), (1, 0), (2, 1), 1, 0.2)
    weight = normal(channels, 3, 4, 4, dtype=dtype)
    check("conv_transpose2d", x, weight, bias, (10, 6), (2, 2), (1, 1), (1, 1), 1)
    weight = normal(channels, 1, 6, 3, dtype=dtype)  # more steps than stand in shared memory
    check("conv_transpose2d", x, weight, None, (9, 8), (1, 1), (0, 0), (1, 1), 1, 0.0)


def test_arrays_in_any_memory_order(gpu):
    for order in [(0, 1, 2, 3), (3, 1, 0, 2)]:
        back = np.argsort(order)

        def arrange(x, order=order, back=back):
            return np.ascontiguousarray(x.transpose(order)).transpose(back)

        check_all(((2, 4, 5, 4), 8, (3, 2), (1, 1), (1, 1), (1, 1), 1), arrange=arrange)
        check_all(((1, 4, 4, 3), 4, (3, 2), (1, 1), (1, 1), (1, 1), 4), arrange=arrange)
    whole = normal(3, 5, 9, 8)
    x, weight = whole[1:, :4, ::2, 1:], normal(2, 4, 3, 3)
    check("conv2d", x, weight, normal(6)[::3], (1, 1), (0, 0), (1, 1), 1)
    backwards = gpu.asarray(whole)[:, ::-1, ::-1]
    y = kernels.conv2d(backwards, gpu.asarray(normal(2, 5, 3, 3)), None, (2, 2), (1, 1), (1, 1), 1)
    x = gpu.asarray(np.ascontiguousarray(whole[:, ::-1, ::-1]))
    z = kernels.conv2d(x, gpu.asarray(normal(2, 5, 3, 3)), None, (2, 2), (1, 1), (1, 1), 1)
    np.testing.assert_array_equal(y.get(), z.get())


def test_a_result_wider_than_what_the_taps_reach(gpu):
    x, weight = normal(1, 2, 3, 3), normal(2, 3, 2, 2)
    check("conv_transpose2d", x, weight, normal(3), (9, 8), (2, 2), (0, 0), (1, 1), 1)
    check("conv_transpose2d", x, weight, None, (5, 4), (4, 3), (1, 1), (2, 3), 1)


def test_images_of_one_pixel_or_line(gpu):
    check("conv_transpose2d", normal(2, 3, 1, 1), normal(3, 5, 4, 4), normal(5), (4, 4), (1, 1),
          (0, 0), (1, 1), 1, 0.2)  # fmt: skip
    check("conv_transpose2d", normal(2, 3, 1, 3), normal(3, 2, 4, 3), None, (3, 5), (2, 2), (1, 1),
          (1, 1), 1)  # fmt: skip
    check("conv_transpose2d", normal(1, 2, 1, 1), normal(2, 2, 3, 2), None, (7, 4), (1, 1), (0, 0),
          (3, 2), 1)  # fmt: skip


def test_precision_chooses_tensor_cores_for_float32_alone(gpu, monkeypatch):
    import minigen.kernels.cuda.conv as host

    asked = []
    monkeypatch.setattr(host.tensor_core, "conv2d", lambda *args: asked.append(args[0].dtype))
    for dtype, precision, count in [
        ("float32", "float32", 0), ("float64", "tf32", 0), ("float32", "tf32", 1),
    ]:  # fmt: skip
        with kernels.use(precision=precision):
            check("conv2d", normal(1, 2, 3, 3, dtype=dtype), normal(1, 2, 2, 2, dtype=dtype), None,
                  (1, 1), (0, 0), (1, 1), 1)  # fmt: skip
        assert len(asked) == count


def test_what_does_not_fit_is_named(gpu):
    x, weight = gpu.asarray(normal(1, 4, 5, 5)), gpu.asarray(normal(6, 3, 3, 3))
    geometry = (1, 1), (0, 0), (1, 1), 1
    with pytest.raises(ValueError, match="conv2d: input has 4 channels, weight expects 3"):
        kernels.conv2d(x, weight, None, *geometry)
    with pytest.raises(ValueError, match="conv_transpose2d: input has 4 channels, weight exp"):
        kernels.conv_transpose2d(x, weight, None, (7, 7), *geometry)
    with pytest.raises(ValueError, match=r"conv2d_weight_grad: input .* must agree in batch"):
        kernels.conv2d_weight_grad(x, gpu.asarray(normal(2, 6, 3, 3)), (3, 3), *geometry)
    with pytest.raises(ValueError, match=r"conv2d: bias has shape \(3,\), expected \(6,\)"):
        kernels.conv2d(x[:, :3], weight, gpu.asarray(normal(3)), *geometry)
    whole = gpu.asarray(np.ones((1, 3, 4, 4), np.int64))
    with pytest.raises(TypeError, match="conv2d: got int64, expected float32 or float64"):
        kernels.conv2d(whole, gpu.asarray(np.ones((1, 3, 2, 2), np.int64)), None, *geometry)
