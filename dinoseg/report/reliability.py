"""The reliability diagram: how often the predicted class is right, against how sure the model is of it."""

from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 380, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
# Height of the bars below the diagonal's axis that say how many pixels a bin holds.
_BARS = 46
_GAP = 8


def reliability_section(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What the page shows of the calibration in metrics.json; None where it was not measured, or no pixel counts."""
    found = metrics.get("calibration")
    if not found or found["ECE"] is None:
        return None
    before = found["uncalibrated"]
    return {
        "ECE": found["ECE"],
        "NLL": found["NLL"],
        "before": before,
        "temperatures": _temperatures(metrics["policy"]) if before else [],
        "svg": reliability_svg(found["bins"], before["bins"] if before else None),
        "bins": [row for row in found["bins"] if row["pixels"]],
    }


def reliability_svg(bins: list[dict[str, Any]], before: list[dict[str, Any]] | None) -> Markup:
    """The diagram as an ``<svg>``.

    Bars: share of right pixels in each bin of confidence; what lacks to the diagonal is hatched lightly. Below: the
    share of pixels in each bin. A dashed line: what it was before the temperature.

    Args:
        bins: of metrics.json, in percent.
        before: those without a temperature.
    """
    floor = HEIGHT - _BOTTOM - _BARS - _GAP
    total = max(1, sum(row["pixels"] for row in bins))
    most = max(row["pixels"] for row in bins) or 1
    parts = [_axes(floor)]
    width = (WIDTH - _LEFT - _RIGHT) / len(bins)
    for index, row in enumerate(bins):
        if not row["pixels"]:
            continue
        left = _LEFT + index * width
        share = 100 * row["pixels"] / total
        title = (
            f"confidence {row['confidence']:.1f} %, right {row['accuracy']:.1f} %; {share:.1f} % of the pixels "
            f"({row['pixels']:,})"
        )
        top, height = _down(row["accuracy"], floor), _BARS * row["pixels"] / most
        parts.append(
            Markup(
                '<g><title>{}</title><rect class="right" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"></rect>'
                '<rect class="share" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"></rect></g>'
            ).format(
                *(title, left + 1, top, width - 2, floor - top),
                *(left + 1, HEIGHT - _BOTTOM - height, width - 2, height),
            )
        )
    parts.append(
        Markup('<line class="ideal" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"></line>').format(
            _LEFT, _down(0, floor), WIDTH - _RIGHT, _down(100, floor)
        )
    )
    parts += [_curve(before, "line-2", floor)] if before else []
    parts.append(_curve(bins, "line-1", floor))
    return Markup('<svg class="reliability" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, "share of right pixels against confidence", Markup("").join(parts)
    )


def _curve(bins: list[dict[str, Any]], style: str, floor: int | float) -> Markup:
    points = [(_across(row["confidence"]), _down(row["accuracy"], floor)) for row in bins if row["pixels"]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = Markup('<polyline class="{}" points="{}"></polyline>').format(style, path)
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.6"></circle>')
    return drawn + Markup("").join(dot.format(style, x, y) for x, y in points)


def _axes(floor: int | float) -> Markup:
    parts = []
    for tick in range(0, 101, 25):
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"></line>'
                '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
                '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
            ).format(
                *(_LEFT, WIDTH - _RIGHT, _down(tick, floor), _down(tick, floor)),
                *(_LEFT - 6, _down(tick, floor) + 4, tick),
                *(_across(tick), HEIGHT - _BOTTOM + 15, tick),
            )
        )
    words = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>')
    parts.append(words.format((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "middle", "confidence, %"))
    parts.append(words.format(_LEFT - 6, HEIGHT - _BOTTOM - _BARS / 2, "end", "pixels"))
    return Markup("").join(parts)


def _across(percent: int | float) -> int | float:
    return _LEFT + percent / 100 * (WIDTH - _LEFT - _RIGHT)


def _down(percent: int | float, floor: int | float) -> int | float:
    return floor - percent / 100 * (floor - _TOP)


def _temperatures(policy: dict[str, Any]) -> list[int | float]:
    """Of the run, or of each of several."""
    return [said.get("temperature", 1.0) for said in policy.get("members") or [policy]]
