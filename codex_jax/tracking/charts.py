"""Draw curves as inline SVG: axes, ticks and lines in the colours of the page's style sheet, no script."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from codex_jax.tracking import progress
from codex_jax.tracking.curves import Point


LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 40  # margins around the plot, in units of the drawing


class Series(NamedTuple):
    """One line of a chart."""

    label: str
    look: str
    """class of the style sheet: raw, train, validation, baseline or run-N, and smooth-N beside it"""
    points: Sequence[Point]
    dots: bool = False
    """whether few points are marked: they are values somebody waited for, like evaluations"""


class Axis(NamedTuple):
    """A scale from values to units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]

    def place(self, value: float) -> float:
        """Return where `value` is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(series: Sequence[Series], *, label: str, width: int, height: int, from_zero: bool) -> str:
    """Return an SVG element with step on the x axis; `label` describes it to screen readers.

    `from_zero` starts the y axis at 0 instead of below the smallest value. Without a point: a sentence that says so.
    """
    points = [point for line in series for point in line.points]
    if not points:
        return '<p class="empty">No values yet.</p>'
    x = _axis([step for step, _ in points], start=LEFT, end=width - RIGHT, num_ticks=max(3, width // 110), whole=True)
    values = [value for _, value in points] + ([0.0] if from_zero else [])
    y = _axis(values, start=height - BOTTOM, end=TOP, num_ticks=5, whole=False)
    body = _grid(x, y, width, height) + "".join(_draw(line, x, y) for line in series if line.points)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'


def legend(series: Sequence[Series]) -> str:
    """Return the names of the lines beside a stroke of their colour."""
    entries = [f'<li class="{line.look}">{escape(line.label)}</li>' for line in series if line.points and line.label]
    return f'<ul class="legend">{"".join(entries)}</ul>'


def tick_values(low: float, high: float, num_ticks: int, *, whole: bool) -> list[float]:
    """Return about `num_ticks` round numbers that lie in [low, high]; `whole` allows only integers."""
    rough = (high - low) / max(1, num_ticks)
    size = 10.0 ** math.floor(math.log10(rough))
    size *= next(factor for factor in (1, 2, 5, 10) if factor * size >= rough * 0.999)
    if whole:
        size = max(1.0, size)
    first = math.ceil(low / size - 1e-9)
    count = math.floor(high / size + 1e-9) - first + 1
    return [(first + index) * size for index in range(count)]


def _axis(values: Sequence[float], *, start: float, end: float, num_ticks: int, whole: bool) -> Axis:
    low, high = float(min(values)), float(max(values))
    if not whole:
        room = 0.04 * (high - low)
        low, high = low - room * (low != 0), high + room
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
        low = max(low, 0.0) if min(values) >= 0 else low
    return Axis(low, high, start, end, tick_values(low, high, num_ticks, whole=whole))


def _grid(x: Axis, y: Axis, width: int, height: int) -> str:
    right, floor = width - RIGHT, height - BOTTOM
    parts = []
    for tick in y.ticks:
        at = y.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x.ticks:
        at = x.place(tick)
        parts.append(f'<path class="axis" d="M{at:.1f} {floor}v4"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 18}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {floor}H{right}"/>')
    parts.append(f'<text class="name" x="{right}" y="{height - 5}" text-anchor="end">step</text>')
    return "".join(parts)


def _draw(line: Series, x: Axis, y: Axis) -> str:
    places = [(x.place(step), y.place(value)) for step, value in line.points]
    path = "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in places)
    drawn = f'<path class="line {line.look}" d="{path}"/>' if len(places) > 1 else ""
    if len(places) == 1 or (line.dots and len(places) <= 60):
        drawn += "".join(f'<circle class="{line.look}" cx="{a:.1f}" cy="{d:.1f}" r="3"/>' for a, d in places)
    return drawn


def number(value: float) -> str:
    """Return a number for a tick or a headline: three digits, with k, M, B for thousands and more."""
    if abs(value) >= 1000:
        return progress.count(value).replace(".0", "")
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"
