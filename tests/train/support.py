"""What tests of training and of the command share: small data, and a folder of one's own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigen import kernels

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty current folder with images.npy: 40 grey images of 6x6 pixels; no compilation."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    with kernels.use("reference"):
        yield tmp_path


def start(*args, **options):
    """The command as a process, with the checkout on its path; nothing is compiled in it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGEN_KERNELS": "reference"}
    return subprocess.Popen(
        [sys.executable, "-m", "minigen", *map(str, args)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
