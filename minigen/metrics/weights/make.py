"""Trains the LeNets whose features the distances are measured in, by minigen itself.

    python -m minigen.metrics.weights.make lenet-fashion fashion-mnist-full [--out FOLDER]
    python -m minigen.metrics.weights.make lenet-mnist mnist:FOLDER [--out FOLDER]

Each takes about four minutes of one core. The same source, seed and number of threads give the same
weights on one machine. They are stored in float16, and the accuracy in manifest.json is that of the
stored ones.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import minigen as mg
from minigen import data, io, kernels, optim
from minigen.files import sha256, write_text_atomic
from minigen.metrics.lenet import LeNet
from minigen.metrics.weights import FOLDER, MANIFEST

BATCH, PEAK_LR, WEIGHT_DECAY = 128, 3e-3, 1e-2


@dataclass(frozen=True)
class Recipe:
    """What differs between the datasets; a mirrored digit is none, a mirrored shoe is."""

    epochs: int
    augment: str
    licence: str


RECIPES = {
    "lenet-fashion": Recipe(
        epochs=12,
        augment="flip,crop:2",
        licence="MIT, as minigen; trained on Fashion-MNIST (MIT, Zalando SE)",
    ),
    "lenet-mnist": Recipe(
        epochs=8,
        augment="crop:2",
        licence="MIT, as minigen; trained on MNIST (LeCun, Cortes and Burges), of which no image"
        " is in the file",
    ),
}


def train(dataset: data.Dataset, *, epochs: int, augment: str, seed: int) -> LeNet:
    """A trained LeNet, folded: AdamW, its learning rate along half a cosine after a warm-up."""
    rng = mg.Generator(seed)
    net = LeNet(for_training=True, rng=rng)
    loss = mg.value_and_grad(lambda x, y: mg.cross_entropy(net(x), y), net)
    batches = data.Batches(dataset, BATCH, seed=seed, augment=augment, value_range=(0, 1))
    steps = epochs * batches.batches_per_epoch
    schedule = optim.linear_warmup(optim.cosine(PEAK_LR, steps), -(-steps // 20))
    adam = optim.AdamW(net, lr=schedule, weight_decay=WEIGHT_DECAY)
    with batches:
        for step in range(1, steps + 1):
            images, labels = next(batches)
            value, grads = loss(mg.asarray(images), labels)
            adam.step(grads)
            if step % batches.batches_per_epoch == 0:
                epoch = step // batches.batches_per_epoch
                sys.stderr.write(f"epoch {epoch}/{epochs}: loss {value.item():.4f} nats\n")
    return net.eval().folded()


@mg.no_grad()
def accuracy(net: LeNet, dataset: data.Dataset) -> float:
    """Share of images whose largest logit is that of their label."""
    right = 0
    for start in range(0, len(dataset), 500):
        images, labels = dataset.batch(range(start, min(start + 500, len(dataset))))
        right += int((net(mg.asarray(images)).numpy().argmax(1) == labels).sum())
    return right / len(dataset)


def make(name: str, source: str, out: Path, *, seed: int) -> dict:
    """Trains, stores and measures one; returns what the manifest now says of it."""
    recipe = RECIPES[name]
    net = train(data.load(source), epochs=recipe.epochs, augment=recipe.augment, seed=seed)
    stored = {key: value.astype(np.float16) for key, value in net.state_dict().items()}
    path = out / f"{name}.safetensors"
    io.save(path, stored)
    net.load_state_dict(io.load(path))
    kind, _, folder = source.partition(":")
    entry = {
        "data": f"{kind}, the training split of {len(data.load(source)):,} images",
        "test_accuracy": accuracy(net, data.load(source, "test")),
        "seed": seed,
        "threads": kernels.get_num_threads(),
        "command": f"python -m minigen.metrics.weights.make {name} {kind}"
        + (":FOLDER" if folder else "")
        + f" --seed {seed}",
        "commit": _commit(),
        "licence": recipe.licence,
        "sha256": sha256(path.read_bytes()),
    }
    manifest = out / MANIFEST.name
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    write_text_atomic(manifest, json.dumps({**known, name: entry}, indent=1, sort_keys=True) + "\n")
    return entry


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Reads the command line, makes one file and reports what it is."""
    parser = argparse.ArgumentParser(description="train the LeNet whose features ship")
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("source", help="fashion-mnist-full or mnist:FOLDER")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    entry = make(options.name, options.source, options.out, seed=options.seed)
    sys.stdout.write(json.dumps(entry, indent=1) + "\n")


if __name__ == "__main__":
    main()
