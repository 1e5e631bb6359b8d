"""The weights of `LeNet` that ship with the package, made by `make.py` beside this file.

`manifest.json` says of each file what it was trained on, how, how good it is, and its SHA-256.
"""

import functools
import json
from pathlib import Path
from typing import Any

from minigen.files import read_bytes, sha256

FOLDER = Path(__file__).parent
MANIFEST = FOLDER / "manifest.json"


def verified(name: str) -> Path:
    """Path of the weights `name` ("lenet-fashion"), once their SHA-256 is the recorded one.

    Raises OSError, in one line, when the file is missing or was changed.
    """
    path = FOLDER / f"{name}.safetensors"
    found, want = sha256(read_bytes(path)), manifest()[name]["sha256"]
    if found != want:
        raise OSError(
            f"{path}: SHA-256 is {found[:16]}..., the manifest says {want[:16]}...; "
            "the file was changed: reinstall minigen to restore it"
        )
    return path


@functools.cache
def manifest() -> dict[str, dict[str, Any]]:
    """What is recorded of each file, by its name."""
    return json.loads(read_bytes(MANIFEST))
