"""Sizes of the tiles of products on tensor cores: plain numbers, which the host reads too."""

from __future__ import annotations

from typing import NamedTuple

PAD = 8  # numbers between rows of [depth][rows] in shared memory


class Tile(NamedTuple):
    """One way to cut a product into blocks and warps; a warp has `side` x `side` of the sums."""

    rows: int
    columns: int
    depth: int  # of a slice: this much k at a time
    stages: int  # slices in the ring
    side: int

    @property
    def warps_across(self) -> int:
        return self.columns // self.side

    @property
    def threads(self) -> int:
        return self.rows // self.side * self.warps_across * 32

    def a_size(self, by_k: bool) -> int:
        """Numbers of a slice of A in shared memory, as [rows][depth] or as [depth][rows]."""
        return (self.rows + PAD * (not by_k)) * self.depth

    def b_size(self, by_k: bool) -> int:
        return (self.columns + PAD * (not by_k)) * self.depth

    def shared(self, a_by_k: bool, b_by_k: bool) -> int:
        """Bytes of shared memory of a block."""
        return 4 * self.stages * (self.a_size(a_by_k) + self.b_size(b_by_k))


# Registers let one huge or tall block have a multiprocessor to itself, two large, narrow or flat
# ones or four small ones share it. None takes more than 99 KB of shared memory: weight gradients,
# with more of it padded, have "tall" for "huge".
TILES = {
    "huge": Tile(256, 128, 32, 2, 64),
    "tall": Tile(256, 128, 16, 3, 64),
    "large": Tile(128, 128, 16, 4, 64),
    "narrow": Tile(256, 64, 16, 4, 64),
    "flat": Tile(64, 256, 16, 4, 64),
    "small": Tile(64, 64, 32, 3, 32),
}
GATHER = ("huge", "large", "narrow", "small")
WEIGHT_GRAD = ("tall", "large", "flat", "small")
