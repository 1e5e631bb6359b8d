"""Calls of every kernel with representative arguments, of any batch.

`CASES[name]` is a list of functions of the batch that return the kernel's arguments, in float32;
those of a convolution are made from SHAPES. Images are channels-last in memory.
"""

from functools import partial

import numpy as np

BATCH = 64
# Channels, (height, width), output channels, kernel, stride, padding, dilation, groups.
SHAPES = (
    (3, (64, 64), 64, 4, 2, 1, 1, 1),  # DCGAN, from the image on
    (64, (32, 32), 128, 4, 2, 1, 1, 1),
    (128, (16, 16), 256, 4, 2, 1, 1, 1),
    (64, (40, 40), 64, 3, 1, 1, 1, 1),  # DnCNN
    (256, (8, 8), 256, 3, 1, 1, 1, 1),
    (64, (40, 40), 1, 3, 1, 1, 1, 1),
    (64, (28, 28), 128, 3, 2, 1, 1, 1),
    (32, (32, 32), 64, 5, 1, 2, 1, 1),
    (48, (29, 31), 48, 7, 1, 3, 1, 1),
    (64, (32, 32), 64, 1, 1, 0, 1, 1),
    (64, (32, 32), 64, 3, 1, 2, 2, 1),
    (64, (32, 32), 64, 3, 1, 1, 1, 4),
    (64, (32, 32), 64, 3, 1, 1, 1, 16),
    (96, (29, 31), 96, 3, 1, 1, 1, 96),
    (3, (96, 96), 3, 3, 1, 1, 1, 1),  # few channels in and out
    (512, (4, 4), 100, 4, 1, 0, 1, 1),  # DCGAN's innermost; transposed, one pixel paints all
)


def _conv2d(shape, batch):
    x, w, _, rest = _convolution(shape, batch)
    return (x, w, _normal(w.shape[0]), *rest)


def _conv_transpose2d(shape, batch):
    x, w, grad, rest = _convolution(shape, batch)
    return (grad, w, _normal(x.shape[1]), x.shape[2:], *rest)


def _conv2d_weight_grad(shape, batch):
    x, w, grad, rest = _convolution(shape, batch)
    return (x, grad, w.shape[2:], *rest)


