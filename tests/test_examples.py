"""Every example runs for a few steps, writes its pictures, and fits one screen and a half."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 120
    out = subprocess.run(
        [sys.executable, "-W", "error", path, "--steps", "2", "--out", f"{tmp_path}/x.png"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(path.parent.parent)},
    )
    assert out.returncode == 0, out.stderr
    assert "step 2:" in out.stdout
    assert list(tmp_path.glob("x.png*"))
