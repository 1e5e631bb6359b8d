"""Photographs never trained on, damaged and restored by the `enhance-vae` weights that ship, beside
what scikit-image does about noise.

    python benchmarks/enhance.py --out enhance.json --pictures enhance [--threads 1]

PSNR in dB and SSIM of the damaged photo, of non-local means (Buades et al. 2005) and the bilateral
filter, both told the noise and tuned on the photos that they are measured on, and of minigen, told
nothing: the mean of 8 draws, the posterior's single mean, one draw. How often the truth lies within
one and two of the deviations that minigen gives. Needs scikit-image, and scikit-learn for two of
the photos.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minigen as mg
from minigen import kernels
from minigen.data import degradations, photo
from minigen.metrics.psnr import psnr_each
from minigen.metrics.ssim import ssim_each
from minigen.train.samples import grid, save_picture
from minigen.vae.restoring import restore_photo
from minigen.vae.weights import load_shipped

SAMPLES = 8
# Name of the weights, degradation, noise that the filters are told (1/255, 0: they have no part).
TASKS = {
    "noise 15": ("denoise", "noise:15", 15),
    "noise 25": ("denoise", "noise:25", 25),
    "noise 50": ("denoise", "noise:50", 50),
    "1 stop dark": ("enhance", "darken:1,noise:10", 10),
    "2 stops dark": ("enhance", "darken:2,noise:5", 5),
    "not dark": ("enhance", "noise:5", 5),
    "half size": ("super-resolve", "downscale:2", 0),
}
STOPS = {"1 stop dark": 1, "2 stops dark": 2}
# Of non-local means: (patch_size, patch_distance, fast_mode), and h by the noise.
NON_LOCAL = {(3, 6, True): (0.6, 0.7), (5, 6, True): (0.5, 0.6), (5, 6, False): (0.7, 0.8, 0.9)}
BILATERAL = ((4, 1.5), (8, 1.5))  # sigma_color by the noise, sigma_spatial
FREE = ("chelsea", "astronaut")  # CC0 and public domain
CROP = 128  # pixels a side of what pictures show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--grey", action="store_true", help="grey photos instead, by the same nets")
    parser.add_argument("--run", help="a run of enhance-vae instead of the weights that ship")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("enhance.json"))
    parser.add_argument("--pictures", help="beginning of the names of pictures, such as enhance")
    options = parser.parse_args()
    kernels.set_num_threads(options.threads)
    photos = {name: _grey(x) if options.grey else x for name, x in held_out().items()}
    results = {}
    for task in options.tasks:
        model = _model(TASKS[task][0], options.run)
        results[task] = measure(task, photos, model, options.pictures)
        sys.stdout.write(table({task: results[task]}) + "\n")
    document = {
        "photos": list(photos), "grey": options.grey, "samples": SAMPLES,
        "threads": options.threads, "tasks": results,
    }  # fmt: skip
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(results) + "\n")


def held_out() -> dict[str, np.ndarray]:
    """Photographs (3, H, W) in [0, 1] that the weights were not trained on. The motorcycle was not
    looked at while choices were made either.
    """
    from skimage import data
    from sklearn.datasets import load_sample_image

    found = {
        "chelsea": photo("chelsea").transpose(1, 2, 0), "astronaut": data.astronaut(),
        "china": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg"),
        "motorcycle": data.stereo_motorcycle()[0],
    }  # fmt: skip
    cut = {name: x[: len(x) // 4 * 4, : x.shape[1] // 4 * 4] for name, x in found.items()}
    return {name: x.astype(np.float32).transpose(2, 0, 1) / 255 for name, x in cut.items()}


def measure(
    task: str, photos: dict[str, np.ndarray], model: Any, pictures: str | None
) -> dict[str, Any]:
    """Each method's PSNR, SSIM and seconds a photo, and minigen's coverage."""
    _, spec, noise = TASKS[task]
    degradation = degradations.parse(spec)
    damaged = {
        name: degradation.image(x, mg.Generator(i)) for i, (name, x) in enumerate(photos.items())
    }
    made: dict[str, dict[str, Any]] = {"damaged": {name: (y, 0.0) for name, y in damaged.items()}}
    if noise:
        made["non-local means"] = best_of(non_local_means(noise / 255), photos, damaged)
        made["bilateral"] = best_of(bilateral(noise / 255), photos, damaged)
    if task in STOPS:  # what one can do who knows how dark it is
        gain = np.float32(2 ** (STOPS[task] / degradations.GAMMA))
        lit = {name: y * gain for name, y in damaged.items()}
        found = best_of(non_local_means(gain * noise / 255), photos, lit)
        made["non-local means, told the light"] = found
    scale = degradation.scale  # `downscale` alone: a photo comes small, and is enlarged but to show
    given = {name: shrunk(x, scale) for name, x in photos.items()} if scale > 1 else damaged
    restored = {name: restore(model, scale, y) for name, y in given.items()}
    for method in ("minigen", "minigen, one mean", "minigen, one draw"):
        made[method] = {name: (each[method], each["seconds"]) for name, each in restored.items()}
    if pictures:
        show(f"{pictures}-{task.replace(' ', '-')}.png", photos, made, restored)
    scores = {
        method: {name: score(photos[name], *each) for name, each in by_photo.items()}
        for method, by_photo in made.items()
    }
    within = {
        f"within {k}": float(np.mean([
            (abs(each["minigen"] - photos[name]) <= k * each["deviation"]).mean()
            for name, each in restored.items()
        ])) for k in (1, 2)
    }  # fmt: skip
    return {"degradation": spec, "scores": scores, "coverage": within}


def shrunk(clean: np.ndarray, scale: int) -> np.ndarray:
    """A photo so many times smaller: `downscale` before it enlarges."""
    return degradations.shrink(mg.asarray(clean[None]), scale).numpy()[0]


def restore(model: Any, scale: int, damaged: np.ndarray) -> dict[str, Any]:
    """The mean of draws, the mean with nothing drawn, one draw and the deviation of a photo."""
    start = time.perf_counter()
    rng = mg.Generator(0)
    draws = restore_photo(model, damaged, rng=rng, samples=SAMPLES, keep_samples=True)
    seconds = (time.perf_counter() - start) / SAMPLES
    y = mg.asarray(damaged[None] if len(damaged) == 3 else np.repeat(damaged[None], 3, 1))
    if scale > 1:
        y = degradations.enlarge(y, scale)
    mean = model.best(y).numpy()[0][: 3 if len(damaged) == 3 else 1]
    return {
        "minigen": draws.mean, "minigen, one mean": mean, "minigen, one draw": draws.samples[0],
        "deviation": draws.deviation, "seconds": seconds,
    }  # fmt: skip


def score(clean: np.ndarray, made: np.ndarray, seconds: float) -> dict[str, float]:
    """PSNR and SSIM of what was made, clipped as a file would be."""
    made = np.clip(made, 0, 1)[None].astype(np.float32)
    return {
        "psnr": float(psnr_each(made, clean[None], data_range=1)[0]),
        "ssim": float(ssim_each(made, clean[None])[0]),
        "seconds": seconds,
    }


def best_of(settings: list, photos: dict, damaged: dict) -> dict[str, Any]:
    """What the setting of the highest mean PSNR makes: (image, seconds) of each photo."""
    tried = []
    for denoise in settings:
        made = {}
        for name, y in damaged.items():
            start = time.perf_counter()
            image = denoise(y.transpose(1, 2, 0)).transpose(2, 0, 1)
            made[name] = (image, time.perf_counter() - start)
        psnr = np.mean([score(photos[name], *each)["psnr"] for name, each in made.items()])
        tried.append((psnr, made))
    return max(tried, key=lambda each: each[0])[1]


def non_local_means(sigma: float) -> list:
    """Settings of scikit-image's, told the noise, in both of its modes."""
    from skimage.restoration import denoise_nl_means

    return [
        lambda x, h=h, size=size, far=far, fast=fast: denoise_nl_means(
            x, patch_size=size, patch_distance=far, h=h * sigma, sigma=sigma, fast_mode=fast,
            channel_axis=-1,
        )
        for (size, far, fast), strengths in NON_LOCAL.items() for h in strengths
    ]  # fmt: skip


