"""The curves of ``quality_minutes.py`` as one picture, and its table as Markdown."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

matplotlib.use("svg")
from matplotlib import pyplot

TITLES = {"drive": "DRIVE, artery and vein", "camvid": "CamVid, 11 classes"}
# Okabe and Ito's colours, told apart with every kind of colour vision.
COLOURS = {
    "dense": "#d55e00",
    "dense, scale 2, single pixels": "#56b4e9",
    "m2f": "#0072b2",
    "LoRA": "#009e73",
    "pmt": "#cc79a7",
    "linear": "#999999",
    "linear, cached": "#000000",
    "dense without backbone": "#e69f00",
}
TABLE_MINUTES = (2, 5, 10, 20, 60)
# A point may lie a little after its mark.
_LATE = 1.1


def draw(results: dict[str, Any], path: Path) -> str:
    """Writes the picture (SVG); returns the table.

    Args:
        results: by set and contender, as ``quality_minutes.py`` writes them.
    """
    sets = [name for name in TITLES if name in results]
    for contenders in results.values():
        for contender in contenders.values():
            _give_minutes(contender)
    figure, axes = pyplot.subplots(1, len(sets), figsize=(5 * len(sets), 3.6), squeeze=False, layout="constrained")
    for name, panel in zip(sets, axes[0], strict=True):
        _draw_set(panel, TITLES[name], results[name])
    axes[0][0].set_ylabel("mIoU of the test split, %")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return "\n\n".join(_table(TITLES[name], results[name]) for name in sets)


def _give_minutes(contender: dict[str, Any]) -> None:
    """When a point was reached, by its step and the pace; some were measured by the clock."""
    for point in contender.get("points", []):
        if "step" in point:
            pace = contender["pace"]
            point["minutes"] = (pace["begin_seconds"] + point["step"] * pace["step_seconds"]) / 60


def _draw_set(panel: Axes, title: str, contenders: dict[str, Any]) -> None:
    for name, colour in COLOURS.items():
        points = contenders.get(name, {}).get("points", [])
        if not points:
            continue
        minutes, values = [point["minutes"] for point in points], [point["mIoU"] for point in points]
        lower, upper = zip(*(point["interval"] for point in points), strict=True)
        panel.fill_between(minutes, lower, upper, color=colour, alpha=0.15, linewidth=0)
        panel.plot(minutes, values, color=colour, marker="o", markersize=3, label=name)
    panel.set_xscale("log")
    ticks = [mark for mark in (1, 2, 5, 10, 20, 30, 60) if mark <= panel.get_xlim()[1]]
    panel.set_xticks(ticks, labels=[str(mark) for mark in ticks])
    panel.minorticks_off()
    panel.set_xlabel("minutes, features included")
    panel.set_title(title)
    panel.grid(alpha=0.3)
    panel.legend(loc="lower right", fontsize="x-small", frameon=False)


def _table(title: str, contenders: dict[str, Any]) -> str:
    lines = [
        f"| {title} | " + " | ".join(f"{minutes} min" for minutes in TABLE_MINUTES) + " | end | end, flips averaged |",
        "| --- |" + " ---: |" * (len(TABLE_MINUTES) + 2),
    ]
    for name in COLOURS:
        if "points" in contenders.get(name, {}):
            points = contenders[name]["points"]
            cells = [_cell(_point_at(points, minutes)) for minutes in TABLE_MINUTES]
            cells += [_cell(points[-1], with_minutes=True), _cell(contenders[name].get("augmented"))]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _point_at(points: list[dict[str, Any]], minutes: float) -> dict[str, Any] | None:
    """What a run had by then: nothing where it had written no checkpoint yet, or had ended long before."""
    before = [point for point in points if point["minutes"] <= minutes * _LATE]
    if not before or (before[-1] is points[-1] and points[-1]["minutes"] < minutes / 2):
        return None
    return before[-1]


def _cell(point: dict[str, Any] | None, *, with_minutes: bool = False) -> str:
    if point is None:
        return ""
    lower, upper = point["interval"]
    after = f", {point['minutes']:.0f} min" if with_minutes else ""
    f1 = f"; F1 {point['weighted_f1']:.1f}" if "weighted_f1" in point else ""
    return f"{point['mIoU']:.1f} ({lower:.1f} to {upper:.1f}{after}){f1}"
