"""Fixtures of the command's tests: an empty folder with data, and the command in this process."""

import pytest

from minigen.cli import main
from tests.train.support import work  # noqa: F401  the fixture


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit code, standard output, standard error)."""

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call
