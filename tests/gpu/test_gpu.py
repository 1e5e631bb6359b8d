"""What only a GPU can show; `python benchmarks/gpu_check.py` runs the same without pytest."""

import shutil
import subprocess
import sys

import pytest

import minigen.ops  # noqa: F401  declares the ops
from minigen import kernels
from minigen.autograd import REGISTRY
from tests.gpu import checks

NONE = checks.why_not()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(NONE is not None, reason=f"no GPU: {NONE}")]
PUBLIC = sorted(name for name in REGISTRY if not name.startswith("_strided"))


def all_pass(rows):
    failed = [row for row in rows if not row["passed"]]
    assert not failed, failed


@pytest.mark.parametrize("name", PUBLIC)
def test_gradients_of_order_one_and_two(name):
    all_pass(checks.gradients([name]))


@pytest.mark.parametrize("name", kernels.NAMES)
def test_kernel_equals_the_reference_and_itself(name):
    all_pass(checks.errors([name]))


@pytest.mark.parametrize("name", ["mine-20d", "vae", "dcgan-28", "unet-64"])
def test_a_replayed_step_gives_the_bits_of_an_ordinary_one(name):
    all_pass(checks.replays([name]))


def test_dcgan_trains_to_the_samples_of_the_cpu():
    all_pass(checks.training())


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="no compute-sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_sanitizer_finds_nothing(tool):
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable]
    done = subprocess.run(
        [*command, "-m", "tests.gpu.every_kernel"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
