"""The machine code kept on disk: found again, forgotten when it must be, never a reason to fail."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minigen.kernels.cpu.cache import fingerprint

ROOT = Path(__file__).parents[2]
LOG = "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
PRODUCTS = """
import numpy as np, scipy.linalg
from minigen import kernels as k
a = np.arange(90000, dtype=np.float64).reshape(300, 300)
assert np.allclose(k.matmul(a, a), scipy.linalg.blas.dgemm(1, a, a))
assert np.allclose(k.linear(a[:2, :3], a[:2, :3], None), a[:2, :3] @ a[:2, :3].T)
"""
CONVOLUTION = """
import numpy as np
from minigen import kernels as k
x, w = np.ones((2, 32, 12, 12), np.{0}), np.ones((32, 32, 3, 3), np.{0})
with k.use("cpu", convolution="direct"):
    y = k.conv2d(x, w, None, (1, 1), (1, 1), (1, 1), 1)
print(y.dtype, y.min(), y.max())
"""
STEPS = """
from numba.core import event
import minigen as mg
compiled = []
class Listener(event.Listener):
    def on_start(self, event): compiled.append(event.data["dispatcher"].py_func.__qualname__)
    def on_end(self, event): pass
event.register("numba:compile", Listener())
from minigen.gan.dcgan import DCGAN
from minigen.gan.gan import GAN
from minigen.vae.vae import VAE
for model in (GAN, DCGAN, VAE):
    rng = mg.Generator(0)
    options = model.Options(batch_size=32)
    images = rng.uniform((32, 1, 28, 28))
    trained = model(options, (1, 28, 28), rng=rng)
    trained.step(images, None, rng)
    trained.sample(4, rng)
print(compiled)
"""


def run(code, **environment):
    """The standard output of Python code in a fresh process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MINIGEN_")} | environment
    command = [sys.executable, "-W", "error", "-c", LOG + code]
    done = subprocess.run(
        command, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_process_compiles_nothing_and_damaged_files_are_replaced(tmp_path):
    """SciPy's own BLAS is loaded beside."""
    pytest.importorskip("scipy")
    for attempt, compiles in enumerate([True, False, True, False]):
        if attempt == 2:
            for file in tmp_path.rglob("*.nb[ic]"):
                file.write_bytes(file.read_bytes()[:40])
        out = run(PRODUCTS, NUMBA_CACHE_DIR=str(tmp_path))
        assert out.count("compiling CPU kernels") == compiles, out
        assert out.count("CPU kernels compile anew") == (attempt == 2), out


def test_the_second_training_step_of_every_model_compiles_nothing():
    run(STEPS)
    assert run(STEPS).splitlines()[-1] == "[]"


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_tiles_are_compiled_again_where_their_file_is_damaged(tmp_path, damage):
    """Kernels that call the tiles come from the cache then; their code names the tiles."""
    code = CONVOLUTION.format("float32")
    assert "compiling CPU kernels" in run(code, NUMBA_CACHE_DIR=str(tmp_path))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.float32-*")}
    assert before
    for file, whole in before.items():
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(whole[:100] if damage == "cut" else bytes(len(whole)))
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "float32 128.0 288.0\n"
    assert all(file.read_bytes() == whole for file, whole in before.items())


def test_tiles_of_float64_are_made_when_they_are_wanted(tmp_path):
    for dtype in ("float32", "float64"):
        out = run(CONVOLUTION.format(dtype), NUMBA_CACHE_DIR=str(tmp_path))
        assert out.splitlines()[-1] == f"{dtype} 128.0 288.0"
        assert bool(list(tmp_path.rglob("*.float64-*"))) == (dtype == "float64")
    both = CONVOLUTION.format("float64") + CONVOLUTION.format("float32")
    out = run(both, NUMBA_CACHE_DIR=str(tmp_path))
    assert out == "float64 128.0 288.0\nfloat32 128.0 288.0\n"


def test_two_processes_may_fill_an_empty_cache_at_the_same_time(tmp_path):
    code = CONVOLUTION.format("float32")
    with ThreadPoolExecutor(2) as pool:
        outs = pool.map(lambda _: run(code, NUMBA_CACHE_DIR=str(tmp_path)), range(2))
        assert [out.splitlines()[-1] for out in outs] == ["float32 128.0 288.0"] * 2
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "float32 128.0 288.0\n"


def test_kernels_run_where_no_folder_can_be_written():
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    out = run(nowhere + CONVOLUTION.format("float32"))
    assert out.splitlines()[-1] == "float32 128.0 288.0"
    assert out.count("CPU kernels compile anew") == 1


def test_parts_of_kernels_refuse_to_be_called_from_python():
    from minigen.kernels.cpu.norm import moments_chunk

    with pytest.raises(TypeError, match="moments_chunk is called from compiled kernels only"):
        moments_chunk(1, 2, 3, 4, 5)


def test_code_is_forgotten_when_a_file_it_takes_helpers_from_changes(tmp_path):
    copies = [tmp_path / "one", tmp_path / "two"]
    for copy in copies:
        shutil.copytree(ROOT / "kernels", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for changed in ("cpu/tile.py", "reference/random.py"):
        with open(copies[1] / changed, "a") as file:
            file.write("# changed\n")
    same = {
        path.name: fingerprint(path) == fingerprint(copies[1] / "cpu" / path.name)
        for path in (copies[0] / "cpu").glob("*.py")
    }
    # conv_tiles.py runs tiles, sampling.py takes philox_normal from random.py; norm.py does neither
    assert not same["conv_tiles.py"] and not same["sampling.py"]
    assert same["norm.py"] and same["matmul.py"]
