"""Line charts as SVG text, so that a report needs no plotting library. Knows nothing of runs."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 30, 34
POINTS = 240  # at most: longer series are drawn as means of buckets, over the band of extremes


def line_chart(title: str, xs: Sequence[float], ys: Sequence[float], x_label: str = "step") -> str:
    """An SVG of y over x: the mean of each bucket as a line, its least and greatest as a band."""
    points = buckets(xs, ys)
    if not points:
        return ""
    x_ticks = ticks(points[0][0], points[-1][0])
    y_ticks = ticks(min(p[2] for p in points), max(p[3] for p in points))
    x0, x1 = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    y0, y1 = min(y_ticks[0], *(p[2] for p in points)), max(y_ticks[-1], *(p[3] for p in points))

    def px(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for tick in y_ticks:
        y = py(tick)
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(tick)}</text>')
    for tick in x_ticks:
        if x0 <= tick <= x1:
            parts.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - 16}" text-anchor="middle">'
                         f"{label(tick)}</text>")  # fmt: skip
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">'
                 f"{escape(x_label)}</text>")  # fmt: skip
    over = [f"{px(x):.1f},{py(high):.1f}" for x, _, _, high in points]
    under = [f"{px(x):.1f},{py(low):.1f}" for x, _, low, _ in reversed(points)]
    parts.append(f'<polygon class="band" points="{" ".join(over + under)}"/>')
    middle = " ".join(f"{px(x):.1f},{py(mean):.1f}" for x, mean, _, _ in points)
    parts.append(f'<polyline class="line" points="{middle}"/>')
    if len(points) == 1:
        parts.append(f'<circle class="dot" cx="{px(x0):.1f}" cy="{py(points[0][1]):.1f}" r="3"/>')
    return "\n".join([*parts, "</svg>"])


def buckets(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """At most POINTS of (x, mean y, least y, greatest y); others than finite ones left out."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    size = max(1, math.ceil(len(pairs) / POINTS))
    points = []
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        values = [y for _, y in part]
        points.append((part[-1][0], math.fsum(values) / len(values), min(values), max(values)))
    return points


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span [low, high], some `about` of them."""
    if not high > low:
        pad = abs(low) / 2 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def label(value: float) -> str:
    """A tick's number, short."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.4g}"
