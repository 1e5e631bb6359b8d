"""Rows by index and image patches as columns, each with its adjoint, in plain NumPy."""

import numpy as np


def gather_rows(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """table[indices]: (rows, ...) and integers of any shape -> indices.shape + (...)."""
    check_rows("gather_rows", indices, len(table))
    return table[indices]


def scatter_add_rows(grad: np.ndarray, indices: np.ndarray, rows: int) -> np.ndarray:
    """Adjoint of gather_rows: sums grad's rows that share an index, -> (rows, ...)."""
    check_rows("scatter_add_rows", indices, rows)
    tail = grad.shape[indices.ndim :]
    total = np.zeros((rows, *tail), grad.dtype)
    np.add.at(total, indices.reshape(-1), grad.reshape((indices.size, *tail)))
    return total


def unfold(x: np.ndarray, kernel_size, dilation, padding, stride) -> np.ndarray:
    """Patches as columns: (N, C, H, W) -> (N, C*kh*kw, L), zeros outside the image."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = kernel_size, dilation, padding, stride
    n, c, height, width = x.shape
    rows, columns = patch_grid((height, width), kernel_size, dilation, padding, stride)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    patches = np.empty((n, c, kh, kw, rows, columns), x.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            patches[:, :, i, j] = padded[
                :, :, top : top + rows * sh : sh, left : left + columns * sw : sw
            ]
    return patches.reshape(n, c * kh * kw, rows * columns)


def fold(columns: np.ndarray, output_size, kernel_size, dilation, padding, stride) -> np.ndarray:
    """Adjoint of unfold: adds the patches up, (N, C*kh*kw, L) -> (N, C, H, W)."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = kernel_size, dilation, padding, stride
    height, width = output_size
    n, c = columns.shape[0], columns.shape[1] // (kh * kw)
    rows, cols = patch_grid(output_size, kernel_size, dilation, padding, stride)
    patches = columns.reshape(n, c, kh, kw, rows, cols)
    padded = np.zeros((n, c, height + 2 * ph, width + 2 * pw), columns.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            padded[:, :, top : top + rows * sh : sh, left : left + cols * sw : sw] += patches[
                :, :, i, j
            ]
    return padded[:, :, ph : ph + height, pw : pw + width]


def patch_grid(size, kernel_size, dilation, padding, stride) -> tuple[int, ...]:
    """(rows, columns) of patches that fit into an image of the given (height, width)."""
    return tuple(
        (extent + 2 * p - d * (k - 1) - 1) // s + 1
        for extent, k, d, p, s in zip(size, kernel_size, dilation, padding, stride, strict=True)
    )


def check_rows(name: str, indices: np.ndarray, rows: int) -> None:
    """Raise IndexError unless every index is in 0..rows-1."""
    if indices.size and not (indices.min() >= 0 and indices.max() < rows):
        raise IndexError(
            f"{name}: indices span {indices.min()}..{indices.max()}, "
            f"expected them in 0..{rows - 1}"
        )
