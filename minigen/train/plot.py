"""Line charts as SVG text, by matplotlib where it is installed. Knows nothing of runs."""

import importlib.util
import io
from collections.abc import Sequence

import numpy as np

BUCKETS = 240  # at most: a longer series is the mean of each bucket over the band of its extremes


def have_matplotlib() -> bool:
    """Whether charts can be drawn; `pip install 'minigen[plot]'` brings what is needed."""
    return importlib.util.find_spec("matplotlib") is not None


def line_chart(title: str, xs: Sequence[float], ys: Sequence[float], x_label: str = "step") -> str:
    """An SVG of y over x, or "" where there is no finite y."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    pairs = np.array([xs, ys], np.float64)
    pairs = pairs[:, np.isfinite(pairs[1])]
    if not pairs.size:
        return ""
    parts = np.array_split(pairs, min(BUCKETS, pairs.shape[1]), axis=1)
    x = [part[0, -1] for part in parts]
    figure = Figure(figsize=(4.8, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(x, [p[1].min() for p in parts], [p[1].max() for p in parts], alpha=0.25)
    axes.plot(x, [p[1].mean() for p in parts], marker="." if len(parts) == 1 else "")
    axes.set_title(title.replace("$", r"\$"), loc="left")
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
