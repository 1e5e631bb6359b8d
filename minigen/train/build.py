"""From a run's config to its data and its model, and from a run's folder to its trained model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigen import backend
from minigen.data import DataError, Dataset, load, takes_patches
from minigen.random import Generator
from minigen.train.config import RunConfig
from minigen.train.errors import UsageError
from minigen.train.registry import model_class
from minigen.train.run_directory import RunDirectory


@dataclass
class Trained:
    """A run read back: its folder, config, model with the newest weights, and their step."""

    directory: RunDirectory
    config: RunConfig
    model: Any
    step: int


def load_run(path: str | Path, device: str | None = None) -> Trained:
    """The run at `path` with the weights of its newest checkpoint, on `device`.

    Raises UsageError when there is no run, no checkpoint in it yet, or one of another config.
    """
    directory = RunDirectory.open(path)
    config = directory.read_config()
    config.device = device or config.device
    state = directory.load_checkpoint()
    if state is None:
        raise UsageError(f"{path}: no checkpoint yet; train first: {directory.resume_command()}")
    if not config.image_shape:
        raise UsageError(f"{directory.config_file}: has no data.image_shape")
    model = build_model(config)
    load_weights(model, state["model"], directory)
    return Trained(directory, config, model, state["step"])


def load_weights(model: Any, state: Mapping[str, Any], directory: RunDirectory) -> None:
    """Put a checkpoint's state into the model; UsageError when it is of another model."""
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise UsageError(
            f"{directory.checkpoints}: were not made with {directory.config_file}: {error}"
        ) from error


def build_model(config: RunConfig) -> Any:
    """The model of a config, freshly initialised from its seed, on its device.

    Raises UsageError when the model refuses its options or the size of the images.
    """
    check_device(config.device)
    cls = model_class(config.model)
    rng = Generator(config.seed).spawn("init")
    try:
        model = cls(config.options, config.image_shape, rng=rng)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return model if config.device == backend.CPU else model.to(config.device)


def check_fit(model: Any, options: Any, dataset: Dataset) -> None:
    """UsageError where the data has fewer images than a step takes, or not the labels that the
    model is told.
    """
    name, images, labels = dataset.name, len(dataset), dataset.labels
    size, updates = getattr(options, "batch_size", 1), getattr(options, "critic_steps", 1)
    if updates > 1 and size * updates > images:
        raise UsageError(
            f"{name}: batch_size {size} x critic_steps {updates} are {size * updates} images a"
            f" step, of {images}; expected a product of at most {images}"
        )
    classes = getattr(model, "classes", 0)
    if not classes:
        return
    if labels is None:
        raise UsageError(
            f"{name}: has no labels, and the model is told them (classes={classes}); give data"
            " with labels, or a model without: --set conditional=none"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        enough = f"; --set classes={labels.max() + 1}" if labels.min() >= 0 else ""
        raise UsageError(
            f"{name}: labels are {labels.min()} to {labels.max()}, and the model knows classes="
            f"{classes}, 0 to {classes - 1}{enough}"
        )


def open_data(config: RunConfig, split: str) -> Dataset:
    """The 'train' or 'test' images of a config.

    Of data without a test split each tenth image is held out of training, of images that are cut
    into patches each tenth file. Raises DataError.
    """
    source, options = config.data.source, config.data
    # What the first training image decided holds for those of a test folder too.
    channels = options.channels or (config.image_shape[0] if config.image_shape else None)
    patch_size = _patch_size(config)
    if patch_size:
        return load(source, split, patch_size=patch_size, channels=channels)
    sizes = {"image_size": options.image_size, "channels": channels}
    try:
        test = load(source, "test", **sizes)
        return test if split == "test" else load(source, "train", **sizes)
    except DataError as no_test:
        try:
            train, test = load(source, "all", **sizes).holdout()
        except DataError:
            if split == "test":
                raise no_test from None
            return load(source, "train", **sizes)
    return test if split == "test" else train


def _patch_size(config: RunConfig) -> int | None:
    """How large patches the images are to be cut into; None or 0: they stay whole."""
    data, own = config.data, getattr(model_class(config.model), "patch_size", None)
    if data.patch_size is not None or own is None:
        return data.patch_size
    return own if data.image_size is None and takes_patches(data.source) else None


def check_device(device: str) -> None:
    """Let this thread work on `device`; UsageError unless arrays can be made there."""
    try:
        backend.use(device)
    except (ValueError, RuntimeError, ImportError) as error:
        raise UsageError(f"--device {device}: {error}") from error
