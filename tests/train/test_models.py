"""Every model of the table trains, stops, goes on bit for bit, samples and evaluates."""

import numpy as np
import pytest

from minigen.cli import main
from minigen.random import Generator
from minigen.train import fit, load_run, resume
from minigen.train.registry import MODELS
from tests.train.test_fit import same_state

TINY = {"batch_size": 2, "channels": 4}
SMALL = {
    "gan": {**TINY, "channels": 16},
    "vae": {"batch_size": 4},
    "pggan": {**TINY, "phase_steps": 1},  # stops in the middle of a fade
}
PICTURES = (
    ("codes", "--manifold 3"), ("codes", "--traverse all"),
    ("codes", "--interpolate --between 0,2"), ("reconstruct", "--reconstruct"), ("swap", "--swap"),
)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_goes_on_bit_for_bit(work, name, capsys):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.savez("digits.npz", images=images, labels=np.arange(40) % 10)
    options = SMALL.get(name, TINY)
    fit(name, data="digits.npz", steps=4, out="whole", options=options, sample_every=1)
    fit(name, data="digits.npz", steps=2, out="half", options=options, sample_every=9)
    resume("half", steps=4)
    assert same_state(work / "whole", work / "half")
    model = load_run("half").model
    images = model.sample(3, Generator(0))
    assert images.shape == (3, 1, 28, 28) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert main(["sample", "half", "--interpolate", "-n", "4", "--rows", "1"]) == 0
    for method, words in PICTURES:
        if hasattr(model, method) and (method != "codes" or hasattr(model.options, "latent")):
            assert main(["sample", "half", *words.split()]) == 0
    assert main(["evaluate", "half"]) == 0
    assert (work / "half" / "evaluation.json").exists()
