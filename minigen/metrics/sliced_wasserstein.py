"""Sliced Wasserstein distance of image patches, a value a scale (Karras et al. 2017, section 5).

Images become Laplacian pyramids; 7x7 patches are drawn from every level, normalised to mean 0 and
deviation 1 a channel; the 1-D Wasserstein distances of their random projections are averaged. The
level of the full size tells about fine detail, the smallest about the large structure.
"""

from typing import Any

import numpy as np

from minigen.metrics import checks
from minigen.random import Generator

PATCH = 7
_IMAGES = 256  # whose pyramids are in memory at a time
_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # binomial filter of Burt & Adelson 1983


def sliced_wasserstein(
    real_images: Any, fake_images: Any, *, rng: Generator, patches_per_image: int = 128,
    repeats: int = 4, projections: int = 128, smallest: int = 14,
    progress: checks.Progress | None = None,
) -> dict[int, float]:  # fmt: skip
    """{height of a level: distance x 1000} of two sets of N images (N, C, H, W) in any range.

    Levels halve down to `smallest` pixels, or to an odd size: 28 has 28 and 14, 32 has 32 and 16 as
    in the paper, which stops at 16. The paper takes N = 16384. Memory: 4 C * 49 bytes a patch.
    """
    who = "sliced_wasserstein"
    real, fake = checks.images(who, real_images), checks.images(who, fake_images)
    if real.shape != fake.shape:
        raise ValueError(
            f"{who}: images are {real.shape} and {fake.shape}, expected the same shape"
        )
    if min(patches_per_image, repeats, projections) < 1:
        raise ValueError(
            f"{who}: patches_per_image, repeats and projections are {patches_per_image}, {repeats} "
            f"and {projections}, expected at least 1"
        )
    if not PATCH <= smallest <= min(real.shape[2:]):
        raise ValueError(
            f"{who}: smallest is {smallest}, expected {PATCH} to {min(real.shape[2:])}, the "
            "smaller side of the images"
        )
    sizes = level_sizes(real.shape[2], real.shape[3], smallest)
    found = {}
    for level, (height, _) in enumerate(sizes):
        a, b = (_patches(x, level, len(sizes), patches_per_image, rng) for x in (real, fake))
        distances = []
        for repeat in range(repeats):
            distances.append(sliced_distance(a, b, directions(a.shape[1], projections, rng)))
            if progress is not None:
                progress(level * repeats + repeat + 1, len(sizes) * repeats)
        found[height] = float(np.mean(distances)) * 1e3
    return found


def level_sizes(height: int, width: int, smallest: int) -> list[tuple[int, int]]:
    """(height, width) of every level, the largest first."""
    sizes = [(height, width)]
    while height % 2 == width % 2 == 0 and min(height, width) // 2 >= smallest:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def laplacian_pyramid(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """What each level adds to the enlarged next one, and the smallest image last; (N, C, h, w)."""
    pyramid = [images]
    for _ in range(levels - 1):
        smaller = _blur(pyramid[-1])[:, :, ::2, ::2]
        pyramid[-1] = pyramid[-1] - _enlarge(smaller)
        pyramid.append(smaller)
    return pyramid


def normalise(patches: np.ndarray) -> np.ndarray:
    """Patches (M, C, 7, 7) as rows (M, C * 49), each channel of mean 0 and deviation 1.

    A channel without any variation stays 0.
    """
    mean = patches.mean((0, 2, 3), dtype=np.float64, keepdims=True)
    patches = patches - mean.astype(patches.dtype)
    deviation = np.sqrt(np.einsum("mchw,mchw->c", patches, patches, dtype=np.float64))
    deviation /= np.sqrt(patches.size / patches.shape[1])
    deviation[deviation == 0] = 1
    patches /= deviation.astype(patches.dtype)[:, None, None]
    return patches.reshape(len(patches), -1)


def directions(size: int, count: int, rng: Generator) -> np.ndarray:
    """Unit vectors (size, count) float32, uniform on the sphere."""
    drawn = rng.normal((size, count)).numpy().astype(np.float64)
    return (drawn / np.linalg.norm(drawn, axis=0)).astype(np.float32)


def sliced_distance(a: np.ndarray, b: np.ndarray, along: np.ndarray) -> float:
    """Mean over directions (D, P) of the 1-D Wasserstein distance of two sets of rows (M, D).

    In one dimension the best plan pairs the sorted values.
    """
    total = 0.0
    step = max(1, (1 << 24) // len(a))
    for start in range(0, along.shape[1], step):
        some = np.ascontiguousarray(along[:, start : start + step].T)
        left, right = some @ a.T, some @ b.T  # (directions, M): sorted along memory
        left.sort(axis=1)
        right.sort(axis=1)
        total += float(np.abs(left - right).sum(dtype=np.float64))
    return total / (len(a) * along.shape[1])


def _patches(
    images: np.ndarray, level: int, levels: int, per_image: int, rng: Generator
) -> np.ndarray:
    """Normalised 7x7 patches of one level of all images, (N * per_image, C * 49)."""
    parts = []
    for start in range(0, len(images), _IMAGES):
        block = laplacian_pyramid(images[start : start + _IMAGES], levels)[level]
        n, _, height, width = block.shape
        windows = np.lib.stride_tricks.sliding_window_view(block, (PATCH, PATCH), axis=(2, 3))
        top = rng.integers(0, height - PATCH + 1, n * per_image).numpy()
        left = rng.integers(0, width - PATCH + 1, n * per_image).numpy()
        parts.append(windows[np.repeat(np.arange(n), per_image), :, top, left])
    return normalise(np.concatenate(parts))


def _blur(images: np.ndarray) -> np.ndarray:
    """Filtered by _TAPS along both axes, mirrored at the edges without repeating them."""
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    height, width = images.shape[2:]
    rows = np.zeros_like(padded[:, :, 4:])
    for i, tap in enumerate(_TAPS):
        rows += tap * padded[:, :, i : i + height]
    blurred = np.zeros_like(images)
    for i, tap in enumerate(_TAPS):
        blurred += tap * rows[..., i : i + width]
    return blurred


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Twice as large: zeros between the pixels, filtered, times 4 for the zeros' share."""
    n, channels, height, width = images.shape
    spread = np.zeros((n, channels, 2 * height, 2 * width), images.dtype)
    spread[:, :, ::2, ::2] = images
    return 4 * _blur(spread)
