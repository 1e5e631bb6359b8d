"""Resampling of (N, C, H, W) images along both axes, in plain NumPy.

Row i of the result mixes rows row_indices[i, k] of the image with weights row_weights[i, k], and
columns likewise: a separable linear map whose adjoint has the transposed tables.
"""

import numpy as np


def resample2d(
    x: np.ndarray, row_indices: np.ndarray, row_weights: np.ndarray,
    column_indices: np.ndarray, column_weights: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(N, C, H, W) -> (N, C, OH, OW); indices are int64 (OH, K) and (OW, L), weights float64."""
    y = _mix(x.transpose(2, 3, 0, 1), row_indices, row_weights)
    return _mix(y.swapaxes(0, 1), column_indices, column_weights).transpose(2, 3, 1, 0)


def _mix(x, indices, weights):
    """Along the first axis."""
    with np.errstate(invalid="ignore"):  # 0 times inf is NaN, as in torch
        terms = [
            x[indices[:, k]] * weights[:, k].astype(x.dtype)[:, None, None, None]
            for k in range(indices.shape[1])
        ]
        return sum(terms[1:], terms[0])
