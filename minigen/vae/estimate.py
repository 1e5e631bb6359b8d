"""The likelihood of images under a VAE by importance sampling: what papers report as NLL.

log p(x) ~ log (1/k) sum_i w_i, w_i = p(x | z_i) p(z_i) / q(z_i | x), z_i ~ q(z | x), which is too
low on average, by less the larger k is (Burda et al. 2016, section 5; they take k = 5000).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import minigen as mg
from minigen.random import Generator

CHUNK = 2000  # decoded at a time, which bounds the memory


@mg.no_grad()
def log_likelihood(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    rng: Generator,
    k: int = 5000,
    chunk: int = CHUNK,
    progress: Callable[[int, int], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) of each image (N, C, H, W) in [0, 1] and its standard error, in nats, each (N,).

    `model.log_weights` gives the weights, of at most `chunk` codes at a time; `progress` is called
    with (images done, images). Images are made 0 or 1 first where the model is of such. The
    standard error is that of the mean of the weights, relative to it (the delta method): where it
    is not small the estimate hangs on few codes, and k should be larger. Raises ValueError.
    """
    if k < 1 or chunk < 1:
        raise ValueError(f"log_likelihood: k is {k}, chunk {chunk}, expected at least 1")
    x, told = mg.asarray(images), model.known(labels)
    batch, values, errors = max(1, chunk // k), [], []
    most = max(1, chunk // batch)  # codes of an image at a time
    with model.evaluating():
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            seen, kinds = model.observed(x[part], rng), None if told is None else told[part]
            logs = [
                model.log_weights(seen, kinds, rng, min(most, k - done)).numpy()
                for done in range(0, k, most)
            ]
            value, error = log_mean(np.concatenate(logs).astype(np.float64))
            values.append(value)
            errors.append(error)
            if progress is not None:
                progress(min(start + batch, len(x)), len(x))
    return np.concatenate(values), np.concatenate(errors)


def log_mean(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log of the mean of exp(logs) (k, N) over the first axis, and its standard error, each (N,);
    the error is NaN for k = 1.
    """
    k, top = len(logs), logs.max(0)
    weights = np.exp(logs - top)
    mean = weights.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(((weights - mean) ** 2).sum(0) / (k - 1) / k) / mean
    return top + np.log(mean), error
