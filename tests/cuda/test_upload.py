"""Batches on a GPU: the CPU's, copied ahead on a stream of their own, and never overwritten."""

import gc
import threading
import time

import numpy as np
import pytest

from minigen import backend
from minigen.data import Batches, Dataset
from minigen.data.upload import Uploader
from tests.cuda import fake_cuda, fake_cupy


def dataset(labels=True):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 4)).astype(np.uint8)
    return Dataset(images, np.arange(20) if labels else None, name="noise")


def waiting_for(worker, count):
    """Wait until the thread has made so many batches."""
    end = time.monotonic() + 10
    while len(worker._ready) < count and time.monotonic() < end:
        time.sleep(0.01)
    assert len(worker._ready) >= count


@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
@pytest.mark.parametrize("labels", [True, False])
def test_they_are_those_of_the_cpu(gpu, prefetch, labels):
    settings = {"seed": 3, "augment": "flip", "prefetch": prefetch}
    with (
        Batches(dataset(labels), 6, **settings) as here,
        Batches(dataset(labels), 6, **settings, device="cuda") as there,
    ):
        kept = []
        for _ in range(8):
            (a, b), (x, y) = next(here), next(there)
            kept.append((a, x))
            assert backend.device_of(x) == "cuda:0" and x.strides == a.strides
            assert (b is None) == (y is None) == (not labels)
            if labels:
                np.testing.assert_array_equal(y.get(), b, strict=True)
        for a, x in kept:  # later batches take other memory
            np.testing.assert_array_equal(x.get(), a, strict=True)
        state = there.state_dict()
        there.load_state_dict({**state, "batches": 2})
        np.testing.assert_array_equal(next(there)[0].get(), kept[2][0])
    assert [t.name for t in threading.enumerate() if t.name == "minigen-batches"] == []


def test_the_next_batch_is_on_its_way_before_it_is_asked_for(gpu):
    if gpu is not fake_cupy:
        pytest.skip("looks at what only the stand-in for CuPy counts")
    with Batches(dataset(), 4, seed=0, prefetch=3, device="cuda") as batches:
        batches.prepare()
        waiting_for(batches._worker, 2)
        first = next(batches)[0]
        before = dict(fake_cupy.counts)
        following = batches._worker._ready[0]
        assert following._copied is not None  # started, and nobody has waited for it
        assert not following.done()
        second = next(batches)[0]
        assert following.done()
        assert fake_cupy.counts["waits"] == before["waits"]
        assert np.isfinite(first.get()).all() and np.isfinite(second.get()).all()


def test_errors_come_at_their_batch(gpu):
    pixels = np.random.default_rng(1).uniform(0, 1, (8, 1, 3, 3)).astype(np.float32)
    pixels[5] = 7
    data = Dataset(pixels, None, name="bright")
    with Batches(data, 2, seed=0, shuffle=False, device="cuda") as batches:
        assert [next(batches)[0].shape for _ in range(2)] == [(2, 1, 3, 3)] * 2
        with pytest.raises(ValueError, match="image 5 has pixels"):
            next(batches)
        batches.load_state_dict({**batches.state_dict(), "batches": 3})
        assert next(batches)[0].shape == (2, 1, 3, 3)


def test_page_locked_memory_lives_until_it_is_copied(gpu):
    uploader = Uploader("cuda")
    host = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    upload = uploader.stage([host, None])
    upload.start()
    arrays = upload.arrays()
    del upload
    gc.collect()
    assert arrays[1] is None and len(uploader.flying) == 1
    np.testing.assert_array_equal(arrays[0].get(), host)
    last = uploader.stage([host])
    last.start()
    last.drop()
    assert last.done() and uploader.flying[-1] is last
    assert uploader.stage([np.float32(3).reshape(())]).arrays()[0].get() == 3
    if gpu is fake_cupy:
        assert isinstance(uploader.stream, fake_cuda.Stream) and not uploader.stream.null
