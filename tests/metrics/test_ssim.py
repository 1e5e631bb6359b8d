"""SSIM and MS-SSIM against a loop over windows, and the diversity of sets of images."""

import importlib

import numpy as np
import pytest

import minigen as mg
from minigen.metrics import (
    most_scales,
    ms_ssim,
    ms_ssim_diversity,
    ms_ssim_each,
    ssim,
    ssim_each,
)

RNG = np.random.default_rng(4)
A = RNG.uniform(size=(3, 2, 15, 13)).astype(np.float32)
B = np.clip(A + RNG.normal(0, 0.2, A.shape), 0, 1).astype(np.float32)


def by_loops(a, b, data_range=1.0):
    """(SSIM, contrast part) of two channels (H, W): one window after another."""
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    whole, part = [], []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cs = (2 * (window * (p - mp) * (q - mq)).sum() + c2) / (vp + vq + c2)
            whole.append((2 * mp * mq + c1) / (mp**2 + mq**2 + c1) * cs)
            part.append(cs)
    return np.mean(whole), np.mean(part)


@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
def test_ssim_equals_a_loop_over_windows(data_range):
    expected = [
        np.mean([by_loops(x, y, data_range)[0] for x, y in zip(a, b, strict=True)])
        for a, b in zip(A, B, strict=True)
    ]
    np.testing.assert_allclose(ssim_each(A, B, data_range=data_range), expected, rtol=1e-9)
    assert ssim(A, B, data_range=data_range) == pytest.approx(np.mean(expected), rel=1e-9)


def test_two_scales_equal_their_product():
    a = RNG.uniform(size=(1, 1, 23, 26))
    b = np.clip(a + RNG.normal(0, 0.1, a.shape), 0, 1)
    halves = []
    for x in (a, b):
        padded = np.pad(x[0, 0], ((1, 1), (0, 0)))[:24]  # the odd side
        halves.append(padded.reshape(12, 2, 13, 2).mean((1, 3)))
    weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
    expected = by_loops(a[0, 0], b[0, 0])[1] ** weights[0] * by_loops(*halves)[0] ** weights[1]
    assert ms_ssim(a, b, scales=2) == pytest.approx(expected, rel=1e-9)
    assert ms_ssim_each(a, b, scales=1) == pytest.approx(ssim_each(a, b), rel=1e-12)


def test_equal_images_have_similarity_one_and_inverted_ones_none():
    a = RNG.uniform(size=(2, 1, 32, 32))
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(a, a, scales=2) == pytest.approx(1, abs=1e-12)
    assert ssim(a, 1 - a) < 0
    assert ms_ssim(a, 1 - a, scales=2) == 0


def test_blocks_do_not_change_the_values(monkeypatch):
    whole = ssim_each(A, B)
    monkeypatch.setattr(importlib.import_module("minigen.metrics.ssim"), "_PAIRS", 2)
    np.testing.assert_array_equal(ssim_each(A, B), whole)


@pytest.mark.parametrize(
    ("size", "count"), [(10, 0), (11, 1), (28, 2), (32, 2), (64, 3), (160, 4), (161, 5), (900, 5)]
)
def test_scales_that_fit(size, count):
    assert most_scales(size, 1000) == count


def test_diversity_tells_variety_from_collapse():
    varied = RNG.uniform(size=(30, 1, 28, 28)).astype(np.float32)
    similar = (varied[:1] + RNG.normal(0, 0.01, (30, 1, 28, 28))).astype(np.float32)
    low = ms_ssim_diversity(varied, rng=mg.Generator(0), pairs=50)
    high = ms_ssim_diversity(similar, rng=mg.Generator(0), pairs=50)
    assert low < 0.2 < 0.9 < high
    assert low == ms_ssim_diversity(varied, rng=mg.Generator(0), pairs=50, scales=2)
    for change in ({"pairs": 51}, {"scales": 1}, {"data_range": 2.0}):
        assert ms_ssim_diversity(varied, rng=mg.Generator(0), **({"pairs": 50} | change)) != low


def test_no_image_is_paired_with_itself():
    two = np.stack([np.zeros((1, 16, 16)), RNG.uniform(size=(1, 16, 16))])
    expected = ms_ssim(two[:1], two[1:], scales=1)
    assert ms_ssim_diversity(two, rng=mg.Generator(0), pairs=20) == pytest.approx(expected)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="scales is 5, images of 15x13 have 1 to 1"):
        ms_ssim(A, B)
    with pytest.raises(ValueError, match="expected sides of 11"):
        ssim(A[:, :, :9], B[:, :, :9])
    with pytest.raises(ValueError, match="expected the same shape"):
        ssim(A, B[:2])
    with pytest.raises(ValueError, match="data_range is 0"):
        ssim(A, B, data_range=0)
    with pytest.raises(ValueError, match="pairs is 0"):
        ms_ssim_diversity(A, rng=mg.Generator(0), pairs=0)
