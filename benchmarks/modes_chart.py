"""The README's chart of mode collapse: samples on the grid of 25, and modes reached a model.

    python benchmarks/modes_chart.py [results/modes.json] [--out results/modes.png]

The file is what modes.py writes.
"""

import argparse
import json
import sys
from pathlib import Path

import measure
from mode_models import MIXTURES
from modes import TASKS

RESULTS = measure.ROOT / "benchmarks" / "results"
DRAWN = {"gan": "GAN", "pacgan2": "PacGAN, packs of 2", "wgan-gp": "WGAN-GP"}
TITLES = {"ring": "ring of 8", "grid": "grid of 25", "stacked": "stacked MNIST"}
POINTS, OURS, THEIRS, FRAME = "#1f5f8b", "#8ab6d6", "#c1440e", "#b8b8b8"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS / "modes.json")
    parser.add_argument("--out", type=Path, default=RESULTS / "modes.png")
    args = parser.parse_args()
    if not args.file.exists():
        sys.exit(f"modes_chart: no {args.file}; run modes.py first")
    draw(json.loads(args.file.read_text()), args.out)


def draw(result, path):
    """Above, samples of three models on the grid; below, modes reached on each task."""
    from matplotlib.figure import Figure

    tasks = [task for task in TASKS if any(row["task"] == task for row in result["summary"])]
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.12, 1))
    for axes, variant in zip(above.subplots(1, len(DRAWN)), DRAWN, strict=True):
        scatter(axes, result, variant)
    above.suptitle(
        "1,000 samples each; the good ones lie in the circles, within 3 standard deviations",
        fontsize=10,
    )
    panels = below.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        bars(axes, result, task)
    below.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
        fontsize=8,
    )  # fmt: skip
    figure.savefig(path, dpi=130)


def scatter(axes, result, variant):
    """A model's samples over circles of three standard deviations, the good ones' place."""
    grid = MIXTURES["grid"]
    found = [each for each in result["runs"] if each["task"] == "grid" and "points" in each]
    found = [each for each in found if each["variant"] == variant]
    for x, y in grid.centres:
        axes.add_artist(circle(x, y, 3 * grid.std))
    title = DRAWN[variant]
    if found:
        xs, ys = zip(*found[0]["points"], strict=True)
        axes.scatter(xs, ys, s=2.5, color=POINTS, linewidths=0, alpha=0.7, zorder=2)
        title += f": {found[0]['modes']} modes, {found[0]['good']:.0%} good"
    axes.set_title(title, fontsize=10)
    axes.set(xlim=(-5.2, 5.2), ylim=(-5.2, 5.2), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_color(FRAME)


def circle(x, y, radius):
    from matplotlib.patches import Circle

    return Circle((x, y), radius, fill=False, edgecolor=THEIRS, linewidth=0.8, zorder=3)


def bars(axes, result, task):
    """Modes reached, with standard errors, a bar a model; published figures as marks."""
    rows = [row for row in result["summary"] if row["task"] == task]
    places = range(len(rows))
    means, errors = zip(*(row["modes"] for row in rows), strict=True)
    axes.barh(
        places, means, 0.7, xerr=[error or 0 for error in errors], color=OURS, ecolor="black",
        error_kw={"linewidth": 1}, label="minigen: mean and standard error over seeds",
    )  # fmt: skip
    known = [(i, result["published"][task].get(row["variant"])) for i, row in enumerate(rows)]
    known = [(i, row["modes"]) for i, row in known if row]
    axes.errorbar(
        [mean for _, (mean, _) in known], [i for i, _ in known],
        xerr=[error or 0 for _, (_, error) in known], fmt="D", color=THEIRS, markersize=4,
        linewidth=1, label="published (PacGAN)",
    )  # fmt: skip
    axes.axvline(TASKS[task].modes, color="grey", linewidth=0.8)
    axes.set_yticks(places, [row["variant"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(f"modes reached, {TITLES[task]}", fontsize=10)
    axes.set_xlim(0, TASKS[task].modes * 1.06)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=8)


if __name__ == "__main__":
    main()
