"""Structural similarity of images, at one scale (SSIM) and over several (MS-SSIM).

SSIM is Wang, Bovik, Sheikh, Simoncelli 2004 with their Gaussian window (11x11, deviation 1.5),
moments divided by N, and only windows that lie inside the image; MS-SSIM is Wang, Simoncelli, Bovik
2003. 1 is equality. The images' range is always an argument, never guessed.
"""

from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.random import Generator

WINDOW = 11
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the full size first
_PAIRS = 256  # of images in memory at a time


def ssim(a: Any, b: Any, *, data_range: float = 1.0) -> float:
    """Mean similarity in [-1, 1] of images (N, C, H, W) and (N, C, H, W), pair by pair."""
    return float(ssim_each(a, b, data_range=data_range).mean())


def ssim_each(a: Any, b: Any, *, data_range: float = 1.0) -> np.ndarray:
    """The similarity (N,) of each pair of images, the mean over channels."""
    x, y = _pair("ssim", a, b, data_range, scales=1)
    return _in_blocks(lambda s, t: _similarity(s, t, data_range)[0].mean(1), x, y)


def ms_ssim(a: Any, b: Any, *, data_range: float = 1.0, scales: int = 5) -> float:
    """Mean similarity in [0, 1] over `scales` sizes, each half the last one, pair by pair.

    The paper's 5 scales need images of 161 pixels and more; smaller ones take fewer, which is asked
    for with `scales` (28 and 32 pixels have 2, 64 have 3): their weights are scaled to the sum 1.
    """
    return float(ms_ssim_each(a, b, data_range=data_range, scales=scales).mean())


def ms_ssim_each(a: Any, b: Any, *, data_range: float = 1.0, scales: int = 5) -> np.ndarray:
    """The similarity (N,) of each pair of images over several scales, the mean over channels."""
    x, y = _pair("ms_ssim", a, b, data_range, scales)
    return _in_blocks(lambda s, t: _over_scales(s, t, data_range, scales), x, y)


def ms_ssim_diversity(
    images: Any, *, rng: Generator, pairs: int = 1000, data_range: float = 1.0,
    scales: int | None = None,
) -> float:  # fmt: skip
    """Mean MS-SSIM of random pairs of different images: the higher, the less diverse (Odena et al.
    2017, section 4.2). `scales` None takes as many as fit, at most 5.

    Only values of the same kind of images at the same scales compare: put that of real ones beside.
    """
    x = checks.images("ms_ssim_diversity", images, least=2)
    if pairs < 1:
        raise ValueError(f"ms_ssim_diversity: pairs is {pairs}, expected at least 1")
    first = rng.integers(0, len(x), pairs).numpy()
    second = rng.integers(0, len(x) - 1, pairs).numpy()
    second = second + (second >= first)  # any but the first
    scales = max(1, most_scales(*x.shape[2:])) if scales is None else scales
    return ms_ssim(x[first], x[second], data_range=data_range, scales=scales)


def most_scales(height: int, width: int) -> int:
    """How many scales images of this size have: the window must fit into the smallest."""
    side, count = min(height, width), 0
    while side >= WINDOW and count < len(WEIGHTS):
        side, count = (side + 1) // 2, count + 1
    return count


def _over_scales(x: np.ndarray, y: np.ndarray, data_range: float, scales: int) -> np.ndarray:
    """Products over scales of contrast and structure, with luminance at the smallest (eq. 7)."""
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    product = np.ones(x.shape[:2])
    for scale, weight in enumerate(weights, 1):
        whole, contrast = _similarity(x, y, data_range)
        product *= np.maximum(whole if scale == scales else contrast, 0) ** weight
        if scale < scales:
            x, y = _halve(x), _halve(y)
    return product.mean(1)


def _similarity(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """(SSIM, its contrast and structure part), each (N, C), from moments under the window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x**2
    var_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    contrast = (2 * covariance + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _window_mean(x: np.ndarray) -> np.ndarray:
    """The Gaussian mean at every place where the whole window fits, axis by axis."""
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / 1.5) ** 2)
    taps /= taps.sum()
    height, width = (size - WINDOW + 1 for size in x.shape[2:])
    rows = sum(tap * x[:, :, i : i + height] for i, tap in enumerate(taps))
    return sum(tap * rows[..., i : i + width] for i, tap in enumerate(taps))


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an odd side gets zeros before and after it, as is customary."""
    odd = [(size % 2,) * 2 for size in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), *odd))
    height, width = (size // 2 * 2 for size in x.shape[2:])
    x = x[:, :, :height, :width]
    return x.reshape(*x.shape[:2], height // 2, 2, width // 2, 2).mean((3, 5))


def _pair(
    who: str, a: Any, b: Any, data_range: float, scales: int
) -> tuple[np.ndarray, np.ndarray]:
    x, y = checks.image_pair(who, a, b, data_range)
    fit = most_scales(*x.shape[2:])
    if not fit:
        raise ValueError(f"{who}: images are {x.shape}, expected sides of {WINDOW} pixels and more")
    if not 1 <= scales <= fit:
        raise ValueError(
            f"{who}: scales is {scales}, images of {x.shape[2]}x{x.shape[3]} have 1 to {fit}"
        )
    return x, y


def _in_blocks(measure: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    starts = range(0, len(x), _PAIRS)
    both = ((part[i : i + _PAIRS].astype(np.float64) for part in (x, y)) for i in starts)
    return np.concatenate([measure(*pair) for pair in both])
