"""Optimiser steps on the device against the reference, and with numbers that lie on the device."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import reference

CASES = {
    "sgd": [(0.1, 0.0, 0.0, 0.0, False), (0.1, 0.9, 0.2, 0.01, False), (0.1, 0.9, 0.0, 0.1, True)],
    "rmsprop": [
        (0.01, 0.9, 1e-8, 0.0, 0.0, False),
        (0.01, 0.9, 1e-8, 0.1, 0.0, True),
        (0.01, 0.9, 1e-8, 0.1, 0.8, False),
        (0.01, 0.9, 1e-8, 0.0, 0.8, True),
    ],
    "adam": [(0.01, 0.9, 0.999, 1e-8, 0.1, False, 1), (0.01, 0.5, 0.99, 1e-8, 0.1, True, 7)],
    "ema": [(0.9,), (0.0,)],
}
STATE = {"sgd": 1, "rmsprop": 3, "adam": 2, "ema": 0}  # arrays beside the first two
LIVE = {"sgd": [0], "rmsprop": [0], "adam": [0, 6], "ema": [0]}  # numbers that may be on the device


def arrays_for(name, dtype, n=777):
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=n).astype(dtype) for _ in range(2 + STATE[name])]
    if name in ("rmsprop", "adam"):  # a mean square
        at = 2 if name == "rmsprop" else 3
        arrays[at] = np.square(arrays[at]) + arrays[at].dtype.type(0.1)
    if name == "rmsprop":
        arrays[4] *= 0.1
    return arrays


def run(gpu, name, arrays, numbers):
    given = [gpu.asarray(a) for a in arrays]
    getattr(kernels, name)(*given, *numbers)
    return [a.get() for a in given]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_steps_change_parameters_and_state_as_the_reference_does(gpu, name, dtype):
    for numbers in CASES[name]:
        arrays = arrays_for(name, dtype)
        expected = [a.astype(np.float64) for a in arrays]
        reference(name)(*expected, *numbers)
        found = run(gpu, name, arrays, numbers)
        tolerance = 2e-6 if dtype == "float32" else 1e-12
        for e, f in zip(expected, found, strict=True):
            assert f.dtype == dtype
            np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance, err_msg=str(numbers))


def test_a_small_grid_strides_over_the_rest(gpu, monkeypatch):
    arrays = {name: arrays_for(name, "float32", 2345) for name in CASES}
    whole = {name: run(gpu, name, arrays[name], CASES[name][-1]) for name in CASES}
    monkeypatch.setattr("minigen.kernels.cuda.arrays.BLOCKS", 1)
    for name, expected in whole.items():
        for a, b in zip(expected, run(gpu, name, arrays[name], CASES[name][-1]), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_numbers_on_the_device_give_the_same_bits(gpu, name):
    for numbers in CASES[name]:
        arrays = arrays_for(name, "float32")
        plain = run(gpu, name, arrays, numbers)
        live = list(numbers)
        for i in LIVE[name]:
            live[i] = gpu.full((), float(numbers[i]), np.float64)
        for a, b in zip(plain, run(gpu, name, arrays, live), strict=True):
            np.testing.assert_array_equal(a, b)
        live[LIVE[name][0]] = numbers[LIVE[name][0]]  # one may stay a plain number
        for a, b in zip(plain, run(gpu, name, arrays, live), strict=True):
            np.testing.assert_array_equal(a, b)


def test_views_of_a_flat_buffer_of_any_length(gpu):
    buffer, grads = gpu.zeros(40, np.float32), gpu.ones((2, 3), np.float32)
    kernels.sgd(buffer[5:11].reshape(2, 3), grads, None, 0.5, 0.0, 0.0, 0.0, False)
    expected = np.zeros(40, np.float32)
    expected[5:11] = -0.5
    np.testing.assert_array_equal(buffer.get(), expected)
    for n in (0, 1, 3):
        average = gpu.zeros(n, np.float32)
        kernels.ema(average, gpu.ones(n, np.float32), 0.75)
        np.testing.assert_array_equal(average.get(), np.full(n, 0.25, np.float32))


def test_state_that_a_setting_does_not_use_may_be_none(gpu):
    p, g, s = (gpu.ones(5, np.float32) for _ in range(3))
    kernels.rmsprop(p, g, s, None, None, 0.1, 0.9, 0.0, 0.0, 0.0, False)
    np.testing.assert_allclose(p.get(), np.full(5, 0.9), rtol=1e-6)


def test_arrays_that_cannot_be_updated_in_place_are_refused(gpu):
    p = gpu.zeros((4, 6), np.float32)
    for grad in (gpu.zeros((6, 4), np.float32).T, gpu.zeros((4, 6), np.float64)):
        with pytest.raises(ValueError, match=r"adam: got a .* expected float32 in C-contiguous"):
            kernels.adam(p, grad, p, p, 0.1, 0.9, 0.99, 1e-8, 0.0, False, 1)