def bilateral(sigma: float) -> list:
    """Settings of scikit-image's, told the noise."""
    from skimage.restoration import denoise_bilateral

    return [
        lambda x, k=k, wide=wide: denoise_bilateral(
            np.clip(x, 0, 1), sigma_color=k * sigma, sigma_spatial=wide, channel_axis=-1
        )
        for k, wide in BILATERAL
    ]


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each task and method, PSNR / SSIM of each photo and their means."""
    lines = []
    for task, result in results.items():
        names = list(next(iter(result["scores"].values())))
        if not lines:
            lines += ["| task | method | " + " | ".join([*names, "mean", "s"]) + " |",
                      "| --- | --- |" + " --- |" * (len(names) + 2)]  # fmt: skip
        for method, by_photo in result["scores"].items():
            rows = [*by_photo.values()]
            mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
            cells = [f"{each['psnr']:.2f} / {each['ssim']:.3f}" for each in (*rows, mean)]
            lines.append(f"| {task} | {method} | {' | '.join(cells)} | {mean['seconds']:.2f} |")
        share = ", ".join(f"{v:.1%} {k} deviations" for k, v in result["coverage"].items())
        lines.append(f"| {task} | truth {share} |" + " |" * (len(names) + 2))
    return "\n".join(lines)


def show(path: str, photos: dict, made: dict, restored: dict) -> None:
    """A row for each photo that is free to show: clean, damaged, non-local means, minigen, a draw,
    the deviation.
    """
    rows = []
    free = {name: clean for name, clean in photos.items() if name in FREE}
    for name, clean in free.items():
        top, left = ((n - CROP) // 2 for n in clean.shape[1:])
        columns = [clean, made["damaged"][name][0]]
        filtered = [each for method, each in made.items() if method.startswith("non-local")]
        columns += [each[name][0] for each in filtered[-1:]]
        columns += [restored[name]["minigen"], restored[name]["minigen, one draw"]]
        spread = restored[name]["deviation"]
        columns.append(spread / np.quantile(spread, 0.999))
        rows += [np.clip(x[:, top : top + CROP, left : left + CROP], 0, 1) for x in columns]
    save_picture(path, grid(np.stack(rows), columns=len(rows) // len(free)))


def _model(name: str, run: str | None) -> Any:
    if run is None:
        return load_shipped(name)
    from minigen.train import load_run
    from minigen.vae.weights import load_file, save_file

    kept = Path(run) / "averaged.safetensors"  # in float16, as weights ship
    save_file(kept, load_run(run).model, {})
    return load_file(kept)


def _grey(x: np.ndarray) -> np.ndarray:
    """(3, H, W) -> (1, H, W), luma."""
    return np.tensordot(np.array([[0.299, 0.587, 0.114]], np.float32), x, 1)


if __name__ == "__main__":
    main()
