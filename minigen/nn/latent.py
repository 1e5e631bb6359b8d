"""Ways from one latent code to another."""

import numpy as np


def straight_line(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """n points (n, D) from a to b, evenly spaced."""
    t = np.linspace(0, 1, n)[:, None]
    return (1 - t) * a + t * b


def great_circle(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """n points (n, D) from a to b as on a sphere; on a line where they lie on one with 0."""
    t = np.linspace(0, 1, n)[:, None]
    angle = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
    if np.sin(angle) < 1e-6:
        return straight_line(a, b, n)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
