"""Line charts as SVG text, by matplotlib where it is installed. Knows nothing of runs."""

import importlib.util
import io
from collections.abc import Sequence

import numpy as np

BUCKETS = 240  # at most: a longer series is the mean of each bucket over the band of its extremes
FEW = 25  # points that are marked, each


def have_matplotlib() -> bool:
    """Whether charts can be drawn; `pip install 'minigen[plot]'` brings what is needed."""
    return importlib.util.find_spec("matplotlib") is not None


def line_chart(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    x_label: str = "step",
    *,
    lows: Sequence[float] | None = None,
    highs: Sequence[float] | None = None,
) -> str:
    """An SVG of y over x, or "" where there is no finite y.

    `lows` and `highs` bound a band around the line; where one is NaN it has no width.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    points = np.array([xs, ys, lows or ys, highs or ys], np.float64)
    points = points[:, np.isfinite(points[1])]
    if not points.size:
        return ""
    points = np.where(np.isfinite(points), points, points[1])
    parts = np.array_split(points, min(BUCKETS, points.shape[1]), axis=1)
    x = [part[0, -1] for part in parts]
    figure = Figure(figsize=(4.8, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(x, [p[2].min() for p in parts], [p[3].max() for p in parts], alpha=0.25)
    axes.plot(x, [p[1].mean() for p in parts], marker="." if len(parts) < FEW else "")
    axes.set_title(title.replace("$", r"\$"), loc="left")
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