def _convolution(shape, batch):
    channels, size, out, kernel, stride, padding, dilation, groups = shape
    sides = ((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)
    x = _images(batch, channels, *size)
    w = _images(out, channels // groups, kernel, kernel)
    rest = ((stride, stride), (padding, padding), (dilation, dilation), groups)
    return x, w, _images(batch, out, *sides), rest


def _features(batch, size=32):
    return _images(batch, 64, size, size)


def _gradients(batch):
    return _last(_features(batch)[::-1])


def _channels():
    """Mean, var, weight and bias of 64 channels."""
    mean, weight, bias = _normal(64), _normal(64), _normal(64)
    return mean, np.float32(0.5) + mean * mean, weight, bias


def _moments(x, axes):
    return x.mean(axes), x.var(axes)


def _max_pool(batch):
    from minigen.kernels.reference.max_pool import max_pool2d

    rest = ((2, 2), (2, 2), (0, 0))
    x = _features(batch)
    return x, _last(max_pool2d(x, *rest, (16, 16))[1]), rest


def _positions(batch):
    """For each of 16x16 outputs, a flat index into 32x32 pixels."""
    found = np.random.default_rng(0).integers(0, 32 * 32, (batch, 16, 16, 64))
    return found.transpose(0, 3, 1, 2)


def _doubled(size):
    """Indices and weights of linear interpolation to twice the size."""
    at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    return np.stack([low, high], 1), np.stack([1 - (at - low), at - low], 1)


def _flat(batch, count):
    return [_normal(batch << 16) for _ in range(count)]


def _several(count):
    """Pairs of arrays as small as the parameters of small layers."""
    makers = (lambda: _images(64, 3, 4, 4), lambda: _normal(64), lambda: _normal(64, 100))
    return tuple([makers[i // 2 % 3]() for i in range(count)])


def _indices(batch):
    return np.random.default_rng(0).integers(0, 4096, (batch, 64))


def _labels(batch):
    return np.random.default_rng(0).integers(0, 64, (batch, 32, 32))


def _normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _images(n, c, h, w):
    return _normal(n, h, w, c).transpose(0, 3, 1, 2)


def _last(array):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


_x, _g, _pair, _windows = _features, _gradients, (2, 2), ((3, 3), (1, 1), (1, 1), (1, 1))
_mean = ((2, 2), (2, 2), (0, 0), (16, 16), True, None)
CASES = {
    "conv2d": [partial(_conv2d, shape) for shape in SHAPES],
    "conv_transpose2d": [partial(_conv_transpose2d, shape) for shape in SHAPES],
    "conv2d_weight_grad": [partial(_conv2d_weight_grad, shape) for shape in SHAPES],
    "matmul": [
        lambda n: (_normal(16 * n, 1024), _normal(1024, 1024)),
        lambda n: (_normal(n, 128, 64), _normal(n, 64, 128)),
    ],
    "linear": [lambda n: (_normal(n, 784), _normal(512, 784), _normal(512), 0.0)],
    "linear_grads": [
        lambda n: (_normal(n, 512), _normal(n, 784), _normal(512, 784), _normal(n, 512), 0.0,
                   (True, True, True)),
    ],
    "logit_cost": [lambda n: (_x(n), np.tanh(_x(n)) / 2 + np.float32(0.5), 1)],
    "logit_cost_grad": [lambda n: (_normal(n), _x(n), np.tanh(_x(n)) / 2 + np.float32(0.5))],
    "label_cost": [lambda n: (_x(n), _labels(n))],
    "label_cost_grad": [lambda n: (_normal(n, 32, 32), _x(n), _labels(n))],
    "axis_sum": [lambda n: (_x(n), (1, 2, 3)), lambda n: (_x(n), (0,))],
    "channel_sum": [lambda n: (_x(n),)],
    "leaky_relu_grad_sum": [lambda n: (_x(n), _x(n), 0.2)],
    "batch_norm_train": [lambda n: (_x(n), *_channels()[2:], 1e-5, 0.2)],
    "batch_norm_train_grad": [
        lambda n: (_g(n), _x(n), *_moments(_x(n), (0, 2, 3)), *_channels()[2:], 1e-5, 0.2),
    ],
    "batch_norm_eval": [lambda n: (_x(n), *_channels(), 1e-5, 0.2)],
    "batch_norm_eval_grad": [lambda n: (_g(n), _x(n), *_channels(), 1e-5, 0.2)],
    "group_norm": [lambda n: (_x(n), *_channels()[2:], 64, 1e-5)],
    "group_norm_grad": [
        lambda n: (_g(n), _x(n), *_moments(_x(n), (2, 3)), _channels()[2], 64, 1e-5),
    ],
    "leaky_relu": [lambda n: (_x(n), 0.2)],
    "leaky_relu_grad": [lambda n: (_g(n), _x(n), 0.2)],
    **{
        name: [lambda n: (_x(n),)]
        for name in ("exp", "sigmoid", "softplus", "erf", "gelu", "silu", "contiguous")
    },
    **{
        name: [lambda n: (_g(n), _x(n))]
        for name in ("sigmoid_grad", "tanh_grad", "gelu_grad", "silu_grad",
                     "squared_error", "absolute_error", "times_sign")
    },
    "elu": [lambda n: (_x(n), 1.0)],
    "elu_grad": [lambda n: (_g(n), _x(n), 1.0)],
    **{name: [lambda n: (_normal(16 * n, 1000),)] for name in ("softmax", "log_softmax")},
    **{
        name: [lambda n: (_normal(16 * n, 1000), np.tanh(_normal(16 * n, 1000)))]
        for name in ("softmax_grad", "log_softmax_grad")
    },
    **{
        name: [lambda n: (_g(n), _x(n), np.array(0.3, np.float32))]
        for name in ("scaled_difference", "scaled_sign")
    },
    "choose": [lambda n: (_g(n), _x(n), _x(n) > 0)],
    "winner_share": [lambda n: (_g(n), _x(n), _last(_x(n)[:, ::-1]))],
    "band": [lambda n: (_g(n), _x(n), -1.0, 1.0, True)],
    "reparameterize": [lambda n: (_normal(16 * n, 64), _normal(16 * n, 64), 1, 0)],
    "reparameterize_grad": [lambda n: tuple(_normal(16 * n, 64) for _ in range(5))],
    "max_pool2d": [lambda n: (_x(n), *_max_pool(n)[2], (16, 16))],
    "max_pool2d_grad": [lambda n: (_x(n, 16), *_max_pool(n)[1:2], *_max_pool(n)[2], (32, 32))],
    "max_pool2d_pick": [lambda n: (*_max_pool(n)[:2], *_max_pool(n)[2])],
    "max_pool2d_indices": [lambda n: (_x(n), (3, 3), _pair, (1, 1), (1, 1), (16, 16))],
    "pool_gather": [lambda n: (_x(n), _positions(n))],
    "pool_scatter": [lambda n: (_x(n, 16), _positions(n), (32, 32))],
    "avg_pool2d": [lambda n: (_x(n), *_mean)],
    "avg_pool2d_grad": [lambda n: (_x(n, 16), (32, 32), *_mean)],
    "resample2d": [lambda n: (_x(n), *_doubled(32), *_doubled(32))],
    "unfold": [lambda n: (_x(n, 16), *_windows)],
    "fold": [lambda n: (_normal(n, 64 * 9, 256), (16, 16), *_windows)],
    "gather_rows": [lambda n: (_normal(4096, 256), _indices(n))],
    "scatter_add_rows": [lambda n: (_normal(n, 64, 256), _indices(n), 4096)],
    "sgd": [lambda n: (*_flat(n, 3), 1e-3, 0.9, 0.0, 0.0, False)],
    "rmsprop": [lambda n: (*_flat(n, 2), *(a * a for a in _flat(n, 1)), None, None,
                           1e-3, 0.9, 1e-8, 0.0, 0.0, False)],
    "adam": [lambda n: (*_flat(n, 3), *(a * a for a in _flat(n, 1)),
                        1e-3, 0.9, 0.999, 1e-8, 0.0, False, 10)],
    "add_each": [lambda n: (_g(n), _x(n), _x(n), _g(n)), lambda n: _several(36)],
    "copy_each": [lambda n: (_g(n), _x(n)), lambda n: _several(36)],
    "move_statistics": [
        lambda n: (*_channels()[:2], np.array(3), _normal(64), _normal(64) ** 2, 0.1, 1.01),
    ],
    "ema": [lambda n: (*_flat(n, 2), 0.999)],
    "philox_bits": [lambda n: (1, 0, n << 16)],
    "philox_uniform": [lambda n: (1, 0, n << 16, np.float32)],
    "philox_normal": [lambda n: (1, 0, n << 16, np.float32)],
}  # fmt: skip
