"""The data shipped inside the package: part of Fashion-MNIST (MIT) and four CC0 photographs.

Here live only the files, their checksums (SHA256SUMS) and how to open them; `make.py` beside this
file makes them. Nothing here may need the network.
"""

import functools
import hashlib
from pathlib import Path

from minigen.data.dataset import DataError

FOLDER = Path(__file__).parent
FASHION_MNIST = {
    "train": ("train-images-idx3-ubyte.xz", "train-labels-idx1-ubyte.xz"),
    "test": ("t10k-images-idx3-ubyte.xz", "t10k-labels-idx1-ubyte.xz"),
}
PHOTOS = {
    "brick": "brick.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
}


def verified(name: str) -> Path:
    """Path of the embedded file `name`, once its SHA-256 is seen to be the recorded one.

    Raises DataError when the file is missing or was changed.
    """
    path, want = FOLDER / name, _checksums().get(name)
    if want is None:
        raise DataError(f"{path}: not in SHA256SUMS; the files there are {sorted(_checksums())}")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); reinstall minigen to restore it"
        ) from error
    if found != want:
        raise DataError(
            f"{path}: SHA-256 is {found[:16]}..., SHA256SUMS says {want[:16]}...; "
            "the file was changed: reinstall minigen to restore it"
        )
    return path


@functools.cache
def _checksums() -> dict[str, str]:
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}
