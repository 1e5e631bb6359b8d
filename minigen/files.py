"""Atomic files and JSON lines: what a crash, a full disk or a kill leaves is always readable.

A reader finds either the old file whole or the new one whole. One process at a time writes to one
file. Nothing here may know of arrays.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_LEFTOVER_AGE = 3600.0  # seconds after which a temporary file is surely nobody's any more
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def write_text_atomic(path: str | Path, text: str) -> None:
    """Writes UTF-8 text so that a reader sees the old text or the new one, never a part of it."""
    write_atomic(Path(path), text.encode("utf-8"))


def append_line(path: str | Path, record: Mapping[str, Any]) -> None:
    """Appends one JSON object as a line, at once; a torn last line is cut off before.

    NaN and infinities, which JSON lacks, are written as "NaN", "Infinity", "-Infinity". Raises
    OSError, in one line, when it cannot be written; the earlier lines are then intact.
    """
    line = json.dumps(_finite(record), default=_number, allow_nan=False).encode() + b"\n"
    with (
        explained(path, "written", "its earlier lines are intact"),
        open(path, "ab+", buffering=0) as file,
    ):
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                end = file.read().rfind(b"\n") + 1
                file.truncate(end)
                log.warning("%s: a torn last line was cut off", path)
        try:
            if file.write(line) != len(line):
                raise OSError("only a part of the line fitted")
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line without its newline is torn and left out.

    Raises OSError naming the line when one before the last is damaged.
    """
    *lines, _ = read_bytes(path).split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise OSError(f"{path}: line {number} is damaged ({error}); remove it") from error
        if not isinstance(record, dict):
            raise OSError(f"{path}: line {number} is {line[:40]!r}, expected a JSON object")
        records.append(_unfinite(record))
    return records


def truncate_jsonl(path: str | Path, keep: Callable[[dict[str, Any]], bool]) -> int:
    """Rewrites a file of JSON lines with only the records that `keep` accepts; returns the rest.

    The number of records dropped is returned. Atomic; a torn last line goes too.
    """
    records = read_jsonl(path)
    kept = [record for record in records if keep(record)]
    write_text_atomic(path, "".join(json.dumps(_finite(r), allow_nan=False) + "\n" for r in kept))
    return len(records) - len(kept)


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces `path` by a file of `content`, once that is on the disk and was read back.

    Raises OSError, in one line that says what is left; temporary files never stay behind.
    """
    left = "the earlier file is intact" if path.exists() else "no file was left"
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
                leftover.unlink()
    fresh = temporary(path)
    try:
        with explained(path, "written", left):
            write_verified(fresh, content)
            os.replace(fresh, path)
    except BaseException:
        remove(fresh)
        raise
    with explained(path, "made durable", "the new file is in place"):
        sync_folder(path.parent)


def write_verified(path: Path, content: bytes) -> None:
    """Writes a new file through to the disk and reads it back."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256(content):
        raise OSError("what was read back differs from what was written")


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; raises OSError in one line."""
    with explained(path, "read"):
        return Path(path).read_bytes()


@contextlib.contextmanager
def explained(path: str | Path, action: str, left: str = "") -> Iterator[None]:
    """Turns an OSError into one of a single line that names the file and what is left intact."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{path}: cannot be {action}: {reason}" + (f"; {left}" if left else "")
        named = type(error)(message)
        named.errno = error.errno
        raise named from error


def temporary(path: Path) -> Path:
    """A new hidden name beside `path`, on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def remove(path: Path) -> None:
    """Removes a file or a folder as far as that is possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes names in a folder durable; Windows cannot and need not."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(content: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _number(value: Any) -> Any:
    """What json.dumps does with NumPy's numbers and 0-d arrays."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _finite(value.item())
    raise TypeError(f"append_line: {value!r} is {type(value).__name__}; expected JSON values")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return value


def _unfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unfinite(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
