"""Batches: reproducible order, exact resume, errors at their batch, no thread left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen.data import Batches, DataError, Dataset, load, parse_augment
from minigen.data.augment import colours, crop, flip, noise
from minigen.data.dataset import LazyImages

REPOSITORY = Path(__file__).parent.parent.parent


def numbered(count=20, channels=1, size=4):
    """Image i holds the value i everywhere, so that a batch tells which images it has."""
    images = np.zeros((count, channels, size, size), np.uint8) + np.arange(count)[
        :, None, None, None
    ].astype(np.uint8)
    return Dataset(images, np.arange(count), name="numbered")


def take(batches, count):
    return [next(batches) for _ in range(count)]


def same(one, other):
    return all(
        np.array_equal(x, y) and np.array_equal(a, b)
        for (x, a), (y, b) in zip(one, other, strict=True)
    )


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    gc.collect()
    assert [t.name for t in threading.enumerate() if t.name == "minigen-batches"] == []


def test_an_epoch_has_every_image_once_in_an_order_of_its_own():
    with Batches(numbered(), 5, seed=1, value_range=(0, 255)) as batches:
        assert batches.batches_per_epoch == 4
        epochs = []
        for epoch in range(3):
            assert batches.epoch == epoch
            batch = take(batches, 4)
            for images, labels in batch:
                assert images.dtype == np.float32 and images.shape == (5, 1, 4, 4)
                assert np.array_equal(images[:, 0, 0, 0].round(), labels)
            epochs.append(np.concatenate([labels for _, labels in batch]).tolist())
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(20))


def test_the_stream_depends_on_the_seed_only():
    def stream(**options):
        with Batches(numbered(), 6, augment="flip,crop:1,noise", **options) as batches:
            return take(batches, 8)

    reference = stream(seed=3, prefetch=0)
    assert same(reference, stream(seed=3, prefetch=1))
    assert same(reference, stream(seed=3, prefetch=9))
    assert not same(reference, stream(seed=4))


def test_without_shuffle_and_with_the_rest():
    with Batches(numbered(7), 3, seed=0, shuffle=False, drop_last=False) as batches:
        assert batches.batches_per_epoch == 3
        labels = [labels.tolist() for _, labels in take(batches, 4)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    with Batches(numbered(7), 3, seed=0, shuffle=False) as batches:
        assert [labels.tolist() for _, labels in take(batches, 3)][2] == [0, 1, 2]


@settings(max_examples=15, deadline=None)
@given(
    consumed=st.integers(0, 9),
    prefetch=st.integers(0, 3),
    drop_last=st.booleans(),
    augment=st.sampled_from(["", "noise", "flip,crop:2,noise", "turn,colours"]),
)
def test_resume_is_bit_identical(consumed, prefetch, drop_last, augment):
    options = {"seed": 7, "drop_last": drop_last, "augment": augment, "prefetch": prefetch}
    data = numbered(11, channels=3)
    with Batches(data, 4, **options) as batches:
        take(batches, consumed)
        state = batches.state_dict()
        expected = take(batches, 4)
        batches.load_state_dict(state)  # rewinds in place, too
        assert same(expected, take(batches, 4))
    assert state["batches"] == consumed
    with Batches(data, 4, **options) as resumed:
        resumed.load_state_dict(state)
        assert same(expected, take(resumed, 4))


def test_a_state_of_other_settings_is_refused():
    with Batches(numbered(), 4, seed=1, augment="crop:2,flip") as batches:
        state = batches.state_dict()
        assert state == {
            "batches": 0, "images": 20, "batch_size": 4, "seed": 1, "shuffle": True,
            "drop_last": True, "augment": "crop:2,flip",
        }  # fmt: skip
        for key, value in (("seed", 2), ("batch_size", 5), ("augment", ""), ("images", 3)):
            with pytest.raises(ValueError, match=f"the saved state has {key} {value!r}, these"):
                batches.load_state_dict({**state, key: value})
        for bad in (-1, 1.5, True, "3"):
            with pytest.raises(ValueError, match="expected 0, 1, 2"):
                batches.load_state_dict({**state, "batches": bad})
        batches.load_state_dict({"batches": 3})
        assert batches.state_dict()["batches"] == 3


def test_bad_arguments():
    for size in (0, 21):
        with pytest.raises(ValueError, match=f"batch_size {size} for 20 images; expected 1 to 20"):
            Batches(numbered(), size, seed=0)
    with pytest.raises(ValueError, match="seed is -1, expected an int in"):
        Batches(numbered(), 5, seed=-1)
    with pytest.raises(ValueError, match="crop:4: images of 4x4 pixels need a smaller padding"):
        Batches(numbered(), 5, seed=0, augment="flip,crop:4")
    with pytest.raises(ValueError, match="prefetch is -1"):
        Batches(numbered(), 5, seed=0, prefetch=-1)
    with pytest.raises(ValueError, match=r"expected \(low, high\) with low < high"):
        Batches(numbered(), 5, seed=0, value_range=(1, -1))


def test_values_and_memory():
    dataset = load("photos")
    with Batches(dataset, 4, seed=0, augment="flip,crop:8,noise") as batches:
        images, _ = next(batches)
        assert images.shape == (4, 3, 64, 64) and -1 <= images.min() < images.max() <= 1
        assert images.transpose(0, 2, 3, 1).flags.c_contiguous and images.flags.writeable
    with Batches(dataset, 4, seed=0, shuffle=False, value_range=(0, 1)) as batches:
        assert np.array_equal(next(batches)[0], dataset.batch(range(4))[0])
    with Batches(dataset, 4, seed=0, shuffle=False) as batches:
        assert np.array_equal(next(batches)[0], dataset.batch(range(4))[0] * 2 - 1)
    unlabelled = Dataset(dataset.images, name="unlabelled")
    with Batches(unlabelled, 4, seed=0) as batches:
        assert next(batches)[1] is None


class Damaged(LazyImages):
    """Images of which number `bad` cannot be read, until it is repaired."""

    def __init__(self, bad):
        self.bad, self.shape, self.dtype = bad, (20, 1, 4, 4), np.dtype(np.uint8)

    def take(self, indices):
        if self.bad in indices:
            raise DataError(f"image {self.bad} cannot be read")
        return np.zeros((len(indices), 1, 4, 4), np.uint8)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_comes_at_its_batch_and_again_until_repaired(prefetch):
    images = Damaged(11)
    with Batches(Dataset(images, name="d"), 5, seed=0, shuffle=False, prefetch=prefetch) as batches:
        take(batches, 2)
        for _ in range(2):
            with pytest.raises(DataError, match="image 11 cannot be read"):
                next(batches)
            assert batches.state_dict()["batches"] == 2
        images.bad = -1
        take(batches, 3)
        assert batches.state_dict()["batches"] == 5


@pytest.mark.parametrize("prefetch", [0, 2])
def test_prepare_shows_a_fault_and_takes_nothing(prefetch):
    images = Damaged(3)
    options = {"seed": 0, "shuffle": False, "prefetch": prefetch}
    with Batches(Dataset(images, np.arange(20), name="d"), 5, **options) as batches:
        with pytest.raises(DataError, match="image 3 cannot be read"):
            batches.prepare()
        images.bad = -1
        batches.prepare()
        batches.prepare()
        assert [labels[0] for _, labels in take(batches, 3)] == [0, 5, 10]


def test_close_and_forgetting_end_the_thread():
    def running():
        return any(t.name == "minigen-batches" for t in threading.enumerate())

    batches = Batches(numbered(), 5, seed=0, prefetch=3)
    assert not running()  # nothing starts before the first batch is asked for
    next(batches)
    assert running()
    batches.close()
    batches.close()
    assert not running()
    with pytest.raises(ValueError, match="these Batches were closed"):
        next(batches)
    forgotten = Batches(numbered(), 5, seed=0)
    next(forgotten)
    del forgotten
    gc.collect()
    assert not running()


def test_prefetch_is_bounded_and_ahead():
    seen = []

    class Watched(Damaged):
        def take(self, indices):
            seen.append(indices[0] // 5)
            return super().take(indices)

    dataset = Dataset(Watched(-1), name="watched")
    with Batches(dataset, 5, seed=0, shuffle=False, prefetch=2) as batches:
        next(batches)
        deadline = time.monotonic() + 5
        while len(seen) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        # One taken, two ready, one in the thread's hand.
        assert [int(number) for number in seen] == [0, 1, 2, 3]


LOOP = """
import signal, sys, threading
from minigen.data import Batches, load
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = Batches(load("fashion-mnist", "test"), 100, seed=0, augment="noise")
count = 0
try:
    while True:
        next(batches)
        count += 1
        if count == 3:
            sys.stdout.write("ready\\n"); sys.stdout.flush()
