"""Atomic files and JSON lines: what a full disk, an interrupt and a torn line leave."""

import errno
import json
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest

from minigen import files, io


def one_line(error):
    return "\n" not in str(error.value)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


# --- atomic writing ------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left on device; no file was left") as error:
            io.save(path, {"x": np.zeros(3)})
        assert error.value.errno == errno.ENOSPC and one_line(error)
    assert list(tmp_path.iterdir()) == []
    io.save(path, {"x": np.zeros(3)})
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"a\.safetensors: .*; the earlier file is intact"):
        io.save(path, {"x": np.ones(3)})
    with pytest.raises(OSError, match="the earlier file is intact"):
        files.write_text_atomic(path, "text")
    assert list(tmp_path.iterdir()) == [path] and io.load(path)["x"].tolist() == [0, 0, 0]


def test_what_cannot_be_read_back_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "sha256", lambda content: "0" * 64)
    with pytest.raises(OSError, match="what was read back differs"):
        files.write_text_atomic(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_and_an_interrupt(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"nowhere/a: cannot be written: .*; no file was left"):
        io.save(tmp_path / "nowhere" / "a", {"x": np.zeros(3)})
    with pytest.raises(OSError, match="cannot be written"):
        io.save(tmp_path, {"x": np.zeros(3)})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="no checkpoint was made"):
        io.save_checkpoint(tmp_path / "file" / "step-1", {"a": 1})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_text_atomic(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="Permission denied; no file was left"):
        files.write_text_atomic(tmp_path / "a", "text")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_line_that_does_not_fit():
    with pytest.raises(OSError, match="No space left on device; its earlier lines are intact"):
        files.append_line("/dev/full", {"step": 1})


def test_old_leftovers_go_and_young_ones_stay(tmp_path):
    young, old = tmp_path / ".a.1234.tmp", tmp_path / ".a.5678.tmp"
    for path in (young, old):
        path.write_text("")
    os.utime(old, (time.time() - 7200,) * 2)
    files.write_text_atomic(tmp_path / "a", "é")
    assert sorted(tmp_path.iterdir()) == [young, tmp_path / "a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é"


# --- JSON lines ----------------------------------------------------------------------------------


def test_lines_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [
        {"step": 2**63 + 1, "loss": 0.1},
        {"step": 2, "loss": float("inf"), "parts": [1.5, -float("inf")]},
    ]
    for record in records:
        files.append_line(path, record)
    files.append_line(path, {"step": np.int64(3), "loss": np.float32("nan"), "psnr": np.array(0.5)})
    *back, last = files.read_jsonl(path)
    assert back == records and last["step"] == 3 and np.isnan(last["loss"]) and last["psnr"] == 0.5
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    with pytest.raises(TypeError, match="append_line"):
        files.append_line(path, {"x": object()})


def test_a_torn_tail_is_ignored_then_repaired(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    for step in range(3):
        files.append_line(path, {"step": step})
    whole = path.read_bytes()
    for cut in (1, 5, 10):
        path.write_bytes(whole[:-cut])
        assert [r["step"] for r in files.read_jsonl(path)] == [0, 1]
    with caplog.at_level(logging.WARNING):
        files.append_line(path, {"step": 9})
    assert [r["step"] for r in files.read_jsonl(path)] == [0, 1, 9] and "torn" in caplog.text
    path.write_bytes(b'{"st')
    assert files.read_jsonl(path) == []
    files.append_line(path, {"step": 7})
    assert path.read_bytes() == b'{"step": 7}\n'


def test_truncate_drops_what_came_after(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in range(5):
        files.append_line(path, {"step": step, "loss": float("nan")})
    path.write_bytes(path.read_bytes() + b'{"torn')
    assert files.truncate_jsonl(path, lambda record: record["step"] < 3) == 2
    assert [r["step"] for r in files.read_jsonl(path)] == [0, 1, 2]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(OSError, match=r"metrics\.jsonl: line 2 is damaged"):
        files.read_jsonl(path)
    path.write_bytes(b"3\n")
    with pytest.raises(OSError, match="line 1 is b'3', expected a JSON object"):
        files.read_jsonl(path)
