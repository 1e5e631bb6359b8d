"""Batches: an endless, reproducible, resumable stream of batches, made ahead by one thread.

On a GPU the next batch is copied while the GPU works on the present one.

Batch k is a pure function of the dataset, the seed and k: the order of an epoch comes from
(seed, epoch), augmentation from (seed, k). Nothing else may influence a batch, so resuming is a
matter of one integer.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigen.data.augment import Augmentation, parse
from minigen.data.dataset import Dataset
from minigen.data.upload import Upload, Uploader

Batch = tuple[Any, Any]  # images and labels: NumPy's arrays, or those of a device
ORDER, AUGMENT = 0, 1  # the streams of random numbers below the seed


def in_range(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """float32 images in [0, 1], their values brought to another range."""
    low, high = value_range
    if (low, high) == (0, 1):
        return images
    images = images * np.float32(high - low)
    images += np.float32(low)
    return images


class Batches:
    """Endless pairs (images, labels): float32 (B, C, H, W) in `value_range`, int64 (B,) or None.

    `augment` is a spec such as 'flip,crop:4,noise'. `prefetch` batches are made ahead by a thread
    (0: none, each is made when asked for). On a `device` other than "cpu" the arrays are that
    device's, copied there ahead of time too. What goes wrong in the thread is raised at the batch
    it concerns, and asking again tries that batch again. Use it in a `with` block, or call close().
    Raises ValueError when a batch is larger than the dataset or a crop does not fit the images.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = True,
        augment: str | Iterable[str | Augmentation] = (),
        prefetch: int = 2,
        value_range: tuple[float, float] = (-1, 1),
        device: str = "cpu",
    ):
        if not 1 <= batch_size <= len(dataset):
            raise ValueError(
                f"{dataset.name}: batch_size {batch_size} for {len(dataset)} images; "
                f"expected 1 to {len(dataset)}"
            )
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed is {seed}, expected an int in [0, 2**64)")
        if prefetch < 0:
            raise ValueError(f"prefetch is {prefetch}, expected 0 or more")
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range is {value_range}, expected (low, high) with low < high")
        self._plan = _Plan(
            dataset, int(batch_size), int(seed), shuffle, drop_last, parse(augment), (low, high)
        )
        blank = np.zeros((1, *dataset.image_shape), np.float32)
        for each in self._plan.augment:  # what does not fit is to show here, not in the thread
            each.apply(blank, np.zeros(each.shape(blank.shape), np.float32))
        self._prefetch = prefetch
        self._uploader = None if device == "cpu" else Uploader(device)
        self._position = 0
        self._worker: _Worker | None = None
        self._finalizer: weakref.finalize | None = None
        self._closed = False

    @property
    def batches_per_epoch(self) -> int:
        """How many batches one pass over the dataset gives."""
        return self._plan.per_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._position // self._plan.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise ValueError(f"{self._plan.dataset.name}: these Batches were closed")
        batch = self._next(_Worker.take)
        self._position += 1
        return batch

    def prepare(self) -> None:
        """Waits for the next batch, which stays the next; raises what is wrong with it."""
        self._next(_Worker.peek)

    def state_dict(self) -> dict[str, Any]:
        """The number of batches consumed, and what must be equal for resuming to be exact."""
        return {"batches": self._position, **self._plan.settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the batches that `state` counts, bit for bit.

        Raises ValueError when the state has another dataset size, seed, batch size or so.
        """
        for key, now in self._plan.settings().items():
            if state.get(key, now) != now:
                raise ValueError(
                    f"{self._plan.dataset.name}: the saved state has {key} {state[key]!r}, "
                    f"these Batches have {now!r}; resuming needs the same"
                )
        position = state["batches"]
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise ValueError(f"the saved state has batches {position!r}, expected 0, 1, 2 ...")
        self._stop()
        self._position = position

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        self._closed = True
        self._stop()
        if self._uploader is not None:
            self._uploader.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _next(self, get: Callable[["_Worker"], Any]) -> Any:
        if self._prefetch == 0:
            made = self._plan.make(self._position)
            return made if self._uploader is None else self._uploader.stage(made).arrays()
        # The positions differ after an interrupt (Ctrl-C) between two lines of __next__.
        worker = self._worker
        if worker is None or worker.position != self._position:
            worker = self._start()
        try:
            return get(worker)
        except BaseException:
            self._stop()
            raise

    def _start(self) -> "_Worker":
        self._stop()
        self._worker = worker = _Worker(self._plan, self._position, self._prefetch, self._uploader)
        # The thread knows the worker, not this object: forgetting the Batches ends the thread.
        self._finalizer = weakref.finalize(self, worker.stop)
        worker.thread.start()
        return worker

    def _stop(self) -> None:
        worker, finalizer = self._worker, self._finalizer
        self._worker = self._finalizer = None
        if finalizer is not None:
            finalizer.detach()
        if worker is not None:
            worker.stop()


@dataclass
class _Plan:
    """What determines batch k."""

    dataset: Dataset
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    augment: tuple[Augmentation, ...]
    value_range: tuple[float, float]
    per_epoch: int = field(init=False)
    _order: tuple[int, np.ndarray] | None = None

    def __post_init__(self) -> None:
        full, rest = divmod(len(self.dataset), self.batch_size)
        self.per_epoch = full + (rest > 0 and not self.drop_last)

    def settings(self) -> dict[str, Any]:
        return {
            "images": len(self.dataset),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "augment": ",".join(each.name for each in self.augment),
        }

    def make(self, k: int) -> Batch:
        import minigen.kernels as kernels  # late: reading data must not need the engine

        epoch, i = divmod(k, self.per_epoch)
        # Plain NumPy: the threads of the CPU kernels belong to the training step.
        with kernels.use("reference"):
            indices = self.order(epoch)[i * self.batch_size : (i + 1) * self.batch_size]
            images, labels = self.dataset.batch(indices)
            if self.augment:
                images = self._augmented(images, k)
        return in_range(images, self.value_range), labels

    def _augmented(self, images: np.ndarray, k: int) -> np.ndarray:
        rng = self._generator(AUGMENT, k)
        for each in self.augment:
            images = each.apply(images, rng.uniform(each.shape(images.shape)).numpy())
        # Channels-last again, whatever memory an augmentation returned.
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        if self._order is None or self._order[0] != epoch:
            order = self._generator(ORDER, epoch).permutation(len(self.dataset)).numpy()
            self._order = epoch, order
        return self._order[1]

    def _generator(self, stream: int, number: int) -> Any:
        from minigen.random import Generator

        return Generator(self.seed).spawn(stream).spawn(number)


class _Worker:
    """A thread that makes batches from `position` on, at most `ahead` more than were taken."""

    def __init__(self, plan: _Plan, position: int, ahead: int, uploader: Uploader | None):
        self.position = position  # of the batch that take() gives next
        self.thread = threading.Thread(
            target=self._run,
            args=(plan, position, ahead, uploader),
            name="minigen-batches",
            daemon=True,
        )
        self._ready: deque[Batch | Upload | BaseException] = deque()
        self._changed = threading.Condition()
        self._stopping = False

    def peek(self) -> Batch | Upload:
        """The next batch, which stays the next; raises what went wrong with it."""
        with self._changed:
            while not self._ready:
                if not self.thread.is_alive():
                    raise RuntimeError("the thread that makes batches is gone; was there a fork?")
                # With a time limit, because on Windows a wait without one ignores Ctrl-C.
                self._changed.wait(0.5)
            made = self._ready[0]
        if isinstance(made, BaseException):
            raise made
        return made

    def take(self) -> Batch:
        """The next batch, once; raises what went wrong with it."""
        batch = self.peek()
        with self._changed:
            self._ready.popleft()
            self.position += 1
            self._changed.notify_all()
            following = self._ready[0] if self._ready else None
        if not isinstance(batch, Upload):
            return batch
        arrays = batch.arrays()
        if isinstance(following, Upload):  # while the GPU works on this one
            following.start()
        return arrays

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            for each in self._ready:
                if isinstance(each, Upload):
                    each.drop()
            self._ready.clear()
            self._changed.notify_all()
        # The garbage collector may run a finalizer in the thread itself.
        if self.thread.is_alive() and threading.current_thread() is not self.thread:
            self.thread.join()

    def _run(self, plan: _Plan, position: int, ahead: int, uploader: Uploader | None) -> None:
        made: Batch | Upload | BaseException
        while not self._stopping:
            try:
                made = plan.make(position)
                if uploader is not None:
                    made = uploader.stage(made)
            except BaseException as error:  # handed to the consumer, whatever it is
                made = error
            with self._changed:
                while len(self._ready) >= ahead and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                self._ready.append(made)
                self._changed.notify_all()
            if isinstance(made, BaseException):
                return
            position += 1