except KeyboardInterrupt:
    state = batches.state_dict()["batches"]
    assert abs(state - count) <= 1, (state, count)
    images, labels = next(batches)
    check = Batches(load("fashion-mnist", "test"), 100, seed=0, augment="noise", prefetch=0)
    check.load_state_dict({"batches": state})
    expected, expected_labels = next(check)
    assert (images == expected).all() and (labels == expected_labels).all()
    batches.close()
    assert threading.active_count() == 1
    sys.stdout.write("interrupted\\n")
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
@pytest.mark.parametrize("end", ["interrupt", "exit"])
def test_ctrl_c_and_leaving_without_close(end):
    code = LOOP if end == "interrupt" else LOOP.replace("while True", "while count < 3")
    loop = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with loop:
        assert loop.stdout.readline() == b"ready\n"
        if end == "interrupt":
            time.sleep(0.03)
            loop.send_signal(signal.SIGINT)
        out, err = loop.communicate(timeout=60)
    assert (out, err) == (b"interrupted\n" if end == "interrupt" else b"", b"")
    assert loop.returncode == 0


# --- augmentation --------------------------------------------------------------------------------


def test_flip():
    images = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    out = flip(images, np.array([0.49, 0.5], np.float32))
    assert np.array_equal(out[0], images[0, ..., ::-1]) and np.array_equal(out[1], images[1])


