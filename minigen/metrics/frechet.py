"""Frechet distance: how far two sets of features lie apart, as the Gaussians that fit them.

|m_x - m_y|^2 + tr(C_x) + tr(C_y) - 2 tr (C_x C_y)^(1/2), with means m and covariances C (Dowson &
Landau 1982; on Inception features it is the FID of Heusel et al. 2017). It is in squared units of
the features. Its estimate is biased: for finite samples it is too large by about 1/N, so only
distances at the same N compare.
"""

from typing import Any

import numpy as np

from minigen.metrics import checks


def frechet_distance(x: Any, y: Any) -> float:
    """The distance of the Gaussians fitted to features (N, D) and (M, D); 0 for the same set.

    Covariances are unbiased (divided by N - 1) and may be singular: N < D works.
    """
    a, b = checks.feature_pair("frechet_distance", x, y)
    return frechet_of(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def frechet_of(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any) -> float:
    """The distance of two Gaussians from their means (D,) and covariances (D, D)."""
    mx, my = (_statistic(m, "means", 1) for m in (mean_x, mean_y))
    cx, cy = (_statistic(c, "covariances", 2) for c in (cov_x, cov_y))
    if not (mx.shape == my.shape and cx.shape == cy.shape == (len(mx), len(mx))):
        raise ValueError(
            f"frechet_of: means have shapes {mx.shape} and {my.shape}, covariances {cx.shape} and "
            f"{cy.shape}, expected (D,) and (D, D)"
        )
    # tr (C_x C_y)^(1/2) is the sum of the singular values of C_x^(1/2) C_y^(1/2). Roots of
    # symmetric matrices and singular values are exact to rounding where C_x C_y, which is not
    # symmetric, may have eigenvalues that are negative, complex, or lose half of the digits.
    (root_x, axes_x), (root_y, axes_y) = _root(cx), _root(cy)
    between = root_x[:, None] * (axes_x.T @ axes_y) * root_y
    overlap = np.linalg.svd(between, compute_uv=False).sum() if between.size else 0.0
    gap = mx - my
    return max(0.0, float(gap @ gap + np.trace(cx) + np.trace(cy) - 2 * overlap))


def _covariance(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def _root(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The roots (R,) of the positive eigenvalues and their eigenvectors (D, R)."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    positive = values > 0
    return np.sqrt(values[positive]), vectors[:, positive]


def _statistic(x: Any, what: str, axes: int) -> np.ndarray:
    array = np.asarray(x, np.float64)
    if array.ndim != axes or not np.isfinite(array).all():
        raise ValueError(
            f"frechet_of: {what} have shape {array.shape}, expected finite numbers on {axes} axes"
        )
    return array
