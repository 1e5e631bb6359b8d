"""Importing the scripts of benchmarks/, and the tables of models on small ones."""

import contextlib
import importlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from minigen import cli

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def tiny_run(load, monkeypatch, tmp_path):
    """The commands of a table of models in this process, on the embedded data; its arguments."""
    shared = load("models_table")

    def call(*words):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            return cli.main([str(word) for word in words]), out.getvalue()

    monkeypatch.setattr(shared, "run_minigen", call)
    monkeypatch.setattr(shared, "data_name", lambda: "fashion-mnist")
    return SimpleNamespace(samples=60, steps=None, threads=1, runs=tmp_path / "runs",
                           results=tmp_path / "results")  # fmt: skip
