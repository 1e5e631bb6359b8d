"""`gpu`: CuPy, or where there is no GPU what stands in for it, for the tests of this folder."""

import os
import sys
from importlib.util import find_spec

import pytest


def has_gpu() -> bool:
    """Whether CuPy is installed and finds a GPU."""
    if find_spec("cupy") is None:
        return False
    import cupy

    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


@pytest.fixture(scope="module", autouse=True)  # a package's would stay for other folders
def gpu():
    """The array module of device="cuda": CuPy itself, or its stand-in with simulated kernels."""
    if has_gpu():
        import cupy

        yield cupy
        return
    from tests.cuda import fake_cupy

    before = sys.modules.get("cupy")
    fake_cupy.install()
    from minigen.kernels.cuda import launch

    launch.find = _finder()
    launch.allow_shared = lambda function, shared: None
    yield fake_cupy
    del sys.modules["cupy"]
    if before is not None:
        sys.modules["cupy"] = before
    from minigen import backend, kernels

    backend.gpu = None
    for key in [key for key in kernels._functions if key[1] == "cuda"]:
        del kernels._functions[key]
    for name in [n for n in sys.modules if n.startswith("minigen.kernels.cuda.")]:
        if name.split(".")[3] not in ("build", "compile", "code"):  # which know of no arrays
            vars(kernels.cuda).pop(name.rpartition(".")[2], None)
            del sys.modules[name]


def _finder():
    """What runs device code: the simulator, or a machine for the PTX that is compiled from it."""
    chosen = os.environ.get("MINIGEN_TEST_DEVICE_CODE", "python")
    if chosen not in ("python", "ptx"):
        raise ValueError(f"MINIGEN_TEST_DEVICE_CODE={chosen}: expected python or ptx")
    if chosen == "ptx":
        from tests.cuda import ptx_machine as machine
    else:
        from tests.cuda import simulator as machine
    return machine.find
