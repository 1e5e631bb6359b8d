"""Trained `enhance-vae` networks that ship with the package, made by `make.py` beside this file.

Each is a safetensors file in float16; its metadata says what the model is (`options`,
`image_shape`) and how it was made, on which photographs and under which licence (`about`).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from minigen import io
from minigen.random import Generator
from minigen.vae.enhance_vae import EnhanceVAE, EnhanceVAEOptions

FOLDER = Path(__file__).parent
SHIPPED = ("denoise", "enhance", "super-resolve")


def load_shipped(name: str) -> EnhanceVAE:
    """The trained model of a name in SHIPPED, in evaluation mode.

    Raises ValueError for another name, and OSError, in one line, when its file is damaged.
    """
    if name not in SHIPPED:
        raise ValueError(f"no weights {name!r} ship; there are {', '.join(SHIPPED)}")
    return load_file(FOLDER / f"{name}.safetensors")


def load_file(path: Path) -> EnhanceVAE:
    """A model that `save_file` wrote, in evaluation mode."""
    about = io.load_metadata(path)
    options = EnhanceVAEOptions(**json.loads(about["options"]))
    model = EnhanceVAE(options, tuple(json.loads(about["image_shape"])), rng=Generator(0))
    model.networks.load_state_dict(io.load(path))
    return model.eval()


def save_file(path: Path, model: EnhanceVAE, about: dict[str, Any]) -> None:
    """Write a model's networks, averaged over training, in float16."""
    with model.evaluating(model.ema):
        weights = {k: v.astype(np.float16) for k, v in model.networks.state_dict().items()}
    options = dataclasses.asdict(dataclasses.replace(model.options, ema=0.0))
    metadata = {"options": options, "image_shape": model.image_shape, "about": about}
    io.save(path, weights, {key: json.dumps(value) for key, value in metadata.items()})
