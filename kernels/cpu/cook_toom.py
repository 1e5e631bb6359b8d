"""Minimal filtering: the matrices that make m outputs of an r-tap filter from m + r - 1 products.

A filter g slides over d: y[i] = sum_k g[k] d[i + k], i < m. Written out that takes m * r products;
as polynomials, evaluated at n = m + r - 1 points, multiplied there and interpolated (Cook-Toom,
transposed), it takes n, the least possible (Winograd 1980):

    y = A^T [(G g) * (B^T d)]        dg = G^T [(A dy) * (B^T d)]        for gradients dy of y

and in two dimensions n * n products for a tile of m * m outputs, by the matrices on both sides
(Lavin & Gray 2015, sec. 3). The last point is infinity: its row of G reads only the last tap, so a
filter shorter than r needs no product there.
"""

from __future__ import annotations

import functools
from fractions import Fraction

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = tuple(Fraction(p) for p in (0, 1, -1, 2, -2))  # then infinity
TILE = {2: 4, 3: 4, 4: 3, 5: 2}  # taps r -> outputs m: five or six points, errors near 1e-5


@functools.cache
def matrices(taps: int) -> dict[str, Matrix]:
    """The matrices of the tile for filters of `taps`: {"AT": m x n, "G": n x r, "BT": n x n}.

    Their transposes are there too, as "A" and "GT".
    """
    outputs = TILE[taps]
    points = POINTS[: outputs + taps - 2]
    zero, one = Fraction(0), Fraction(1)
    at = [
        [p**i for p in points] + [one if i == outputs - 1 else zero] for i in range(outputs)
    ]
    g, bt = [], []
    for point in points:
        others = [p for p in points if p != point]
        scale = one
        for p in others:
            scale *= point - p
        g.append([point**k / scale for k in range(taps)])
        bt.append([*_polynomial(others), zero])
    g.append([one if k == taps - 1 else zero for k in range(taps)])
    bt.append(_polynomial(list(points)))
    found = {"AT": at, "G": g, "BT": bt}
    found |= {"A": list(zip(*at, strict=True)), "GT": list(zip(*g, strict=True))}
    return {name: tuple(map(tuple, rows)) for name, rows in found.items()}


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, 0], strict=True)]
    return coefficients
