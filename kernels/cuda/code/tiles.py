"""Sizes of the tiles of matrix products without tensor cores: plain numbers, for the host too.

A block makes `rows` x `columns` of the result, in steps of `depth` products a sum; a thread holds
`down` x `across` of it in registers. Where that takes fewer than 256 threads, each of several teams
of threads holds all of the tile, and sums its own part of every step.
"""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """One way to cut a product into blocks and threads."""

    rows: int
    columns: int
    depth: int
    down: int
    across: int

    @property
    def teams(self) -> int:
        """How many teams of threads share a step."""
        return THREADS * self.down * self.across // (self.rows * self.columns)


THREADS = 256
TILES = {
    "float32": {
        "large": Tile(128, 128, 16, 8, 8),
        "medium": Tile(64, 64, 16, 4, 4),
        "small": Tile(32, 32, 64, 4, 4),
        "thin": Tile(256, 4, 16, 4, 1),
        "flat": Tile(4, 256, 16, 1, 4),
    },
    "float64": {  # half as deep, for shared memory; "large" is narrower, for registers
        "large": Tile(128, 64, 8, 8, 4),
        "medium": Tile(64, 64, 8, 4, 4),
        "small": Tile(32, 32, 32, 4, 4),
        "thin": Tile(256, 4, 8, 4, 1),
        "flat": Tile(4, 256, 8, 1, 4),
    },
}
NAMES = tuple(TILES["float32"])
THIN_ROWS = {"float32": 4, "float64": 2}  # pixels that a team of conv_thin has at a time


def tile_of(T, name: str) -> Tile:
    """The tile of that name for numbers of type T."""
    return TILES[name_of(T)][name]


def name_of(T) -> str:
    """ "float32" or "float64", of a type of Numba's or of NumPy's."""
    return str(getattr(T, "__name__", T))
