"""Training curves as inline SVG, drawn without a plotting library: colours come from the page's style sheet."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from dinoseg.system.json_files import is_finite_number

WIDTH, HEIGHT = 380, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 30
_MOST_POINTS = 400
_SMOOTHED_FROM = 20
_LOG_FROM_RATIO = 30
_VAL_FIGURES = ("mIoU", "mDice", "aAcc")


@dataclass(frozen=True)
class Series:
    """One line of a chart. ``style`` is a class of the style sheet: line-1, line-2, line-3, or faint."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    style: str


@dataclass(frozen=True)
class Chart:
    """Series over the optimiser step; ``markers`` draws each point, for sparse series."""

    title: str
    series: tuple[Series, ...]
    log_scale: bool = False
    markers: bool = False


def training_charts(records: Sequence[dict[str, Any]]) -> list[Chart]:
    """Loss, learning rate and validation figures; a chart without a point is left out."""
    train = [record for record in records if record.get("kind") == "train"]
    val = [record for record in records if record.get("kind") == "val"]
    loss = _series("loss", train, "loss", "line-1")
    charts = []
    if loss:
        several = len(loss.values) >= _SMOOTHED_FROM
        lines = (Series(loss.name, loss.steps, loss.values, "faint"), _smoothed(loss)) if several else (loss,)
        low, high = min(loss.values), max(loss.values)
        charts.append(Chart("Loss", lines, log_scale=low > 0 and high / low > _LOG_FROM_RATIO))
    figures = [_series(name, val, name, f"line-{place}") for place, name in enumerate(_VAL_FIGURES, start=1)]
    if found := tuple(series for series in figures if series):
        charts.append(Chart("Validation, %", found, markers=True))
    rate = _series("learning rate", train, "learning_rate", "line-1")
    if rate:
        charts.append(Chart("Learning rate", (rate,)))
    return charts


def chart_svg(chart: Chart, last: int) -> Markup:
    """The chart as an ``<svg>``; its ``data-chart`` attribute holds the points, to be read under the pointer.

    Args:
        last: the step at the right edge, above 0; charts of one run share it.
    """
    values = [value for series in chart.series for value in series.values]
    ticks = log_ticks(min(values), max(values)) if chart.log_scale else linear_ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))

    def across(step: int | float) -> float:
        return _LEFT + step / last * (WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        scaled = (_scale(value, chart) - _scale(low, chart)) / (_scale(high, chart) - _scale(low, chart))
        return HEIGHT - _BOTTOM - scaled * (HEIGHT - _TOP - _BOTTOM)

    parts = [_horizontal_tick(down(tick), tick) for tick in ticks]
    parts += [_vertical_tick(across(tick), tick) for tick in linear_ticks(0, last, 4) if tick <= last]
    for series in chart.series:
        points = [(across(step), down(value)) for step, value in zip(series.steps, series.values, strict=True)]
        parts.append(_line(points, series.style, chart.markers or len(points) == 1))
    frame = {"left": _LEFT, "right": WIDTH - _RIGHT, "last": last}
    lines = [{"name": s.name, "steps": s.steps, "values": s.values} for s in chart.series if s.style != "faint"]
    label = f"{chart.title} over the training step"
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-chart="{}">{}'
        '<line class="cursor" y1="{}" y2="{}" hidden></line></svg>'
    ).format(
        WIDTH,
        HEIGHT,
        label,
        json.dumps({"frame": frame, "lines": lines}),
        Markup("").join(parts),
        _TOP,
        HEIGHT - _BOTTOM,
    )


def linear_ticks(low: int | float, high: int | float, most: int = 5) -> list[float]:
    """Round numbers, at most ``most`` + 1 of them, from at or below ``low`` to at or above ``high``."""
    largest = max(abs(low), abs(high))
    # Values closer than this are one value with rounding errors, for which steps would vanish in them.
    span = high - low if high - low > 1e-9 * largest else largest
    span = span if span > 1e-300 else 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10, 20) if factor * magnitude * most >= span)
    start = math.floor(low / step + 1e-9)
    stop = max(math.ceil(high / step - 1e-9), start + 1)
    return [float(number * step) for number in range(start, stop + 1)]


def log_ticks(low: int | float, high: int | float) -> list[float]:
    """Powers of ten from at or below ``low`` to at or above ``high``; both above 0."""
    start, stop = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**exponent for exponent in range(start, max(stop, start + 1) + 1)]


def _scale(value: float, chart: Chart) -> float:
    return math.log10(value) if chart.log_scale else value


def _series(name: str, records: Iterable[dict[str, Any]], key: str, style: str) -> Series | None:
    points = [(record["step"], record[key]) for record in records if is_finite_number(record.get(key))]
    if not points:
        return None
    steps, values = _thinned(np.array(points, dtype=float)).T
    return Series(name, tuple(steps.tolist()), tuple(values.tolist()), style)


def _thinned(points: np.ndarray) -> np.ndarray:
    """Means of equal runs of points, few enough for a page."""
    if len(points) <= _MOST_POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, _MOST_POINTS)])


def _smoothed(series: Series) -> Series:
    """Centred running median, which a single bad batch does not move."""
    values = np.array(series.values)
    half = max(2, len(values) // 40)
    medians = [float(np.median(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]
    return Series(f"{series.name}, smoothed", series.steps, tuple(medians), "line-1")


def _line(points: list[tuple[float, float]], style: str, markers: bool) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = Markup('<polyline class="{}" points="{}"></polyline>').format(style, path)
    if markers:
        dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.6"></circle>')
        drawn += Markup("").join(dot.format(style, x, y) for x, y in points)
    return drawn


def _horizontal_tick(y: float, value: int | float) -> Markup:
    return Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"></line>'
        '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
    ).format(_LEFT, WIDTH - _RIGHT, y, y, _LEFT - 6, y + 4, escape(f"{value:.6g}"))


def _vertical_tick(x: float, value: int | float) -> Markup:
    return Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
        x, HEIGHT - 10, escape(f"{value:,.6g}")
    )
