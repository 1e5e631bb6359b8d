"""The collapse doctor on device="cuda": it sees what it sees on the CPU, and changes nothing."""

import contextlib

import numpy as np
import pytest

import minigen as mg
from minigen.random import Generator
from minigen.train.registry import model_class
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced


@pytest.fixture(autouse=True)
def kernels_of_the_reference(gpu):
    """Numbers agree to the last digits with the reference's kernels; on a GPU, with its own."""
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "hinge", "cgan", "began"])
def test_signs_are_those_of_the_cpu(name):
    cls, found = model_class(name), {}
    for device in ("cpu", "cuda"):
        model = cls(cls.Options(batch_size=4, channels=2), (1, 28, 28), rng=Generator(0)).to(device)
        n = model.images_per_step
        images = np.random.default_rng(0).uniform(-1, 1, (n, 1, 28, 28)).astype(np.float32)
        images, labels = (
            mg.tensor(images, device=device),
            mg.tensor(np.arange(n) % 10, device=device),
        )
        before = {k: np.copy(v) for k, v in model.state_dict().items()}
        rng = Generator(2, device=device)
        found[device], _ = model.doctor().examine(20, {}, images.data, labels.data, rng)
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[key], err_msg=key)
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3, abs=1e-4)
