"""Files: safetensors, checkpoints, JSON lines; what damage, a full disk and kill -9 leave."""

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigen import files, io

REPOSITORY = Path(__file__).parent.parent


class Wrapped:
    """Anything with .numpy(), as a Tensor is."""

    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


def one_line(error):
    return "\n" not in str(error.value)


# --- safetensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(io._SAVED))
def test_every_dtype_comes_back(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    io.save(tmp_path / "a.safetensors", {"x": array, "empty": array[:0], "one": array[0, 1]})
    back = io.load(tmp_path / "a.safetensors")
    assert back["x"].dtype == array.dtype and np.array_equal(back["x"], array)
    assert back["empty"].shape == (0, 4) and back["one"].shape == ()
    assert back["x"].flags.writeable


def test_any_memory_layout_comes_back(tmp_path):
    base = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    state = {
        "channels_last": base.transpose(0, 3, 1, 2),
        "strided": base[:, ::2, ::-1],
        "big_endian": base.astype(">f4"),
        "wrapped": Wrapped(base),
    }
    io.save(tmp_path / "a", state)
    back = io.load(tmp_path / "a")
    for key, value in state.items():
        expected = value.numpy() if key == "wrapped" else value
        assert np.array_equal(back[key], expected) and back[key].shape == expected.shape


def test_nested_names_are_dotted_and_numbers_are_arrays(tmp_path):
    io.save(tmp_path / "a", {"net": {"w": np.ones(2), "steps": 2**62 + 1}, "rate": 0.1, "on": True})
    back = io.load(tmp_path / "a")
    assert set(back) == {"net.w", "net.steps", "rate", "on"}
    assert back["net.steps"] == 2**62 + 1 and back["rate"] == 0.1 and back["on"].dtype == bool


def test_the_library_reads_our_file_and_we_read_bfloat16(tmp_path):
    from safetensors import numpy as library

    io.save(tmp_path / "a", {"x": np.eye(3)}, {"made": "here"})
    assert np.array_equal(library.load_file(tmp_path / "a")["x"], np.eye(3))
    assert io.load_metadata(tmp_path / "a") == {"made": "here"}
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    bits = np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16
    content = len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes()
    (tmp_path / "b").write_bytes(content)
    assert io.load(tmp_path / "b")["x"].tolist() == [1.5, -2.0]


def test_save_refuses_what_it_cannot_keep(tmp_path):
    with pytest.raises(TypeError, match=r"'a' is str; expected an array or a number"):
        io.save(tmp_path / "a", {"a": "text"})
    with pytest.raises(TypeError, match="complex128"):
        io.save(tmp_path / "a", {"a": np.ones(2, complex)})
    with pytest.raises(TypeError, match="object"):
        io.save(tmp_path / "a", {"a": np.array([None])})
    with pytest.raises(TypeError, match="expected a string"):
        io.save(tmp_path / "a", {3: np.ones(2)})
    with pytest.raises(ValueError, match=r"'a\.b' is reserved or given twice"):
        io.save(tmp_path / "a", {"a.b": np.ones(2), "a": {"b": np.ones(2)}})
    with pytest.raises(TypeError, match="expected strings"):
        io.save(tmp_path / "a", {"a": np.ones(2)}, {"step": 3})
    assert list(tmp_path.iterdir()) == []


def test_load_names_the_fault(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors: cannot be read: No such file"):
        io.load(path)
    io.save(path, {"x": np.ones(100)})
    whole = path.read_bytes()
    for length in (0, 5, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match="truncated") as error:
            io.load(path)
        assert one_line(error) and str(path) in str(error.value)
    with pytest.raises(OSError, match="truncated"):
        io.load_metadata(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(OSError, match="its header says"):
        io.load(path)
    path.write_bytes(whole[:8] + b"#" + whole[9:])
    with pytest.raises(OSError, match="damaged or not a safetensors file"):
        io.load(path)
    path.write_bytes(whole.replace(b'"F64"', b'"Q64"'))
    with pytest.raises(OSError, match="'x' is damaged or of an unknown dtype"):
        io.load(path)
    path.write_bytes(whole.replace(b"[100]", b"[101]"))
    with pytest.raises(OSError, match="'x' is damaged"):
        io.load(path)


# --- checkpoints ---------------------------------------------------------------------------------


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


STATE = {
    "model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": Wrapped(np.zeros(3))},
    "optimizer": {"m": [np.ones(2), np.zeros(2)], "step": 12, "rate": 0.1 + 0.2},
    "seed": 2**64 - 1,
    "negative": -(2**63),
    "name": "gan\nline é",
    "best": float("-inf"),
    "nothing": None,
    "flags": [True, False, (1, 2.5)],
    "empty": {},
    "numpy": {"i": np.int64(2**62 + 1), "f": np.float32(0.1)},
}


def test_a_checkpoint_comes_back_exactly(tmp_path):
    folder = io.save_checkpoint(tmp_path / "checkpoints" / "step-000012", STATE)
    assert sorted(path.name for path in folder.iterdir()) == [io.MANIFEST, io.WEIGHTS]
    back = io.load_checkpoint(folder)
    assert back.keys() == STATE.keys()
    assert np.array_equal(back["model"]["w"], STATE["model"]["w"])
    assert back["model"]["b"].tolist() == [0, 0, 0]
    assert [m.tolist() for m in back["optimizer"]["m"]] == [[1, 1], [0, 0]]
    for key in ("seed", "negative", "name", "best", "nothing", "empty"):
        assert back[key] == STATE[key] and type(back[key]) is type(STATE[key])
    assert back["optimizer"]["rate"] == 0.1 + 0.2 and back["flags"] == [True, False, [1, 2.5]]
    assert back["numpy"] == {"i": 2**62 + 1, "f": float(np.float32(0.1))}


def test_a_checkpoint_is_replaced_whole(tmp_path):
    for value in (1, 2):
        io.save_checkpoint(tmp_path / "step-1", {"value": value})
    assert io.load_checkpoint(tmp_path / "step-1") == {"value": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_checkpoint_refuses_what_it_cannot_keep(tmp_path):
    for state, message in (
        ({"a": {1: 2}}, "the key 1 in a: keys must be strings"),
        ({"$array": 2}, r"the key '\$array' in the state"),
        ({"a": {"b": object()}}, "'a.b' is object; expected an array or a number"),
        ({"a": b"bytes"}, "'a' is bytes"),
    ):
        with pytest.raises(TypeError, match=message):
            io.save_checkpoint(tmp_path / "step-1", state)
    with pytest.raises(ValueError, match=r"two arrays are both named 'a\.b'"):
        io.save_checkpoint(tmp_path / "step-1", {"a.b": np.ones(1), "a": {"b": np.ones(1)}})
    assert list(tmp_path.iterdir()) == []


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damage_is_found_and_the_one_before_is_used(tmp_path, caplog):
    for step in (1, 2, 9, 10, 100):
        io.save_checkpoint(tmp_path / f"step-{step}", {"step": step, "w": np.full(50, step)})
    (tmp_path / "notes.txt").write_text("")
    assert io.latest_checkpoint(tmp_path).name == "step-100"
    damage(tmp_path / "step-100" / io.WEIGHTS)
    damage(tmp_path / "step-10" / io.MANIFEST)
    os.truncate(tmp_path / "step-9" / io.WEIGHTS, 99)
    (tmp_path / "step-2" / io.MANIFEST).unlink()
    for step, message in (
        (100, r"weights\.safetensors: damaged: its SHA-256"),
        (10, r"manifest\.json: damaged"),
        (9, r"weights\.safetensors: truncated: 99 bytes, the manifest says"),
        (2, r"manifest\.json: cannot be read: No such file"),
    ):
        with pytest.raises(OSError, match=message) as error:
            io.load_checkpoint(tmp_path / f"step-{step}")
        assert one_line(error)
    with caplog.at_level(logging.WARNING):
        assert io.latest_checkpoint(tmp_path).name == "step-1"
    assert caplog.text.count("skipping a damaged checkpoint") == 4
    damage(tmp_path / "step-1" / io.WEIGHTS)
    assert io.latest_checkpoint(tmp_path) is None
    assert io.latest_checkpoint(tmp_path / "nowhere") is None


def test_a_manifest_of_another_format(tmp_path):
    folder = io.save_checkpoint(tmp_path / "step-1", {})
    text = (folder / io.MANIFEST).read_text()
    (folder / io.MANIFEST).write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(OSError, match="has format 2, this version reads 1"):
        io.load_checkpoint(folder)
    for text in ("[]", "3", "{", "{}"):
        (folder / io.MANIFEST).write_text(text)
        with pytest.raises(OSError, match="not a checkpoint's manifest"):
            io.load_checkpoint(folder)


def test_prune_keeps_the_newest_good_ones(tmp_path):
    for step in range(1, 7):
        io.save_checkpoint(tmp_path / f"step-{step}", {"step": step})
    damage(tmp_path / "step-6" / io.WEIGHTS)
    (tmp_path / ".step-9.abc.tmp").mkdir()
    removed = io.prune_checkpoints(tmp_path, 2)
    assert sorted(path.name for path in removed) == ["step-1", "step-2", "step-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "step-5", "step-6"]
    assert io.prune_checkpoints(tmp_path, 5) == []
    with pytest.raises(ValueError, match="keep is 0"):
        io.prune_checkpoints(tmp_path, 0)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_makes_no_checkpoint(tmp_path, monkeypatch, call):
    io.save_checkpoint(tmp_path / "step-1", {"step": 1})
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        monkeypatch.setattr(Path, "rename", full_disk)
    for name in ("step-1", "step-2"):
        message = f"{name}: cannot be written: No space left on device; no checkpoint was made"
        with pytest.raises(OSError, match=message):
            io.save_checkpoint(tmp_path / name, {"step": 2})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert io.load_checkpoint(tmp_path / "step-1") == {"step": 1}


def test_a_checkpoint_stepping_aside_comes_back_when_the_new_one_fails(tmp_path, monkeypatch):
    io.save_checkpoint(tmp_path / "step-1", {"step": 1})
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(self)
        return full_disk() if len(calls) == 2 else rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="no checkpoint was made"):
        io.save_checkpoint(tmp_path / "step-1", {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert io.load_checkpoint(tmp_path / "step-1") == {"step": 1}


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="root, tmpfs")
def test_a_disk_that_is_really_full(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        io.save_checkpoint(tmp_path / "step-1", {"w": np.zeros(10_000)})
        with pytest.raises(OSError, match="No space left on device; no checkpoint was made"):
            io.save_checkpoint(tmp_path / "step-2", {"w": np.zeros(100_000)})
        with pytest.raises(OSError, match="No space left on device; no file was left"):
            io.save(tmp_path / "w", {"w": np.zeros(100_000)})
        assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
        with pytest.raises(OSError, match="its earlier lines are intact"):
            for step in range(10_000):
                files.append_line(tmp_path / "metrics.jsonl", {"step": step, "text": "x" * 1000})
        assert len(files.read_jsonl(tmp_path / "metrics.jsonl")) > 10
        assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


WRITER = """
import sys, numpy as np
from minigen import files, io
root = sys.argv[1]
sys.stdout.write("ready\\n"); sys.stdout.flush()
step = int(sys.argv[2])
while True:
    step += 1
    io.save_checkpoint(f"{root}/checkpoints/step-{step}",
                       {"step": step, "w": np.full(20000, step)})
    files.append_line(f"{root}/metrics.jsonl", {"step": step})
    files.write_text_atomic(f"{root}/config.toml", f"step = {step}\\n" * 1000)
    if step % 5 == 0:
        io.prune_checkpoints(f"{root}/checkpoints", 2)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path):
    moments, step = random.Random(0), 0
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(step)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        with writer:
            assert writer.stdout.readline() == b"ready\n"
            while step == 0 and io.latest_checkpoint(tmp_path / "checkpoints") is None:
                time.sleep(0.005)
            time.sleep(moments.uniform(0.01, 0.15))
            writer.send_signal(signal.SIGKILL)
        latest = io.latest_checkpoint(tmp_path / "checkpoints")
        state = io.load_checkpoint(latest)
        assert state["step"] >= step and (state["w"] == state["step"]).all()
        step = state["step"]
        if (tmp_path / "metrics.jsonl").exists():
            files.truncate_jsonl(tmp_path / "metrics.jsonl", lambda r, step=step: r["step"] <= step)
            assert all(r["step"] <= step for r in files.read_jsonl(tmp_path / "metrics.jsonl"))
        if (tmp_path / "config.toml").exists():
            lines = set((tmp_path / "config.toml").read_text().splitlines())
            assert len(lines) == 1
    assert step > 6
