"""`shapes`: one white shape on black whose every property is known, in the manner of dSprites
(Matthey et al. 2017).

An image is a window onto the picture of one shape at one size and angle, moved by whole pixels:
there are a few small pictures, and no image is kept.
"""

import numpy as np

from minigen.data.dataset import Dataset, LazyImages

SHAPES = ("square", "ellipse", "heart")
FACTORS = {"shape": len(SHAPES), "scale": 6, "orientation": 8, "x": 15, "y": 15}
SIDE = 28  # pixels, at least
SAMPLES = 4  # of a pixel along each axis, which antialias the edges
TEST_EVERY = 10


def shapes(split: str, side: int = SIDE) -> Dataset:
    """The images (N, 1, side, side) of 'train', 'test' or 'all' (32,400): all combinations of
    FACTORS, each once.

    The label is the shape; `factors` are numbers of values, from 0, as FACTORS lists them. Scales
    go from half size to full size, angles over a quarter of a turn (a whole one would show each
    square four times, and no code could tell them apart), places over 15 in each direction. Test
    images are those whose factors add up to a multiple of 10: every pair of values of two factors
    is in both splits.
    """
    counts = tuple(FACTORS.values())
    factors = np.indices(counts).reshape(len(counts), -1).T
    held = factors.sum(1) % TEST_EVERY == 0
    factors = factors[{"train": ~held, "test": held, "all": held | True}[split]]
    return Dataset(
        ShapeImages(factors, side), factors[:, 0], name="shapes", classes=SHAPES,
        factors=factors, factor_names=tuple(FACTORS),
    )  # fmt: skip


class ShapeImages(LazyImages):
    """uint8 images (N, 1, side, side) of the factors (N, 5)."""

    def __init__(self, factors: np.ndarray, side: int = SIDE):
        if side < SIDE:
            raise ValueError(f"ShapeImages: side is {side} pixels, expected at least {SIDE}")
        self.factors, self.shape = factors, (len(factors), 1, side, side)
        self.dtype = np.dtype(np.uint8)
        self.step = side // SIDE  # pixels between neighbouring places
        reach = (FACTORS["x"] - 1) * self.step
        drawn = _pictures(side, side - reach)
        # With the reach added on all sides, the window that starts at 0 has its shape at the end.
        canvas = np.pad(drawn, [(0, 0)] + [(reach, reach)] * 2)
        self.windows = np.lib.stride_tricks.sliding_window_view(canvas, (side, side), axis=(1, 2))

    def take(self, indices: np.ndarray) -> np.ndarray:
        shape, scale, angle, x, y = self.factors[indices].T
        picture = (shape * FACTORS["scale"] + scale) * FACTORS["orientation"] + angle
        left, top = ((FACTORS["x"] - 1 - place) * self.step for place in (x, y))
        return self.windows[picture, top, left][:, None]


def _pictures(side: int, box: int) -> np.ndarray:
    """Every shape at every size and angle, uint8 (pictures, box, box): full size reaches 0.23 of
    the side of an image from its centre.
    """
    place = (np.arange(box * SAMPLES, dtype=np.float32) + 0.5) / SAMPLES - box / 2
    sizes = np.linspace(0.5, 1, FACTORS["scale"]) * 0.23 * side
    angles = np.arange(FACTORS["orientation"]) * (np.pi / 2 / FACTORS["orientation"])
    drawn = []
    for inside in (_square, _ellipse, _heart):
        for size in sizes:
            x, y = place / size, -place[:, None] / size  # y points upwards
            for angle in angles:
                turned = inside(
                    np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
                )
                parts = turned.reshape(box, SAMPLES, box, SAMPLES).mean((1, 3))
                drawn.append(np.round(255 * parts).astype(np.uint8))
    return np.stack(drawn)


# Each says which points lie inside the shape of full size, which fits the unit disc.


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) <= 0.7


def _ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x * x + (y / 0.55) ** 2 <= 1


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x^2 + y^2 - 1)^3 = x^2 y^3, which reaches 1.42 from the origin."""
    x, y = 1.43 * x, 1.43 * y
    return (x * x + y * y - 1) ** 3 <= x * x * y**3
