"""Trains the `enhance-vae` networks that ship, by minigen itself, on photographs in the public
domain.

    python -m minigen.vae.weights.make photographs SOURCE FOLDER
    python -m minigen.vae.weights.make train denoise FOLDER RUN      # goes on if RUN was stopped
    python -m minigen.vae.weights.make ship denoise FOLDER RUN [--out FOLDER]

and the same for enhance and super-resolve: 10 to 18 minutes of one core each. SOURCE holds the
files of PHOTOGRAPHS, collected from where each line says. They are made smaller, which takes the
traces of JPEG away and shows the same things at several sizes. `ship` stores the averaged weights
in float16, with what they were made of in the file's metadata.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minigen import io
from minigen.files import read_bytes, sha256
from minigen.random import Generator
from minigen.vae.enhance_vae import EnhanceVAE, EnhanceVAEOptions
from minigen.vae.weights import FOLDER, SHIPPED, save_file

WALLPAPERS = "github.com/elementary/wallpapers; Unsplash before June 8, 2017: CC0"
LISTED = "github.com/elementary/wallpapers, which lists them as Unsplash's and public domain"
SCIKIT_IMAGE = "scikit-image, skimage/data"
# File in SOURCE, what it shows, where it is from.
PHOTOGRAPHS = {
    "ashim-d-silva.jpg": ("a canyon, by Ashim D'Silva", WALLPAPERS),
    "brick.png": ("a brick wall", f"{SCIKIT_IMAGE}: CC0"),
    "coffee.png": ("a cup of coffee, by Rachel Michetti", f"{SCIKIT_IMAGE}: CC0"),
    "face.png": ("a raccoon", "scipy.misc.face of SciPy 1.9: public domain"),
    "grass.png": ("grass", f"{SCIKIT_IMAGE}: CC0"),
    "gravel.png": ("gravel", f"{SCIKIT_IMAGE}: CC0"),
    "jay-ruzesky.jpg": ("walruses, by Jay Ruzesky", LISTED),
    "jonas-nilsson-lee.jpg": ("a pier in blue water, by Jonas Nilsson Lee", WALLPAPERS),
    "mr-lee.jpg": ("a lantern, by Mr. Lee", WALLPAPERS),
    "pablo-garcia-saldana.jpg": ("a twig, by Pablo Garcia Saldana", LISTED),
    "rob-bye.jpg": ("a coast, by Rob Bye", WALLPAPERS),
    "rocket.jpg": ("a rocket, by SpaceX", f"{SCIKIT_IMAGE}: public domain"),
    "ryan-schroeder.jpg": ("snowy mountains, by Ryan Schroeder", LISTED),
    "spacex.jpg": ("a satellite over land, by SpaceX", WALLPAPERS),
    "sunset-by-the-pier.jpg": ("a pier at sunset, by Paul Carmona", WALLPAPERS),
}
# Never trained on; nor are china and flower of scikit-learn, which are CC-BY.
HELD_OUT = {
    "astronaut.png": ("Eileen Collins, by NASA", f"{SCIKIT_IMAGE}: public domain"),
    "chelsea.png": ("a cat, by Stefan van der Walt", f"{SCIKIT_IMAGE}: CC0"),
}
LICENCE = "MIT, as minigen; trained on photographs that are CC0 or in the public domain"


@dataclass(frozen=True)
class Recipe:
    """How one network is trained; `sides` are the photographs' longest sides in pixels.

    What changes tone is learnt from large parts of small photographs, as it is used on whole ones.
    """

    degradation: str
    steps: int
    sides: tuple[int, ...] = (1024, 512)
    patch_size: int = 64
    batch_size: int = 8
    lr: float = 1.5e-3

    @property
    def options(self) -> EnhanceVAEOptions:
        """Those of the model."""
        return EnhanceVAEOptions(
            degradation=self.degradation, batch_size=self.batch_size, lr=self.lr,
            decay_steps=self.steps,
        )  # fmt: skip


RECIPES = {
    "denoise": Recipe("noise:0-50", 15_000),
    "enhance": Recipe(
        "darken:0-3,contrast:0.5-1,noise:0-15", 13_000, sides=(480, 240, 144), patch_size=96,
        batch_size=4,
    ),
    "super-resolve": Recipe("noise:0-6,downscale:2", 9_000),
}  # fmt: skip


def lay_out(source: Path, folder: Path) -> None:
    """Write the photographs at the sizes of every recipe to FOLDER/NAME/train and
    FOLDER/NAME/test.
    """
    from PIL import Image

    photographs = PHOTOGRAPHS | HELD_OUT
    missing = [file for file in photographs if not (source / file).is_file()]
    if missing:
        raise ValueError(f"{source}: {len(missing)} photographs are missing: {', '.join(missing)}")
    for file in photographs:
        with Image.open(source / file) as opened:
            photo = opened.convert("RGB")
        for name, recipe in RECIPES.items():
            where = folder / name / ("test" if file in HELD_OUT else "train")
            where.mkdir(parents=True, exist_ok=True)
            for side in recipe.sides:
                share = min(1.0, side / max(photo.size))
                size = [max(recipe.patch_size, round(length * share)) for length in photo.size]
                smaller = photo.resize((size[0], size[1]), Image.Resampling.LANCZOS)
                smaller.save(where / f"{Path(file).stem}-{side}.png")
    (folder / "sources.json").write_text(json.dumps(_sources(source), indent=1) + "\n")


def train(name: str, folder: Path, run: Path, *, seed: int, threads: int) -> None:
    """Train a network in the folder RUN, or go on with it, by the command that users have."""
    recipe = RECIPES[name]
    command = [sys.executable, "-m", "minigen", "train", f"--threads={threads}"]
    if (run / "config.toml").exists():
        command += ["--resume", str(run)]
    else:
        settings = {
            "data.patch_size": recipe.patch_size, "data.channels": 3,
            "data.augment": "flip,turn,colours", **asdict(recipe.options),
        }  # fmt: skip
        command += ["enhance-vae", "--data", f"folder:{folder / name}", "--out", str(run)]
        command += [f"--steps={recipe.steps}", f"--seed={seed}"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
    subprocess.run(command, check=True)


def ship(name: str, folder: Path, run: Path, out: Path) -> dict[str, Any]:
    """Store a trained network; what its metadata says of how it was made."""
    recipe, config = RECIPES[name], tomllib.loads((run / "config.toml").read_text())
    newest = io.latest_checkpoint(run / "checkpoints")
    if newest is None:
        raise ValueError(f"{run}: has no checkpoint yet; train it first")
    state = io.load_checkpoint(newest)
    if state["step"] < recipe.steps:
        raise ValueError(
            f"{run}: is at step {state['step']} of {recipe.steps}; go on with it by"
            f" python -m minigen.vae.weights.make train {name} {folder} {run}"
        )
    shape = (3, recipe.patch_size, recipe.patch_size)
    model = EnhanceVAE(recipe.options, shape, rng=Generator(0))
    model.load_state_dict(state["model"])
    about = {
        "licence": LICENCE,
        "recipe": asdict(recipe),
        "seed": config["seed"],
        "threads": config["threads"],
        "commit": _commit(),
        "photographs": json.loads((folder / "sources.json").read_text()),
        "held_out": list(HELD_OUT),
    }
    save_file(out / f"{name}.safetensors", model, about)
    return about


def _sources(source: Path) -> list[dict[str, str]]:
    return [
        {"file": name, "shows": shows, "from": origin, "sha256": sha256(read_bytes(source / name))}
        for name, (shows, origin) in PHOTOGRAPHS.items()
    ]


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Reads the command line and does one of the three."""
    parser = argparse.ArgumentParser(description="train the enhance-vae networks that ship")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("photographs")
    verb.add_argument("source", type=Path)
    verb.add_argument("folder", type=Path)
    for each in ("train", "ship"):
        verb = verbs.add_parser(each)
        verb.add_argument("name", choices=SHIPPED)
        verb.add_argument("folder", type=Path)
        verb.add_argument("run", type=Path)
        if each == "train":
            verb.add_argument("--seed", type=int, default=0)
            verb.add_argument("--threads", type=int, default=1)
        else:
            verb.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    if given.verb == "photographs":
        lay_out(given.source, given.folder)
    elif given.verb == "train":
        train(given.name, given.folder, given.run, seed=given.seed, threads=given.threads)
    else:
        about = ship(given.name, given.folder, given.run, given.out)
        sys.stdout.write(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
