"""Trainer: the loop itself. Steps, losses, samples, checkpoints.

A checkpoint holds all that the next step depends on, so that N steps, a stop and N more give the
weights of 2N steps, bit for bit. Nothing here knows of the command or of any one model.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigen
import minigen.kernels as kernels
from minigen import backend
from minigen.capture import capture
from minigen.data import Batches, DataError
from minigen.graph import cuda_graphs
from minigen.random import Generator
from minigen.train import build, report
from minigen.train.config import RunConfig
from minigen.train.errors import Collapsed, Diverged, RunError, UsageError
from minigen.train.health import Health
from minigen.train.readback import Losses, Readback
from minigen.train.run_directory import RunDirectory
from minigen.train.samples import grid, save_picture
from minigen.train.stop import Stop

CHECKPOINT_SECONDS = 60.0  # between checkpoints, unless checkpoint_every says how many steps
SAMPLES = 64  # images in the grids made while training
log = logging.getLogger(__name__)


@dataclass
class Run:
    """What fit and resume give back; `signal` is what stopped the run early (2 for Ctrl-C)."""

    directory: RunDirectory
    config: RunConfig
    model: Any
    step: int
    losses: dict[str, float]
    signal: int | None = None


class Trainer:
    """One run in this process: the model, its data, its generator and where it stands."""

    def __init__(self, directory: RunDirectory | None, config: RunConfig, stop: Stop):
        self.config, self.stop, self.watch = config, stop, stop.watch
        self.directory: Any = directory
        if config.threads:
            kernels.set_num_threads(config.threads)
        build.check_device(config.device)
        self.dataset = dataset = build.open_data(config, "train")
        if config.image_shape not in ((), dataset.image_shape):
            raise UsageError(
                f"{config.data.source}: images are {dataset.image_shape}, the config was made for"
                f" {config.image_shape}; give the data of that size"
            )
        config.image_shape = dataset.image_shape
        self.model = build.build_model(config)
        build.check_fit(self.model, config.options, dataset)
        self.health = Health(config, self.model)
        self.rng = self._stream()
        self.batch_size = getattr(
            self.model, "images_per_step", getattr(config.options, "batch_size", 32)
        )
        try:
            self.batches = Batches(
                dataset,
                self.batch_size,
                seed=config.seed,
                augment=config.data.augment,
                value_range=self.model.value_range,
                device=config.device,
            )
        except ValueError as error:  # a batch larger than the dataset, an unknown augmentation
            raise UsageError(str(error)) from error
        self.step, self.seconds = 0, 0.0
        self.losses: dict[str, float] = {}
        self.readback = Readback()
        self.saved: int | None = None  # the step of the newest checkpoint
        self._start = self._snapshot_at = self._snapshot_cost = 0.0
        self._checkpoint_at = self._checkpoint_cost = 0.0
        self._logged = (0, 0.0)  # step and seconds of the last line of metrics

    # stopping and going on -------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, and where the run stands."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "minigen": minigen.__version__,
            "model": self.model.state_dict(),
            "rng": self.rng.state_dict(),
            "batches": self.batches.state_dict(),
            "health": self.health.state_dict(self.step),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where the run stood when `state` was taken."""
        if state["minigen"] != minigen.__version__:
            log.warning(
                "the run was made by minigen %s, this is %s: it may go on a little differently",
                state["minigen"],
                minigen.__version__,
            )
        build.load_weights(self.model, state["model"], self.directory)
        self.rng.load_state_dict(state["rng"])
        try:
            self.batches.load_state_dict(state["batches"])
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.health.load_state_dict(state)
        self.step, self.seconds = self.saved, _ = state["step"], state["seconds"]
        self._start = time.monotonic() - self.seconds
        self._logged = (self.step, self.seconds)
        records = self.directory.read_metrics()
        last = [record for record in records if record.get("step", 0) <= self.step][-1:]
        for record in last:
            self.losses = {k: v for k, v in record.items() if k not in report.NOT_LOSSES}

    def close(self) -> None:
        """End the thread that makes batches and let others write the run."""
        self.batches.close()
        if self.directory is not None:
            self.directory.unlock()

    # the loop --------------------------------------------------------------------------------

    def run(self) -> Run:
        """Steps until config.steps or a signal, then a checkpoint, samples and the report."""
        self._introduce()
        try:
            graphs = cuda_graphs(self.config.capture)
            with self.watch.running(self.config, self.step), graphs:
                self._loop()
        except (Diverged, Collapsed) as error:
            raise type(error)(f"{error}; {self._keep_last_good(error)}") from error
        except DataError as error:
            if self.saved != self.step:
                self._checkpoint()
            raise DataError(f"{error}; {self._afterwards()}") from error
        except RunError as error:
            raise RunError(f"{error}; {self._afterwards()}") from error
        finally:
            self.batches.close()
            self.readback.close()
        return Run(
            self.directory, self.config, self.model, self.step, self.losses, self.stop.signal
        )

    def _introduce(self) -> None:
        weights = sum(each.data.size for _, each in self.model.named_parameters())
        channels, height, width = self.dataset.image_shape
        log.info(
            "%s of %s weights on %s images %dx%d, %s, of %s; the run is in %s",
            self.config.model,
            f"{weights:,}",
            f"{len(self.dataset):,}",
            width,
            height,
            "grey" if channels == 1 else "colour",
            self.dataset.name,
            self.directory,
        )
        notice = getattr(self.model, "notice", None)
        text = notice(self.config.steps) if notice is not None else ""
        if text:
            log.warning("%s", text)

    def _loop(self) -> None:
        config = self.config
        if self.step == 0 and self.stop.signal is None:
            self._sample()
        self._start = time.monotonic() - self.seconds
        self._checkpoint_at = time.monotonic()
        step = self._captured_step()
        if self.health.keeps and self.health.good is None:
            self.health.keep(self.state())
        while self.step < config.steps and self.stop.signal is None:
            try:
                self._next_step(step)
            except (Diverged, Collapsed) as error:
                self._go_back(error)
                step = self._captured_step()
        self._log_arrived(wait=True)
        if self.saved != self.step:
            self._checkpoint()
        report.write_report(self.directory, config, self.step, self.stop.signal)

    def _next_step(self, step: Any) -> None:
        """One step, and all that is due after it."""
        config, health = self.config, self.health
        sample_every = config.sample_every or -(-config.steps // 20)
        log_every = config.log_every or (1 if config.device == backend.CPU else 10)
        self._take_snapshot()
        images, labels = next(self.batches)
        losses = step(images, labels, self.rng)
        self.step += 1
        self.seconds = time.monotonic() - self._start
        last, look = self.step == config.steps, health.due(self.step)
        findings = health.examine(self.step, losses, images, labels) if look else ()
        ends, save = last or bool(self.stop.signal), self._checkpoint_due() and not last
        shown = ends or look or self.step % log_every == 0
        self.readback.put(self.step, self.seconds, losses, shown)
        self._log_arrived(wait=ends or save or look)
        if look and health.judge(self.step, findings) and health.keeps:
            self._check_weights()
            health.keep(self.state())
        if save:
            self._checkpoint()
        if self.step % sample_every == 0 or last:
            self._sample()

    def _go_back(self, error: RunError) -> None:
        """Stand at the last good state, with other random numbers; or raise the error."""
        attempt, since = self.health.next_attempt(error), self.step
        self.readback.close()
        self.restore(self.health.good or {})
        self.rng.load_state_dict(self._stream().spawn(attempt).state_dict())
        self.health.begin(attempt, error, since, self.step)
        self.health.keep(self.state())
        self.directory.return_to(self.step, self.state())
        self.directory.forget_metrics_after(self.step)

    def _stream(self) -> Generator:
        """The random numbers that the run's steps begin with."""
        return Generator(self.config.seed, self.config.device).spawn("steps")

    def _captured_step(self) -> Any:
        """The model's step; replayed if it is one to be, and pays: always so on a GPU."""
        step, on_gpu = self.model.step, self.config.device != backend.CPU
        pays = on_gpu or getattr(self.model, "replays_on_cpu", False)
        chosen = pays and self.config.capture and getattr(step, "replayable", False)
        return capture(step) if chosen else step

    def _log_arrived(self, wait: bool) -> None:
        """Check the losses that have arrived and log those to be shown; with `wait`, all of them.

        On a GPU they come a few steps late, so that no step waits for the one before.
        """
        for losses in self.readback.take(wait):
            for name, value in losses.values.items():
                if not math.isfinite(value):
                    raise Diverged(f"step {losses.step}: the loss {name!r} is {value}")
            if losses.shown:
                self._log(losses)

    def _log(self, losses: Losses) -> None:
        self.losses = losses.values
        steps, seconds = losses.step - self._logged[0], losses.seconds - self._logged[1]
        rate = steps * self.batch_size / seconds if seconds > 0 else 0.0
        self._logged = (losses.step, losses.seconds)
        self.directory.log(
            {
                "step": losses.step,
                **self.losses,
                "images_per_second": round(rate, 2),
                "seconds": round(losses.seconds, 3),
                **self.health.record(losses.step),
            }
        )
        self.watch.step(losses.step, self.losses)

    def _sample(self) -> None:
        """A grid of samples, from the same noise at each step."""
        rng = Generator(self.config.seed, self.config.device).spawn("samples")
        images = self.model.sample(SAMPLES, rng)
        save_picture(self.directory.samples / f"step-{self.step:08d}.png", grid(images))

    # checkpoints -----------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint_every
        if every:
            return self.step % every == 0
        wait = max(CHECKPOINT_SECONDS, 20 * self._checkpoint_cost)  # 5% of the time at most
        return time.monotonic() - self._checkpoint_at > wait

    def _checkpoint(self) -> None:
        begun = time.monotonic()
        self._check_weights()
        self.directory.save_checkpoint(self.step, self.state())
        self.saved = self.step
        self._checkpoint_at = time.monotonic()
        self._checkpoint_cost = self._checkpoint_at - begun

    def _check_weights(self) -> None:
        """A state that no run could go on from must not displace one that can."""
        for name, weights in self.model.named_parameters():
            if not bool(np.isfinite(weights.data).all()):
                raise Diverged(f"step {self.step}: the weights {name} are not finite")

    def _take_snapshot(self) -> None:
        """Now and then, for 2% of the time at most, a copy in memory for the day of divergence."""
        begun = time.monotonic()
        if self.config.device != backend.CPU or self.health.keeps:
            return  # it would wait for the GPU, where the checkpoints have to do
        if begun - self._snapshot_at < 50 * self._snapshot_cost:
            return
        try:
            self._check_weights()
        except Diverged:
            return  # the losses will tell, with the step
        self.health.keep(self.state())
        self._snapshot_at = time.monotonic()
        self._snapshot_cost = self._snapshot_at - begun

    def _keep_last_good(self, error: RunError) -> str:
        """Make the last good state the newest checkpoint, and say where it is and what may help."""
        good = self.health.good
        if good is not None and (self.health.keeps or good["step"] > (self.saved or -1)):
            self.directory.return_to(good["step"], good)
            self.saved = good["step"]
        if isinstance(error, Collapsed):  # which says what helps
            report.write_report(self.directory, self.config, self.step, None, "collapsed")
            return self._kept()
        lr = getattr(self.config.options, "lr", None)
        lower = f"--set lr={lr / 10:g}" if isinstance(lr, float) else "a lower learning rate"
        report.write_report(self.directory, self.config, self.step, None, "diverged")
        return f"{self._kept()}; try {lower}, a larger batch or another --seed in a new run"

    def _afterwards(self) -> str:
        return f"{self._kept()}; afterwards: {self.directory.resume_command()}"

    def _kept(self) -> str:
        if self.saved is None:
            return "there is no checkpoint yet"
        return f"the last good state is {self.directory.checkpoints / f'step-{self.saved:08d}'}"
