"""How parameters begin: fills Tensors in place, by the names and formulas of torch.nn.init.

Random numbers come from an explicit generator and are drawn in the order of the shape, whatever
the memory order, so a seed gives the same weights everywhere. Fans count a convolution weight
(out, in, kh, kw) as torch does: fan_in = in * kh * kw, fan_out = out * kh * kw.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigen import backend
from minigen.random import Generator
from minigen.tensor import Tensor, raw


def parameter(shape: Sequence[int], dtype: Any = np.float32) -> Tensor:
    """A Tensor of zeros that requires a gradient; a 4-D one is channels-last in memory."""
    shape = tuple(shape)
    if len(shape) == 4:
        array = backend.channels_last(shape, dtype)
        array[...] = 0
    else:
        array = np.zeros(shape, dtype)
    out = Tensor(array)
    out.requires_grad = True
    return out


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return _fill(tensor, np.asarray(val, tensor.dtype))


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, rng: Generator) -> Tensor:
    """Fill from N(mean, std^2)."""
    return _fill(tensor, rng.normal(tensor.shape, mean, std, dtype=_drawn(tensor)))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, *, rng: Generator) -> Tensor:
    """Fill uniformly from [a, b)."""
    return _fill(tensor, rng.uniform(tensor.shape, a, b, dtype=_drawn(tensor)))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, *, rng: Generator) -> Tensor:
    """Uniform of variance gain^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, rng=rng)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, *, rng: Generator) -> Tensor:
    """Normal of variance gain^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), rng=rng)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    *, rng: Generator,
) -> Tensor:  # fmt: skip
    """Uniform of variance gain^2 / fan; a is the slope of the leaky relu (He et al. 2015)."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, rng=rng)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    *, rng: Generator,
) -> Tensor:  # fmt: skip
    """Normal of variance gain^2 / fan; a is the slope of the leaky relu (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), rng=rng)


def orthogonal_(tensor: Tensor, gain: float = 1.0, *, rng: Generator) -> Tensor:
    """Orthonormal rows or columns of the (shape[0], rest) matrix, times gain (Saxe et al. 2014)."""
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: tensor has shape {tensor.shape}, expected at least 2 axes")
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    flat = _host(rng.normal((rows, columns), dtype=np.float64))
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diag(r))  # so that every orthogonal matrix is equally likely
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


def default_(weight: Tensor, bias: Tensor | None, *, rng: Generator) -> None:
    """The default of torch's layers: weight and bias uniform within 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(max(fans(weight)[0], 1))
    uniform_(weight, -bound, bound, rng=rng)  # kaiming_uniform_ with a = sqrt(5)
    if bias is not None:
        uniform_(bias, -bound, bound, rng=rng)


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor by which weights grow to make up for an activation; torch's calculate_gain."""
    gains = {
        "linear": 1.0, "conv2d": 1.0, "conv_transpose2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
        "relu": math.sqrt(2.0), "leaky_relu": math.sqrt(2 / (1 + slope**2)), "selu": 0.75,
    }  # fmt: skip
    if nonlinearity not in gains:
        raise ValueError(f"gain: {nonlinearity!r} is unknown; there are {', '.join(gains)}")
    return gains[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight with at least 2 axes."""
    if tensor.ndim < 2:
        raise ValueError(f"fans: tensor has shape {tensor.shape}, expected at least 2 axes")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming_std(tensor, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode is {mode!r}, expected 'fan_in' or 'fan_out'")
    return gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def _fill(tensor, values):
    tensor.data[...] = backend.to_device(raw(values), tensor.device)
    tensor.version[0] += 1
    return tensor


def _drawn(tensor):
    return np.float64 if tensor.dtype == np.float64 else np.float32


def _host(tensor):
    return backend.to_device(raw(tensor), backend.CPU)
