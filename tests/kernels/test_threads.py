"""Kernels called from several Python threads at once, and the number of threads of each."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minigen import kernels

ROOT = Path(__file__).parents[2]


def work(seed):
    """A few kernels in a row, with loops large enough to be shared among threads."""
    results = []
    for i in range(20):
        x = kernels.philox_normal(seed, 1000 * i, 64_000, np.float32)
        images = kernels.leaky_relu(x.reshape(16, 4, 25, 40), 0.2)
        weight = x[: 8 * 4 * 9].reshape(8, 4, 3, 3)
        results.append(kernels.conv2d(images, weight, None, (1, 1), (1, 1), (1, 1), 1).sum())
        results.append(kernels.matmul(x.reshape(640, 100), x.reshape(100, 640)).sum())
    return results


def check_concurrent_calls():
    alone = [work(seed) for seed in range(3)]
    together = [None] * 3

    def run(seed):
        together[seed] = work(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_python_threads_do_not_disturb_each_other():
    check_concurrent_calls()


def test_python_threads_take_turns_without_openmp():
    """Numba's own thread pool would abort the process; a machine without libgomp has no other."""
    code = (
        "import importlib.util as u; s = u.spec_from_file_location('t', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); m.check_concurrent_calls(); "
        "import numba; print(numba.threading_layer())"
    )
    env = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", __file__],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "workqueue", done.stderr


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_convolutions_do_not_depend_on_the_number_of_threads(name):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 20, 30, 31)).astype(np.float32)
    weight = rng.standard_normal((20, 20, 3, 3)).astype(np.float32)
    size = [] if name == "conv2d" else [(30, 31)]
    before = kernels.get_num_threads()
    results = []
    try:
        for count in (1, before):
            kernels.set_num_threads(count)
            call = getattr(kernels, name)
            results.append(call(x, weight, None, *size, (1, 1), (1, 1), (1, 1), 1))
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_array_equal(*results)
