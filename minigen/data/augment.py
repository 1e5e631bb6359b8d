"""Augmentations of a batch in NumPy, each a pure function of the images and of given numbers.

Images are float32 (N, C, H, W) in [0, 1]; the numbers are uniform in [0, 1), of the shape that the
augmentation asks for. Adding one means adding a row to TABLE; nothing here may draw numbers itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


def flip(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Each image mirrored left to right with probability 1/2; `numbers` is (N,)."""
    mirrored = numbers < 0.5
    return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


def turn(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Each image turned by 0, 90, 180 or 270 degrees, equally likely; `numbers` is (N,).

    Raises ValueError unless the images are square.
    """
    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"turn: images are {width}x{height} pixels, expected square ones")
    turns = (numbers * 4).astype(np.int64)
    return np.stack([np.rot90(x, k, (1, 2)) for x, k in zip(images, turns, strict=True)])


def colours(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The channels of each image in another order, all equally likely; `numbers` is (N, C)."""
    return np.take_along_axis(images, numbers.argsort(1)[:, :, None, None], 1)


def crop(images: np.ndarray, numbers: np.ndarray, pad: int) -> np.ndarray:
    """Each image shifted by up to `pad` pixels, borders reflected; `numbers` is (N, 2).

    The padding and random crop of He et al. 2016 (sec. 4.2), but with reflected borders instead of
    zeros, which a generative model would learn to draw. Raises ValueError unless pad < H, W.
    """
    count, channels, height, width = images.shape
    if not pad < min(height, width):
        raise ValueError(f"crop:{pad}: images of {height}x{width} pixels need a smaller padding")
    padded = np.pad(
        images.transpose(0, 2, 3, 1), ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect"
    )
    corners = np.minimum(numbers * (2 * pad + 1), 2 * pad).astype(np.int64)
    out = np.empty((count, height, width, channels), images.dtype)
    for i, (top, left) in enumerate(corners):
        out[i] = padded[i, top : top + height, left : left + width]
    return out.transpose(0, 3, 1, 2)


def noise(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Uniform dequantization of 8-bit pixels, (255 x + u) / 256 (Theis et al. 2016, sec. 3.1)."""
    return (images * np.float32(255) + numbers) / np.float32(256)


@dataclass(frozen=True)
class Augmentation:
    """A named augmentation: `shape` of the numbers for a batch's shape, and what they do."""

    name: str
    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]


def parse(spec: str | Iterable[str | Augmentation]) -> tuple[Augmentation, ...]:
    """Augmentations of 'flip,crop:4,noise', or of a sequence of such names; '' gives none.

    Raises ValueError for an unknown name or a parameter that does not fit.
    """
    parts = spec.split(",") if isinstance(spec, str) else spec
    stripped = (part.strip() if isinstance(part, str) else part for part in parts)
    return tuple(
        part if isinstance(part, Augmentation) else _one(part) for part in stripped if part
    )


def _flip(parameter: str) -> Augmentation:
    _no_parameter("flip", parameter)
    return Augmentation("flip", lambda shape: (shape[0],), flip)


def _turn(parameter: str) -> Augmentation:
    _no_parameter("turn", parameter)
    return Augmentation("turn", lambda shape: (shape[0],), turn)


def _crop(parameter: str) -> Augmentation:
    if not parameter.isdecimal() or int(parameter) == 0:
        raise ValueError(
            f"augment: crop:{parameter} is not understood; expected for instance crop:4"
        )
    pad = int(parameter)
    return Augmentation(
        f"crop:{pad}", lambda shape: (shape[0], 2), lambda images, u: crop(images, u, pad)
    )


def _colours(parameter: str) -> Augmentation:
    _no_parameter("colours", parameter)
    return Augmentation("colours", lambda shape: shape[:2], colours)


def _noise(parameter: str) -> Augmentation:
    _no_parameter("noise", parameter)
    return Augmentation("noise", lambda shape: shape, noise)


TABLE: dict[str, Callable[[str], Augmentation]] = {
    "flip": _flip,
    "turn": _turn,
    "crop": _crop,
    "colours": _colours,
    "noise": _noise,
}


def _one(text: str) -> Augmentation:
    name, _, parameter = text.partition(":")
    if name not in TABLE:
        raise ValueError(
            f"augment: no {text!r}; there are flip, turn, crop:PIXELS, colours and noise"
        )
    return TABLE[name](parameter)


def _no_parameter(name: str, parameter: str) -> None:
    if parameter:
        raise ValueError(f"augment: {name} takes no parameter, got {name}:{parameter}")