def test_crop():
    images = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
    centre = (2 + 0.5) / 5  # offset 2 of 0..4: no shift
    numbers = np.array([[centre, centre], [0, 1 - 2**-24]], np.float32)
    out = crop(images, numbers, 2)
    assert np.array_equal(out[0], images[0])
    padded = np.pad(images[1, 0], 2, "reflect")
    assert np.array_equal(out[1, 0], padded[:4, 4:])
    with pytest.raises(ValueError, match="images of 4x4 pixels need a smaller padding"):
        crop(images, numbers, 4)


def test_colours_are_in_every_order_equally_often():
    images = np.broadcast_to(np.arange(3, dtype=np.float32)[:, None, None], (6000, 3, 2, 2))
    out = colours(images, np.random.default_rng(0).random((6000, 3), np.float32))
    assert np.array_equal(out, np.broadcast_to(out[:, :, :1, :1], out.shape))
    _, counts = np.unique(out[:, :, 0, 0], axis=0, return_counts=True)
    assert len(counts) == 6 and 900 < counts.min() <= counts.max() < 1100


def test_noise_is_uniform_dequantization():
    images = np.array([0, 1, 255], np.float32).reshape(1, 1, 1, 3) / 255
    low, high = noise(images, np.zeros_like(images)), noise(images, images * 0 + 0.999)
    assert np.allclose(low * 256, [0, 1, 255]) and np.allclose(high * 256, [0.999, 1.999, 255.999])
    assert high.dtype == np.float32 and high.max() <= 1


def test_parse():
    assert [each.name for each in parse_augment("flip, crop:4,noise")] == [
        "flip",
        "crop:4",
        "noise",
    ]
    assert [each.name for each in parse_augment(["flip", "crop:02"])] == ["flip", "crop:2"]
    assert parse_augment("") == parse_augment(()) == ()
    assert [each.shape((5, 3, 4, 4)) for each in parse_augment("turn,colours")] == [(5,), (5, 3)]
    for bad, message in (
        ("spin", "no 'spin'; there are flip, turn, crop:PIXELS, colours and noise"),
        ("crop", "crop: is not understood; expected for instance crop:4"),
        ("crop:-1", "crop:-1 is not understood"),
        ("crop:0", "crop:0 is not understood"),
        ("flip:2", "flip takes no parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_augment(bad)
