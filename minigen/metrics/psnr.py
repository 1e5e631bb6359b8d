"""Peak signal-to-noise ratio of images: 10 log10(range^2 / mean squared error), in dB."""

from typing import Any

import numpy as np

from minigen.metrics import checks

MOST = 60.0  # dB of one image in a mean, at most; rounding to bytes alone leaves 59


def psnr(a: Any, b: Any, *, data_range: float) -> float:
    """Mean ratio in dB of images (N, C, H, W) and (N, C, H, W), pair by pair; inf if equal.

    `data_range` is that of the values: 1 for [0, 1], 255 for bytes.
    """
    return float(psnr_each(a, b, data_range=data_range).mean())


def psnr_each(a: Any, b: Any, *, data_range: float, most: float = np.inf) -> np.ndarray:
    """The ratio (N,) in dB of each pair of images, over all channels; `most` for equal ones and
    for those that differ by less.
    """
    x, y = checks.image_pair("psnr", a, b, data_range)
    # One pair at a time: in float64, and no copy of the whole set.
    errors = np.array([np.mean((p.astype(np.float64) - q) ** 2) for p, q in zip(x, y, strict=True)])
    with np.errstate(divide="ignore"):
        return np.minimum(10 * np.log10(data_range**2 / errors), most)
