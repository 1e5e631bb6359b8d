"""The dispatch: which target serves a call, what is refused, and what an import costs."""

import importlib
import os
import subprocess
import sys
import threading
import timeit
from pathlib import Path

import numpy as np
import pytest
from minigen.kernels import cpu, reference

from minigen import kernels

ROOT = Path(__file__).parents[2]


def run(code, **environment):
    """Run Python code in a fresh process; returns its finished process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MINIGEN_")} | environment
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


class OnGpu:
    """Looks like an array on a GPU to whoever does not import a GPU library."""

    __cuda_array_interface__ = {}  # noqa: RUF012
    dtype, shape = np.dtype(np.float32), (2, 2)


def product(a, b):
    return kernels.matmul(a, b), kernels.explain("matmul")["last"]


def test_every_name_is_defined_where_the_table_says():
    for table, package in ((reference.TABLE, "reference"), (cpu.TABLE, "cpu")):
        assert set(table) <= set(kernels.NAMES)
        for name, module in table.items():
            defined = importlib.import_module(f"minigen.kernels.{package}.{module}")
            assert callable(getattr(defined, name)), (package, module, name)


@pytest.mark.parametrize(
    ("dtype", "target"),
    [("float32", "cpu"), ("float64", "cpu"), ("float16", "reference"), ("int64", "reference")],
)
def test_the_dtype_chooses_between_cpu_and_reference(dtype, target):
    a = np.arange(4).reshape(2, 2).astype(dtype)
    for _ in range(2):  # the first call takes the long way, the second the short one
        y, last = product(a, a)
        assert last == target
        np.testing.assert_array_equal(y, a @ a)
    assert kernels.implementation("matmul", a)[1] == target


def test_use_forces_a_target_for_its_block_and_thread():
    a = np.ones((2, 2), np.float32)
    seen = []
    with kernels.use("reference"):
        assert product(a, a)[1] == "reference"
        with kernels.use("cpu"):
            assert product(a, a)[1] == "cpu"
        assert kernels.implementation("conv2d", a)[1] == "reference"
        thread = threading.Thread(target=lambda: seen.append(product(a, a)[1]))
        thread.start()
        thread.join()
    assert seen == ["cpu"]
    assert product(a, a)[1] == "cpu"
    with pytest.raises(ValueError, match="use: got 'gpu', expected 'reference' or 'cpu'"):
        kernels.use("gpu")


def test_use_chooses_the_precision_of_products_on_a_gpu():
    assert kernels.precision() is None
    with kernels.use(precision="float32"):
        assert kernels.precision() == "float32"
        with kernels.use("cpu", precision="tf32"):
            assert kernels.precision() == "tf32"
        assert kernels.precision() == "float32"
    with pytest.raises(ValueError, match="use: precision 'half', expected 'float32' or 'tf32'"):
        kernels.use(precision="half")
    code = "from minigen import kernels; print(kernels.precision())"
    assert run(code, MINIGEN_PRECISION="tf32").stdout.strip() == "tf32"
    assert "MINIGEN_PRECISION: precision 'tf64'" in run(code, MINIGEN_PRECISION="tf64").stderr


def test_other_dtypes_have_the_reference_alone():
    with kernels.use("cpu"):
        for dtype in (np.int64, np.dtype(">f4")):
            y, last = product(np.ones((2, 2), dtype), np.ones((2, 2), dtype))
            assert last == "reference" and y[0, 0] == 2


def test_unknown_names_list_the_known_ones():
    with pytest.raises(AttributeError, match="no kernel 'conv3d'; there are: conv2d, "):
        _ = kernels.conv3d
    with pytest.raises(AttributeError, match="no kernel 'conv3d'"):
        kernels.implementation("conv3d", None)
    assert "conv2d" in dir(kernels)


def test_a_gpu_array_without_a_cuda_kernel_raises(monkeypatch):
    monkeypatch.setitem(kernels._TABLES, "cuda", {})
    with pytest.raises(RuntimeError, match="matmul: no cuda kernel; there is one for: ref"):
        kernels.matmul(OnGpu(), OnGpu())
    with kernels.use("cpu"), pytest.raises(RuntimeError, match="set to 'cpu' but the arrays are"):
        kernels.matmul(OnGpu(), OnGpu())


def test_mixed_devices_name_both():
    host = np.ones((2, 2), np.float32)
    for args in [(host, OnGpu()), (OnGpu(), host)]:
        with pytest.raises(RuntimeError, match="arrays on different devices, argument 0 on"):
            kernels.matmul(*args)


def test_a_name_that_only_the_reference_has_is_served_by_it(monkeypatch):
    monkeypatch.delitem(cpu.TABLE, "gather_rows")
    monkeypatch.delitem(kernels._functions, ("gather_rows", "cpu"), raising=False)
    a = np.ones((2, 2), np.float32)
    assert kernels.implementation("gather_rows", a)[1] == "reference"
    assert kernels.explain("gather_rows")["cpu"] is None
    with kernels.use("cpu"), pytest.raises(RuntimeError, match="gather_rows: no cpu kernel"):
        kernels.implementation("gather_rows", a)


def test_explain_covers_every_kernel():
    record = kernels.explain()
    assert set(record) == set(kernels.NAMES)
    assert record["conv2d"]["cpu"] == "minigen.kernels.cpu.conv"


def test_the_number_of_threads_is_bounded_and_checked(caplog):
    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        assert kernels.get_num_threads() == 1
        with pytest.raises(ValueError, match="got 0, expected a count of at least 1"):
            kernels.set_num_threads(0)
        kernels.set_num_threads(10_000)
        assert 1 <= kernels.get_num_threads() < 10_000
        assert "10000 threads asked" in caplog.text
    finally:
        kernels.set_num_threads(before)


def test_dispatch_is_cheap(monkeypatch):
    monkeypatch.setitem(kernels._functions, ("ema", "cpu"), lambda *args: None)
    dispatch, x = kernels._dispatcher("ema"), np.ones(3, np.float32)
    seconds = min(timeit.repeat(lambda: dispatch(x, x, 0.5), number=1000, repeat=20)) / 1000
    assert seconds < 5e-6  # about 0.3 microseconds; the rest is for a busy machine


def test_import_needs_neither_numba_nor_its_time():
    code = "import sys, minigen.kernels; print([m for m in ('numba', 'scipy') if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_the_folder_is_no_package_of_its_own():
    done = run("import kernels")
    assert done.returncode == 1
    assert "ImportError: this package is minigen.kernels" in done.stderr


def test_the_environment_sets_target_and_threads():
    code = (
        "import numpy as np; from minigen import kernels as k; "
        "print(k.implementation('matmul', np.ones((1, 1)))[1], k.get_num_threads())"
    )
    done = run(code, MINIGEN_KERNELS="reference", MINIGEN_NUM_THREADS="1")
    assert done.stdout.split() == ["reference", "1"]
    assert "MINIGEN_KERNELS: got 'fast'" in run(code, MINIGEN_KERNELS="fast").stderr
    assert "MINIGEN_NUM_THREADS: got '0'" in run(code, MINIGEN_NUM_THREADS="0").stderr
