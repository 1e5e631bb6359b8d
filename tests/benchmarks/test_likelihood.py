"""The script of the published likelihoods: it trains, measures, stops and goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def run(folder, *words):
    np.savez(
        folder / "digits.npz",
        x_train=np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8),
        x_test=np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8),
        y_train=np.arange(60) % 10,
        y_test=np.arange(6),
    )
    words = ["--data", folder / "digits.npz", "--runs", folder, "--codes", "20", *words]
    out = subprocess.run(
        [sys.executable, ROOT / "benchmarks/likelihood.py", "--results", folder / "found.json",
         *map(str, words), "--json"],
        capture_output=True, text=True, env={**os.environ, "MINIGEN_KERNELS": "reference"},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout), out.stderr


def test_it_goes_on_where_it_stopped(tmp_path):
    found, _ = run(tmp_path, "--stages", "1", "--model", "iwae", "--samples", "3")
    (row,) = found["models"]["iwae-3"]
    assert row["epochs"] == 1 and row["images"] == 6
    assert row["nll"]["value"] == pytest.approx(row["iwae_bound"]["value"], rel=0.05)
    found, said = run(tmp_path, "--stages", "2", "--model", "iwae", "--samples", "3")
    assert "epoch 4" in said and "epoch 1:" not in said
    assert [each["epochs"] for each in found["models"]["iwae-3"]] == [1, 4]
    again, said = run(tmp_path, "--stages", "1", "--model", "iwae", "--samples", "3")
    assert (
        again["models"] == found["models"] and not said
    )  # it is beyond that, and says nothing new
    found, _ = run(tmp_path, "--stages", "1", "--model", "vae")
    assert set(found["models"]) == {"vae", "iwae-3"} and found["published"]["vae"] == 86.76
