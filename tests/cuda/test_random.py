"""Random numbers made on the device: bit for bit those of the CPU."""

import re

import numpy as np
import pytest
from minigen.kernels.cuda import compile

from minigen import kernels
from minigen.random import Generator
from tests.cuda.test_ptx import needs_compiler

KINDS = ["philox_uniform", "philox_normal"]
STARTS = [(0, 0), (2**64 - 1, 2**64 - 3), (0x123456789ABCDEF0, 5 << 64 | 2**64 - 1)]


def on_device(name):
    return kernels.implementation(name, "cuda")[0]


@pytest.mark.parametrize("key, counter", STARTS)
def test_bits(gpu, key, counter):
    for n in (0, 1, 4, 31, 1100):
        found = on_device("philox_bits")(key, counter, n)
        assert isinstance(found, gpu.ndarray) and found.dtype == np.uint32
        np.testing.assert_array_equal(found.get(), kernels.philox_bits(key, counter, n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KINDS)
def test_numbers(gpu, name, dtype):
    for n, (key, counter) in zip((0, 3, 30, 2050), [*STARTS, (9, 1)], strict=True):
        found = on_device(name)(key, counter, n, dtype)
        assert isinstance(found, gpu.ndarray) and found.dtype == dtype
        np.testing.assert_array_equal(found.get(), getattr(kernels, name)(key, counter, n, dtype))


@pytest.mark.parametrize("name", [*KINDS, "philox_bits"])
def test_a_counter_on_the_device_is_added_to_when_the_kernel_runs(gpu, name):
    for kind, base in ((np.uint64, 2**64 - 9), (np.int64, 1000)):
        place = gpu.asarray(np.array(base, kind))
        rest = () if name == "philox_bits" else (np.float32,)
        for offset in (0, 7):
            found = on_device(name)(3, (place, offset), 17, *rest)
            expected = getattr(kernels, name)(3, base + offset, 17, *rest)
            np.testing.assert_array_equal(found.get(), expected)


def test_a_generator_on_the_device_draws_what_one_on_the_cpu_does(gpu):
    here, there = Generator(77), Generator(77, device="cuda")
    for draw in (
        lambda rng: rng.normal((3, 5)),
        lambda rng: rng.normal((), 1.5, 0.1, np.float64),
        lambda rng: rng.uniform((2, 3), -1, 1),
        lambda rng: rng.uniform(5, dtype=np.float64),
        lambda rng: rng.bernoulli(0.3, (2, 9)),
        lambda rng: rng.integers(-3, 9, (4, 4)),
        lambda rng: rng.permutation(20),
        lambda rng: rng.spawn("child").normal((0, 2)),
    ):
        a, b = draw(here), draw(there)
        assert b.device == "cuda:0" and a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert here.state_dict() == there.state_dict()


def test_kernels_of_the_host_cannot_be_asked_for_on_the_device(gpu):
    with kernels.use("reference"), pytest.raises(RuntimeError, match="the arrays are on cuda"):
        Generator(1, device="cuda").normal(3)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_operation_is_fused_or_left_to_be(dtype):
    text = compile.ptx("random.normal", {"T": dtype}, (9, 0))
    found = set(re.findall(r"\s((?:fma|mul|add|sub|div|sqrt)\.(?:\w+\.)?f64)\s", text))
    assert found == {f"{each}.rn.f64" for each in ("mul", "add", "sub", "div", "sqrt")}


def test_a_small_grid_strides_over_the_rest(gpu, monkeypatch):
    monkeypatch.setattr("minigen.kernels.cuda.arrays.BLOCKS", 1)
    found = on_device("philox_normal")(5, 6, 2501, np.float32)
    np.testing.assert_array_equal(found.get(), kernels.philox_normal(5, 6, 2501, np.float32))
