"""fit and resume: a run from its first step, and a run that goes on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import minigen.kernels as kernels
from minigen.train.config import make_config
from minigen.train.errors import UsageError
from minigen.train.progress import Silent, watch_for
from minigen.train.run_directory import RunDirectory
from minigen.train.stop import Stop
from minigen.train.trainer import Run, Trainer

__all__ = ["Run", "fit", "resume"]


def fit(
    model: str | None = None,
    *,
    data: str | Path | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Iterable[str] = (),
    config: str | Path | None = None,
    checkpoint_every: int | None = None,
    sample_every: int | None = None,
    threads: int | None = None,
    on_collapse: str | None = None,
    progress: Any = False,
) -> Run:
    """Train a model (a name of `minigen list`, or "package.module:Class") in a new run directory.

    `on_collapse` says what to do when training goes wrong: "warn" (the default) goes on, "stop"
    and "rollback" keep the last good state, at which the one stops and from which the other tries
    again, three times at most; "off" does not look.
    `options` are values for the model's Options, `settings` the same as texts "key=value", `config`
    a TOML file such as a run's config.toml. `progress` is True for a bar or lines on standard
    output, or a watch as in `train.progress`.
    Raises UsageError for what cannot be done, DataError for bad data, Diverged for a loss that is
    not finite, Collapsed as `on_collapse` says, RunError when the run cannot be written.
    """
    made = make_config(
        model,
        file=config,
        flags={
            "steps": steps, "seed": seed, "device": device, "batch_size": batch_size,
            "checkpoint_every": checkpoint_every, "sample_every": sample_every, "threads": threads,
            "on_collapse": on_collapse,
        },
        data={"source": None if data is None else str(data)},
        settings=settings,
        options=options,
    )  # fmt: skip
    made.threads = made.threads or kernels.get_num_threads()
    if out is not None:
        RunDirectory(out).check_free()
    with Stop(_watch(progress)) as stop:
        # Everything that can be wrong with the request shows before a folder is made.
        trainer = Trainer(None, made, stop)
        try:
            trainer.batches.prepare()
            trainer.directory = RunDirectory.create(out, made.model, made.data.source)
            trainer.directory.write_config(made)
            return trainer.run()
        finally:
            trainer.close()


def resume(
    path: str | Path,
    *,
    steps: int | None = None,
    device: str | None = None,
    checkpoint_every: int | None = None,
    sample_every: int | None = None,
    threads: int | None = None,
    on_collapse: str | None = None,
    progress: Any = False,
) -> Run:
    """Go on with a run from its newest checkpoint as if it had never stopped, to `steps` in all.

    Raises as `fit` does, and UsageError when `path` holds no run or another process is at it.
    """
    directory = RunDirectory.open(path)
    directory.lock()
    trainer = None
    try:
        config = directory.read_config().changed(
            steps=steps, device=device, threads=threads,
            checkpoint_every=checkpoint_every, sample_every=sample_every, on_collapse=on_collapse,
        )  # fmt: skip
        with Stop(_watch(progress)) as stop:
            trainer = Trainer(directory, config, stop)
            state = directory.load_checkpoint()
            if state is not None:
                trainer.restore(state)
            if trainer.step > config.steps:
                raise UsageError(
                    f"--steps {config.steps}: {path} is at step {trainer.step} already;"
                    " give the number of steps in all"
                )
            directory.forget_metrics_after(trainer.step)
            directory.write_config(config)
            return trainer.run()
    finally:
        directory.unlock()
        if trainer is not None:
            trainer.close()


def _watch(progress: Any) -> Any:
    """True: a bar or lines on standard output; False: nothing; else the watch itself."""
    return watch_for() if progress is True else progress or Silent()
