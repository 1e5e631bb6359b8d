"""What every metric asks of its arguments, in one line an error: shape, number, finite values."""

from collections.abc import Callable
from typing import Any

import numpy as np

Progress = Callable[[int, int], object]  # called with (done, total)


def features(who: str, x: Any, *, least: int = 2, dtype: Any = np.float64) -> np.ndarray:
    """`x` as a finite array (N, D) of `dtype` with N >= least; ValueError names `who`."""
    array = np.asarray(x)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{who}: features have shape {array.shape}, expected (N, D)")
    return _usable(who, array, least, "features", dtype)


def feature_pair(who: str, x: Any, y: Any, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features of the same width, as `features` checks them."""
    a, b = features(who, x, least=least), features(who, y, least=least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{who}: features have {a.shape[1]} and {b.shape[1]} columns, expected as many in both"
        )
    return a, b


def images(who: str, x: Any, *, least: int = 1) -> np.ndarray:
    """`x` as finite images (N, C, H, W) float32 (float64 stays so)."""
    array = np.asarray(x)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise ValueError(f"{who}: images have shape {array.shape}, expected (N, C, H, W)")
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return _usable(who, array, least, "images", dtype)


def image_pair(who: str, a: Any, b: Any, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of images of the same shape, as `images` checks them, and a range that is one."""
    x, y = images(who, a), images(who, b)
    if x.shape != y.shape:
        raise ValueError(f"{who}: images are {x.shape} and {y.shape}, expected the same shape")
    if not data_range > 0:
        raise ValueError(f"{who}: data_range is {data_range}, expected a positive number")
    return x, y


def flat(who: str, x: Any, *, least: int) -> np.ndarray:
    """Images or features (N, ...) as finite rows (N, D) float32."""
    array = np.asarray(x)
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise ValueError(
            f"{who}: samples have shape {array.shape}, expected (N, D) or (N, C, H, W)"
        )
    return _usable(who, array.reshape(len(array), -1), least, "samples", np.float32)


def _usable(who: str, array: np.ndarray, least: int, what: str, dtype: Any) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{who}: {what} are {array.dtype}, expected real numbers")
    if len(array) < least:
        raise ValueError(f"{who}: got {len(array)} {what}, expected at least {least}")
    bad = len(array) - int(np.isfinite(array).reshape(len(array), -1).all(1).sum())
    if bad:
        raise ValueError(
            f"{who}: {bad} of {len(array)} {what} hold NaN or infinity, expected finite numbers"
        )
    return array.astype(dtype, copy=False)
