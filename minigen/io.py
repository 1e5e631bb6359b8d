"""Arrays on disk: safetensors files, and checkpoints made of one and a JSON manifest.

Written atomically (see files.py). Nothing here may use pickle, nor know of Tensor:
whatever has `.numpy()` is an array.
"""

import itertools
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigen.files import (
    explained,
    read_bytes,
    remove,
    sha256,
    sync_folder,
    temporary,
    write_atomic,
    write_verified,
)

__all__ = [
    "latest_checkpoint",
    "load",
    "load_checkpoint",
    "load_metadata",
    "prune_checkpoints",
    "save",
    "save_checkpoint",
]

log = logging.getLogger(__name__)

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
FORMAT = 1
# safetensors' name of a dtype -> how it lies in the file; BF16 is widened when loaded.
_DTYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "uint8",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "BF16": "<u2",
}  # fmt: skip
_SAVED = {np.dtype(code).name for code in _DTYPES.values()}


def save(
    path: str | Path, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays to a safetensors file, atomically: the earlier file stays until it is verified.

    `state` is a dict of arrays, of objects with `.numpy()` or of Python numbers (kept as 0-d
    arrays); nested dicts are flattened with dots. `metadata` holds strings. Raises TypeError or
    ValueError for anything else and OSError, in one line, when the file cannot be written.
    """
    arrays = {key: _array(value, f"save: {path}: {key!r}") for key, value in _flat(state)}
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: {path}: metadata {key!r} is {value!r}; expected strings")
    write_atomic(Path(path), _serialize(arrays, metadata))


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by their flat names, writable; bfloat16 becomes float32.

    Raises OSError, in one line, when the file is missing, truncated or damaged.
    """
    return _parse(path, read_bytes(path))[0]


def load_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; only its header is read. Raises as `load` does."""
    with explained(path, "read"), open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        size = os.fstat(file.fileno()).st_size
        head = start + file.read(min(length, size))
    return dict(_header(path, head, size).get("__metadata__", {}))


def save_checkpoint(folder: str | Path, state: Mapping[str, Any]) -> Path:
    """Writes `state` as a folder of weights.safetensors and manifest.json that appears at once.

    `state` is a nested dict (string keys) of arrays, ints of any size, floats, bools, strings, None
    and lists of those; tuples come back as lists. A folder already there is replaced. Raises
    TypeError or ValueError for other values, OSError when it cannot be written; then nothing
    appears and what was there stays.
    """
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(state, "", arrays, str(folder))
    weights = _serialize(arrays, None)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "files": {WEIGHTS: {"bytes": len(weights), "sha256": sha256(weights)}},
        "state": tree,
    }
    manifest["sha256"] = sha256(_canonical(manifest))
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    left = "no checkpoint was made; the earlier ones are intact"
    fresh, aside = temporary(folder), temporary(folder)
    try:
        with explained(folder, "written", left):
            folder.parent.mkdir(parents=True, exist_ok=True)
            fresh.mkdir()
            for name, content in ((WEIGHTS, weights), (MANIFEST, text.encode())):
                write_verified(fresh / name, content)
            sync_folder(fresh)
            if folder.exists():
                # A folder cannot be replaced in one step: the old one steps aside first.
                folder.rename(aside)
            fresh.rename(folder)
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        remove(fresh)
        raise
    with explained(folder, "made durable", "the new checkpoint is in place"):
        sync_folder(folder.parent)
    remove(aside)
    return folder


def load_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The state that `save_checkpoint` was given, arrays in NumPy.

    Raises OSError, in one line, when a file is missing or its size or SHA-256 is another.
    """
    manifest, weights = _verified(Path(folder))
    arrays = _parse(Path(folder) / WEIGHTS, weights)[0]
    return _decode(manifest["state"], arrays)


def latest_checkpoint(root: str | Path) -> Path | None:
    """The newest checkpoint below `root` that verifies, or None; damaged ones are logged.

    Newest means the highest number in the name (`step-000200` after `step-000100`).
    """
    return next(_verifying(Path(root)), None)


def prune_checkpoints(root: str | Path, keep: int) -> list[Path]:
    """Removes all but the newest `keep` checkpoints that verify, and what a crash left behind.

    Damaged checkpoints never count as kept; those newer than the last one kept stay where they are.
    Returns the folders removed.
    """
    if keep < 1:
        raise ValueError(f"prune_checkpoints: keep is {keep}, expected at least 1")
    root = Path(root)
    for leftover in root.glob(".*.tmp"):
        remove(leftover)
    kept = list(itertools.islice(_verifying(root), keep))
    if len(kept) < keep:
        return []
    ordered = _checkpoints(root)
    old = ordered[ordered.index(kept[-1]) + 1 :]
    for folder in old:
        # Renamed first, so that a crash half-way leaves no damaged checkpoint.
        aside = temporary(folder)
        folder.rename(aside)
        remove(aside)
    return old


def _checkpoints(root: Path) -> list[Path]:
    """Folders below `root` that hold or should hold a checkpoint, newest first."""

    def order(path: Path) -> tuple[int, str]:
        numbers = re.findall(r"\d+", path.name)
        return (int(numbers[-1]) if numbers else -1), path.name

    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    return sorted(folders, key=order, reverse=True)


def _verifying(root: Path) -> Iterator[Path]:
    for folder in _checkpoints(root):
        try:
            _verified(folder)
        except OSError as error:
            log.warning("skipping a damaged checkpoint: %s", error)
        else:
            yield folder


def _verified(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The manifest and the weights' bytes of a checkpoint whose checksums are right."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_bytes(path))
        recorded = manifest.pop("sha256")
        if manifest["format"] != FORMAT:
            raise OSError(f"{path}: has format {manifest['format']!r}, this version reads {FORMAT}")
        whole, expected = recorded == sha256(_canonical(manifest)), manifest["files"][WEIGHTS]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{path}: damaged or not a checkpoint's manifest ({error!r})") from error
    if not whole:
        raise OSError(f"{path}: damaged: its SHA-256 is not the one it records")
    weights = read_bytes(folder / WEIGHTS)
    if len(weights) != expected["bytes"]:
        raise OSError(
            f"{folder / WEIGHTS}: truncated: {len(weights)} bytes, the manifest says "
            f"{expected['bytes']}"
        )
    if sha256(weights) != expected["sha256"]:
        raise OSError(f"{folder / WEIGHTS}: damaged: its SHA-256 is not the manifest's")
    return manifest, weights


def _encode(value: Any, key: str, arrays: dict[str, np.ndarray], where: str) -> Any:
    """`value` for JSON, its arrays moved into `arrays` and named by their dotted key."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or name.startswith("$"):
                raise TypeError(
                    f"{where}: the key {name!r} in {key or 'the state'}: keys must be strings "
                    "that do not start with '$'"
                )
        return {
            name: _encode(item, f"{key}.{name}" if key else name, arrays, where)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_encode(item, f"{key}.{i}", arrays, where) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if key in arrays:
        raise ValueError(f"{where}: two arrays are both named {key!r} once flattened")
    arrays[key] = _array(value, f"{where}: {key!r}")
    return {"$array": key}


def _decode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"$array"}:
        return arrays[tree["$array"]]
    if tree.keys() == {"$float"}:
        return float(tree["$float"])
    return {key: _decode(item, arrays) for key, item in tree.items()}


def _flat(state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(dotted name, leaf) of a nested dict; raises when two leaves get one name."""

    def walk(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"save: the key {key!r} is {type(key).__name__}; expected a string")
            if isinstance(item, Mapping):
                yield from walk(item, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", item

    pairs = list(walk(state, ""))
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen or key == "__metadata__":
            raise ValueError(f"save: the name {key!r} is reserved or given twice once flattened")
        seen.add(key)
    return pairs


def _array(value: Any, where: str) -> np.ndarray:
    """A C-contiguous little-endian array of a dtype that safetensors has (0-d stays 0-d)."""
    numpy = getattr(value, "numpy", None)
    if callable(numpy):
        value = numpy()
    if not isinstance(value, np.ndarray | np.generic | bool | int | float):
        raise TypeError(f"{where} is {type(value).__name__}; expected an array or a number")
    array = np.asarray(value)
    if array.dtype.name not in _SAVED:
        raise TypeError(f"{where} is of {array.dtype}; expected one of {', '.join(sorted(_SAVED))}")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _serialize(arrays: dict[str, np.ndarray], metadata: Mapping[str, str] | None) -> bytes:
    from safetensors.numpy import save as to_bytes

    return to_bytes(arrays, dict(metadata) if metadata else None)


def _header(path: str | Path, content: bytes, size: int) -> dict[str, Any]:
    """The JSON header of a safetensors file of `size` bytes, once sizes are seen to agree."""
    length = int.from_bytes(content[:8], "little")
    if size < 8 or length > size - 8:
        raise OSError(f"{path}: truncated or not a safetensors file ({size} bytes)")
    try:
        header = json.loads(content[8 : 8 + length])
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise OSError(f"{path}: damaged or not a safetensors file ({error!r})") from error
    if end != size:
        raise OSError(f"{path}: truncated or damaged: {size} bytes, its header says {end}")
    return header


def _parse(path: str | Path, content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, header); each array is a writable copy."""
    header = _header(path, content, len(content))
    data = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    arrays = {}
    for name, item in header.items():
        if name == "__metadata__":
            continue
        try:
            start, end = item["data_offsets"]
            array = np.frombuffer(data[start:end], _DTYPES[item["dtype"]]).reshape(item["shape"])
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"{path}: {name!r} is damaged or of an unknown dtype: {item}") from error
        if item["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array.copy()
    return arrays, header


def _canonical(tree: Any) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
