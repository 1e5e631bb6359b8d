"""report.html: one file, without links to others, that shows a run to whoever opens it."""

import base64
import math
import statistics
import time
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from minigen import files
from minigen.train.config import RunConfig
from minigen.train.errors import RunError
from minigen.train.evaluations import read_evaluations
from minigen.train.plot import have_matplotlib, line_chart
from minigen.train.progress import duration
from minigen.train.run_directory import RunDirectory

# In a line of metrics.jsonl.
NOT_LOSSES = ("step", "images_per_second", "seconds", "health", "findings")
MADE_ALIKE = ("data", "images", "samples", "features")  # evaluations that a curve may join
PICTURES = 8  # sample grids shown, spread over the run


def write_report(
    directory: RunDirectory,
    config: RunConfig,
    step: int,
    signal: int | None = None,
    ending: str = "",
) -> Path:
    """Write RUN/report.html from what lies in the run's folder; RunError when it cannot be."""
    metrics = directory.read_metrics()
    ending = ending or ("finished" if step >= config.steps else "stopped" if signal else "so far")
    title = f"{config.model} on {config.data.source}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{_summary(config, metrics, step, ending)}</p>",
        _samples(directory),
        _losses(metrics),
        _health(directory, metrics),
        _final(metrics),
        _evaluation(directory),
        _config(directory),
        f"<footer>minigen, {time.strftime('%Y-%m-%d %H:%M')}. To go on with this run: "
        f"<code>{escape(directory.resume_command())}</code></footer>",
    ]
    text = _PAGE.replace("{title}", escape(title)).replace("{body}", "\n".join(body))
    try:
        files.write_text_atomic(directory.report, text)
    except OSError as error:
        raise RunError(str(error)) from error
    return directory.report


def _summary(config: RunConfig, metrics: list[dict[str, Any]], step: int, ending: str) -> str:
    parts = [f"<b>{escape(ending)}</b> at step {step:,} of {config.steps:,}"]
    if metrics:
        parts.append(f"{duration(metrics[-1]['seconds'])} of training")
        rate = statistics.median(record["images_per_second"] for record in metrics)
        parts.append(f"{rate:,.0f} images a second on {escape(config.device)}")
    return ", ".join(parts) + "."


def _samples(directory: RunDirectory) -> str:
    """The newest grid large, earlier ones small beside it."""
    grids = directory.grids()
    if not grids:
        return ""
    spread = {round(i * (len(grids) - 1) / (PICTURES - 1)) for i in range(PICTURES)}
    chosen = [grids[i] for i in sorted(spread)]
    figures = [
        f'<figure><img src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}" '
        f'alt="samples"><figcaption>step {_step(file):,}</figcaption></figure>'
        for file in chosen
    ]
    early = f'<div class="row">{"".join(figures[:-1])}</div>' if figures[1:] else ""
    return (
        "<h2>Samples</h2>\n<p>The same noise each time.</p>\n"
        f'<div class="newest">{figures[-1]}</div>\n{early}'
    )


def _step(file: Path) -> int:
    return int(file.stem.removeprefix("step-"))


def _losses(metrics: list[dict[str, Any]]) -> str:
    names = [name for name in (metrics[-1] if metrics else {}) if name not in NOT_LOSSES]
    if not have_matplotlib():
        return "<h2>Losses</h2>\n<p>Charts need matplotlib: pip install 'minigen[plot]'</p>"
    charts = _charts(metrics, names)
    return f"<h2>Losses</h2>\n{charts}" if charts else ""


def _health(directory: RunDirectory, metrics: list[dict[str, Any]]) -> str:
    """What was found wrong while training, and the signs that were watched."""
    looks = [{"step": r["step"], **r["health"]} for r in metrics if "health" in r]
    found = directory.findings()
    if not looks and not found:
        return ""
    items = "".join(
        f"<li><b>step {each['step']:,}, {escape(each['name'])}</b>: {escape(each['text'])}</li>"
        for each in found
    )
    names = dict.fromkeys(name for each in looks for name in each if name != "step")
    told = f"<ul>{items}</ul>" if items else "<p>Nothing was found wrong.</p>"
    return f"<h2>Health</h2>\n{told}\n{_charts(looks, names) if have_matplotlib() else ''}"


def _charts(records: list[dict[str, Any]], names: Iterable[str]) -> str:
    """A row of charts, one for each name that records have numbers of."""
    charts = []
    for name in names:
        drawn = [record for record in records if isinstance(record.get(name), int | float)]
        charts.append(line_chart(name, [r["step"] for r in drawn], [r[name] for r in drawn]))
    return f'<div class="row">{"".join(charts)}</div>' if any(charts) else ""


def _final(metrics: list[dict[str, Any]]) -> str:
    if not metrics:
        return ""
    rows = {
        name: f"{value:,.6g}" if isinstance(value, float) else value
        for name, value in metrics[-1].items()
        if name not in ("step", "health", "findings")
    }
    return f"<h2>At step {metrics[-1]['step']:,}</h2>\n{_table(rows)}"


def _evaluation(directory: RunDirectory) -> str:
    """The newest step's evaluation of most samples as a table, and once there are two steps each
    metric over steps.
    """
    found = read_evaluations(directory.evaluation)
    if not found:
        return ""
    newest = found[-1]
    rows = {
        name: f"{_number(each['value'])} ({_number(each['low'])} to {_number(each['high'])})"
        for name, each in newest["metrics"].items()
    }
    alike = [each for each in found if all(each.get(k) == newest.get(k) for k in MADE_ALIKE)]
    curve = list({each["step"]: each for each in alike}.values())  # of several seeds, one a step
    title = f"<h2>On images not trained on, at step {newest['step']:,}</h2>"
    return f"{title}\n{_table(rows)}{_evaluation_charts(curve)}"


def _evaluation_charts(found: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for each in found for name in each["metrics"])
    charts = []
    for name in names if have_matplotlib() else ():
        points = [
            (each["step"], each["metrics"][name]) for each in found if name in each["metrics"]
        ]
        # What is measured of real images alone is no curve of the model's.
        if len(points) > 1 and not name.endswith("-of-real"):
            steps, intervals = zip(*points, strict=True)
            values, lows, highs = ([i[k] for i in intervals] for k in ("value", "low", "high"))
            charts.append(line_chart(name, steps, values, lows=lows, highs=highs))
    return f'\n<div class="row">{"".join(charts)}</div>' if charts else ""


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "?"


def _config(directory: RunDirectory) -> str:
    import tomllib

    config = tomllib.loads(directory.config_file.read_text("utf-8"))
    rows = {}
    for key, value in config.items():
        if isinstance(value, dict):
            rows.update({f"{key}.{name}": each for name, each in value.items()})
        else:
            rows[key] = value
    return f"<h2>Config</h2>\n{_table(rows)}"


def _table(rows: dict[str, Any]) -> str:
    cells = (
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
:root { color-scheme: light dark;
  --faint: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
table { border-collapse: collapse; }
th { font-weight: normal; text-align: left; opacity: .7; padding-right: 2rem; }
td { font-variant-numeric: tabular-nums; } th, td { border-bottom: 1px solid var(--faint); }
figure { margin: 0; } figcaption { font-size: .85rem; opacity: .7; }
img { width: 100%; image-rendering: pixelated; border: 1px solid var(--faint); }
.newest { max-width: 560px; margin-bottom: 1rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .row figure { width: 120px; }
svg { max-width: 100%; height: auto; }
footer { margin: 3rem 0; font-size: .85rem; opacity: .8; }
</style></head><body>
{body}
</body></html>
"""
