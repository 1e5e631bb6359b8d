"""minigen: arrays, autograd and kernels from scratch, and deep generative models on them."""

from pathlib import Path as _Path

if not (_Path(__file__).parent / "kernels").is_dir():
    # A checkout that is not installed: the folder kernels/ lies beside the package (see Packaging).
    __path__.append(str(_Path(__file__).parent.parent))

__version__ = "0.1.0"
