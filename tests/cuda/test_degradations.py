"""Degradations on device="cuda": the CPU's bits, as a graph too, and no wait for the device."""

import contextlib

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from minigen.data.degradations import parse
from minigen.graph import cuda_graphs
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced
from tests.cuda.test_capture import graphs

SPEC = "downscale:2,blur:0-1.5,contrast:0.4-1,darken:1-3,noise:0-50"


@pytest.fixture(autouse=True)
def kernels_of_the_reference(gpu):
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        yield


def test_they_are_those_of_the_cpu_also_when_replayed(gpu):
    degradation = parse(SPEC)
    clean = np.random.default_rng(0).uniform(0, 1, (6, 4, 3, 8, 10)).astype(np.float32)
    here, there, plain = mg.Generator(1), mg.Generator(1, "cuda"), mg.Generator(1, "cuda")
    step = mg.capture(lambda images, rng: degradation(images, rng))
    for i, images in enumerate(clean):
        with kernels.use("reference"):
            expected = degradation(mg.tensor(images), here).numpy()
        images = mg.tensor(images, device="cuda")
        unwaited = fake_cupy.counted(waits=0, uploads=0) if gpu is fake_cupy and i > 2 else None
        with unwaited or contextlib.nullcontext():
            found = step(images, there)
        with cuda_graphs(False):
            ordinary = degradation(images, plain)
        np.testing.assert_array_equal(found.numpy(), ordinary.numpy())
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    assert there.state_dict() == here.state_dict()
    assert len(graphs(step)) == 1
