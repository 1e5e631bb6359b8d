"""The tasks of `minigen restore` and the methods that do them, and the model that a method takes.

The table is light: models are imported when one is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigen.train.errors import UsageError, nearest

METHODS = {"vae": "draws from the posterior of a conditional VAE (enhance-vae), and their mean"}


@dataclass(frozen=True)
class Task:
    """What can be done to a photo: `undoes` has the parts of a degradation of which a model must
    have learnt one, `example` is what to train it for, `methods` names the weights that ship.
    """

    name: str
    help: str
    undoes: tuple[str, ...]
    example: str
    methods: Mapping[str, str]


_ROWS = (
    Task("denoise", "noise taken away", ("noise",), "noise:0-50", {"vae": "denoise"}),
    Task("enhance", "darkness, flat contrast and noise undone",
         ("darken", "contrast", "blur", "noise"), "darken:0-3,noise:0-15", {"vae": "enhance"}),
    Task("brighten", "what was too dark, by the network of enhance and with its result",
         ("darken",), "darken:0-3,noise:0-15", {"vae": "enhance"}),
    Task("super-resolve", "larger, with likely detail",
         ("downscale",), "downscale:2", {"vae": "super-resolve"}),
    Task("restyle", "the tone of another picture, --style",
         ("darken", "contrast"), "darken:0-3,noise:0-15", {"vae": "enhance"}),
)  # fmt: skip
TASKS = {each.name: each for each in _ROWS}


def task(name: str) -> Task:
    """The task of a name; UsageError, with the nearest right name, for a wrong one."""
    if name not in TASKS:
        raise UsageError(f"--task: no task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]


def method(name: str | None, task: Task) -> str:
    """A method of the task, its first where none is named; UsageError for another."""
    if name is None:
        return next(iter(task.methods))
    if name not in METHODS:
        raise UsageError(f"--method: no method {name!r}{nearest(name, METHODS)}")
    if name not in task.methods:
        can = ", ".join(task.methods)
        raise UsageError(f"--method {name}: does not {task.name}; expected one of {can}")
    return name


def open_model(task: Task, method: str, run: str | None, device: str | None) -> Any:
    """The model for a task: that of a run, or the one that ships; on `device` (None: the run's, or
    the CPU). UsageError for a run of another model or trained to undo something else.
    """
    from minigen.train.build import check_device, load_run
    from minigen.train.registry import model_class
    from minigen.train.run_directory import RunDirectory

    if run is None:
        from minigen.vae.weights import load_shipped

        check_device(device or "cpu")
        model = load_shipped(task.methods[method])
        return model if device in (None, "cpu") else model.to(device)
    name = RunDirectory.open(run).read_config().model
    if not hasattr(model_class(name), "restore"):
        raise UsageError(
            f"--run {run}: is of the model {name}, which restores no photos; make one with"
            f" minigen train enhance-vae --data folder:PATH --set degradation={task.example}"
        )
    model = load_run(run, device).model
    check_trained_for(model, task, f"--run {run}")
    return model


def check_trained_for(model: Any, task: Task, who: str) -> None:
    """UsageError unless what the model has learnt to undo is what the task is about."""
    learnt = {part.name for part in model.degradation.parts}
    fitting = [each.name for each in _ROWS if _fits(each, learnt)]
    if task.name in fitting:
        return
    instead = f"give --task {' or '.join(fitting)}, or " if fitting else ""
    raise UsageError(
        f"{who}: was trained to undo {model.degradation.spec}, which is not to {task.name};"
        f" {instead}a run trained with --set degradation={task.example}"
    )


def _fits(task: Task, learnt: set[str]) -> bool:
    """Whether a model that undoes these parts does the task: one that enlarges does no other."""
    return bool(learnt & set(task.undoes)) and ("downscale" in learnt) == (
        "downscale" in task.undoes
    )
