"""The README's chart: how many times faster than PyTorch each workload trains.

    python benchmarks/chart.py [results/train_step-torch-*.json ...] [--out results/train_step.png]

Each file is the JSON of a train_step.py run; those of one number of threads make one series.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = ("#8ab6d6", "#1f5f8b", "#0b3954")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "train_step.png")
    args = parser.parse_args()
    files = args.files or sorted(RESULTS.glob("train_step-torch-[0-9]-threads.json"))
    if not files:
        sys.exit(f"chart: no train_step-torch-*-threads.json in {RESULTS}; run train_step.py first")
    series = {}
    for file in files:
        result = json.loads(file.read_text())
        for row in result["workloads"]:
            series.setdefault(row["threads"], {})[row["workload"]] = row["ratio"]
    draw(series, result, args.out)


def draw(series, result, path):
    """Bars of the ratios, a series a number of threads; the mean last, a line at 1."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for ratios in series.values() for name in ratios))
    figure = Figure(figsize=(7, 0.9 + 0.42 * (len(names) + 1)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(series)
    for i, (threads, ratios) in enumerate(sorted(series.items())):
        mean = statistics.geometric_mean(ratios.values())
        values = [*(ratios.get(name, 0) for name in names), mean]
        places = [row - 0.4 + (i + 0.5) * height for row in range(len(values))]
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        bars = axes.barh(places, values, height, color=COLOURS[i], label=label)
        axes.bar_label(bars, [f"{v:.2f}" if v else "" for v in values], padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.axhline(len(names) - 0.5, color="grey", linewidth=0.5)
    axes.set_yticks(range(len(names) + 1), [*names, "geometric mean"])
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    peer = result["peer"].replace("torch", "PyTorch").partition("+")[0]
    axes.set_xlabel(f"times as fast as {peer} (above 1: minigen is faster)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(series))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
