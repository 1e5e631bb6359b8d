"""All that is measured of a model that encodes images, as VAEs do, beside its losses and samples:
reconstructions, the likelihood by importance sampling, disentanglement.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigen import backend
from minigen.data.batches import in_range
from minigen.metrics.comparison import Stages
from minigen.metrics.disentanglement import disentanglement, has_trees
from minigen.metrics.psnr import MOST, psnr_each
from minigen.metrics.ssim import WINDOW, ssim_each
from minigen.metrics.suite import Interval, Misfit
from minigen.nn import mean_interval, no_interval
from minigen.random import Generator

BATCH = 250  # images at a time
CODES, LIKELIHOODS = 500, 1000  # codes of an image, and images, of a likelihood unless told more

log = logging.getLogger(__name__)


def evaluate_codes(
    model: Any, data: Any, *, rng: Generator, metrics: Sequence[str] | None = None,
    codes: int = CODES, images: int = LIKELIHOODS, progress: Stages | None = None,
) -> dict[str, Interval]:  # fmt: skip
    """What a model makes of a Dataset it was not trained on, by name, each {"value", "low", "high"}
    with a 95% interval (NaN where there is none).

    `metrics` chooses from METRICS; None takes all that can be computed, but for log-likelihood,
    which takes minutes and more: it draws so many `codes` for each of at most so many `images`. The
    same data and rng give the same values, however many metrics are chosen. Raises Misfit for a
    chosen metric that is unknown or cannot be computed.
    """
    given = _Given(model, data, rng, codes, images, progress)
    found: dict[str, Interval] = {}
    for name in (each for each in METRICS if each != SLOW) if metrics is None else metrics:
        if name not in METRICS:
            raise Misfit(f"no metric {name!r}; there are {', '.join(METRICS)}")
        measure, misfit = METRICS[name]
        reason = misfit(given)
        if not reason:
            found.update(measure(given))
        elif metrics is not None:
            raise Misfit(f"{name}: {reason}")
    return found


@dataclass
class _Given:
    model: Any
    data: Any
    rng: Generator
    codes: int
    images: int
    progress: Stages | None

    def batches(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, Any, Any]]:
        """Images in [0, 1], the same as the model takes them, and the labels that it is told."""
        for start in range(0, len(indices), BATCH):
            images, labels = self.data.batch(indices[start : start + BATCH])
            if labels is not None:
                labels = backend.to_device(labels, self.device) if self.classes else None
            yield images, self.taken(images), labels

    def taken(self, images: np.ndarray) -> Any:
        """The images in the model's range of values, on its device."""
        return backend.to_device(in_range(images, self.model.value_range), self.device)

    @property
    def device(self) -> str:
        return self.model.device

    @property
    def classes(self) -> int:
        return getattr(self.model, "classes", 0)

    def tell(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _reconstruction(given: _Given) -> dict[str, Interval]:
    """PSNR in dB, of an image at most 60, and SSIM of what comes back, of each by itself."""
    ratios: list[float] = []
    likeness: list[float] = []
    for images, taken, labels in given.batches(np.arange(len(given.data))):
        back = given.model.reconstruct(taken, labels)
        ratios += psnr_each(images, back, data_range=1.0, most=MOST).tolist()
        if min(images.shape[2:]) >= WINDOW:
            likeness += ssim_each(images, back).tolist()
        given.tell("reconstructions", len(ratios), len(given.data))
    found = {"reconstruction-psnr": mean_interval(ratios)}
    return found | ({"reconstruction-ssim": mean_interval(likeness)} if likeness else {})


def _log_likelihood(given: _Given) -> dict[str, Interval]:
    """log p(x) in nats an image, in bits a value, and the standard error that importance sampling
    leaves in that of an image.
    """
    rng, n = given.rng.spawn(SLOW), min(given.images, len(given.data))
    chosen = np.linspace(0, len(given.data) - 1, n).astype(np.int64)
    values: list[float] = []
    errors: list[float] = []
    tell = lambda done, total: given.tell("likelihood of images", len(values) + done, n)
    for _, taken, labels in given.batches(chosen):
        some = given.model.log_likelihood(taken, labels, rng, k=given.codes, progress=tell)
        values += some[0].tolist()
        errors += some[1].tolist()
    name, left = f"log-likelihood-k{given.codes}", float(np.mean(errors))
    if left > 0.1:
        log.info(
            "%s: the estimate of an image is %.2g nats off (standard error, mean over images), and"
            " too low on average; take more than %d codes", name, left, given.codes,
        )  # fmt: skip
    nats = mean_interval(values)
    bits = {key: float(given.model.bits(-value)) for key, value in nats.items()}
    return {
        name: nats,
        f"{name}-bits-per-dimension": {**bits, "low": bits["high"], "high": bits["low"]},
        f"{name}-standard-error": no_interval(left),
    }


def _disentanglement(given: _Given) -> dict[str, Interval]:
    if not has_trees():
        log.info("without dci: scikit-learn is not installed; pip install 'minigen[metrics]'")
    return disentanglement(
        lambda images: given.model.codes(given.taken(images)), given.data,
        rng=given.rng.spawn("disentanglement"), progress=given.progress,
    )  # fmt: skip


# when they fit: each says why not, or "" ---------------------------------------------------------


def _needs(method: str, lack: str) -> Callable[[_Given], str]:
    return lambda given: "" if hasattr(given.model, method) else f"the model {lack}"


def _needs_factors(given: _Given) -> str:
    if given.data.factors is None:
        return f"the factors of {given.data.name} are not known, as those of `shapes` are"
    if not hasattr(given.model, "codes"):
        return "the model has no codes of images"
    if given.classes:
        return "the model is told the label, which its code need not hold; --set conditional=none"
    shape = given.model.codes(given.taken(given.data.batch([0])[0])).shape
    return "" if len(shape) == 2 else f"codes have shape {shape}, expected numbers (N, latent)"


SLOW = "log-likelihood"
METRICS: dict[str, tuple[Callable[[_Given], dict[str, Interval]], Callable[[_Given], str]]] = {
    "reconstruction": (_reconstruction, _needs("reconstruct", "cannot reconstruct images")),
    SLOW: (_log_likelihood, _needs("log_likelihood", "has no likelihood to estimate")),
    "disentanglement": (_disentanglement, _needs_factors),
}
