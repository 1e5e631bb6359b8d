"""Philox kernels: published vectors, equal bits on both targets, layout, statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import kernels

# Random123's known answers (kat_vectors, philox4x32 10): counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
TARGETS = pytest.mark.parametrize("target", ["reference", "cpu"])


def number(words):
    return sum(int(word, 16) << 32 * i for i, word in enumerate(words.split()))


@TARGETS
@pytest.mark.parametrize("counter,key,result", VECTORS)
def test_published_vectors(target, counter, key, result):
    with kernels.use(target):
        words = kernels.philox_bits(number(key), number(counter), 4)
    assert " ".join(f"{word:08x}" for word in words) == result


@settings(max_examples=40, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    counter=st.one_of(st.integers(0, 2**64 - 1), st.integers(2**64 - 9, 2**64 - 1)),
    n=st.one_of(st.integers(0, 40), st.sampled_from([8191, 8192, 8197, 20000])),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_targets_agree_to_the_bit(key, counter, n, dtype):
    calls = [("bits", ()), ("uniform", (dtype,)), ("normal", (dtype,))]
    for kind, tail in calls:
        with kernels.use("cpu"):
            fast = getattr(kernels, f"philox_{kind}")(key, counter, n, *tail)
        with kernels.use("reference"):
            slow = getattr(kernels, f"philox_{kind}")(key, counter, n, *tail)
        assert fast.dtype == slow.dtype and fast.shape == (n,)
        np.testing.assert_array_equal(fast, slow)


@TARGETS
def test_layout(target):
    with kernels.use(target):
        words = kernels.philox_bits(9, 5, 8)
        np.testing.assert_array_equal(words[4:], kernels.philox_bits(9, 6, 4))
        np.testing.assert_array_equal(
            kernels.philox_uniform(9, 5, 8, np.float32), (words >> 8) * np.float64(2.0**-24)
        )
        high, low = (words[::2] >> 5).astype(float), (words[1::2] >> 6).astype(float)
        np.testing.assert_array_equal(
            kernels.philox_uniform(9, 5, 4, np.float64), (high * 2**26 + low) / 2**53
        )
        radius = np.sqrt(-2 * np.log((words[::2] + 0.5) / 2**32))
        angle = 2 * np.pi * words[1::2] / 2**32
        normal = kernels.philox_normal(9, 5, 8, np.float64)
        np.testing.assert_allclose(normal[::2], radius * np.cos(angle), rtol=1e-13)
        np.testing.assert_allclose(normal[1::2], radius * np.sin(angle), rtol=1e-13)
        single = kernels.philox_normal(9, 5, 8, np.float32)
        np.testing.assert_array_equal(single, normal.astype(np.float32))


@TARGETS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics(target, dtype):
    n = 200_000
    with kernels.use(target):
        uniform = kernels.philox_uniform(123, 0, n, dtype).astype(np.float64)
        normal = kernels.philox_normal(123, 0, n, dtype).astype(np.float64)
    assert uniform.min() >= 0 and uniform.max() < 1
    # five standard errors
    assert abs(uniform.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    counts = np.histogram(uniform, 100, (0, 1))[0]
    chi_square = np.sum((counts - n / 100) ** 2) / (n / 100)
    assert 40 < chi_square < 180  # 99 degrees of freedom
    assert abs(normal.mean()) < 5 / n**0.5
    assert abs(normal.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(np.mean(normal**3)) < 5 * (15 / n) ** 0.5
    assert abs(np.mean(normal**4) - 3) < 5 * (96 / n) ** 0.5
    assert abs(np.mean(normal[::2] * normal[1::2])) < 5 / (n / 2) ** 0.5


def test_threads_do_not_change_the_numbers():
    threads = kernels.get_num_threads()
    try:
        results = []
        for count in (1, threads):
            kernels.set_num_threads(count)
            with kernels.use("cpu"):
                results.append(kernels.philox_normal(1, 2, 50_000, np.float32))
        np.testing.assert_array_equal(*results)
    finally:
        kernels.set_num_threads(threads)
