"""A comparison for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dinoseg.console.columns import add_figures, add_names
from dinoseg.console.policy_words import percent
from dinoseg.evaluation.compare import FEWEST_IMAGES, Comparison, Difference, ImageDifference
from dinoseg.system.messages import plural

_VERDICT = (
    "* beyond chance: the paired 95 % bootstrap interval over {0} excludes 0. It speaks of other {0}, not of another "
    "training seed; takes {0} as independent, which {1} are not; and speaks of each line alone: of 20 lines without a "
    "difference about one gets a star."
)


def comparison_table(comparison: Comparison) -> Group:
    """Per-class differences with intervals, what they add up to, images that differ most, and what else differs."""
    paths = f"first:  {comparison.first}\nsecond: {comparison.second}"
    parts: list[RenderableType] = [Text(paths, no_wrap=True, overflow="ignore")]
    if comparison.unlike:
        lines = ["not measured alike (first | second), which is part of what is compared:", *comparison.unlike]
        parts.append(Text("\n  ".join(lines), style="bold yellow"))
    units, alike = "images", "frames of one video"
    if comparison.volumes is not None:
        units, alike = "volumes", "those of one patient"
    verdict = _VERDICT.format(units, alike)
    parts += [_class_table(comparison), Text(_summary(comparison), style="bold"), Text(verdict)]
    parts += [Text(remark, style="yellow") for remark in comparison.remarks]
    for title, images in (("second gains most", comparison.better), ("second loses most", comparison.worse)):
        if images:
            parts.append(_image_table(title, images))
    return Group(*parts)


def _class_table(comparison: Comparison) -> Table:
    of = "" if comparison.volumes is None else f" of {comparison.units}"
    title = f"IoU, %, {plural(comparison.images, 'image')}{of} ({comparison.absent_classes})"
    table = Table(title=title, title_justify="left")
    add_figures(table, "label\nid")
    add_names(table, "name")
    add_figures(table, "first", "second", "difference", "95 % interval", "")
    for label_id, name, difference in comparison.classes:
        table.add_row(str(label_id), escape(name), *_cells(difference))
    table.add_section()
    table.add_row("", "mean (mIoU)", *_cells(comparison.miou))
    return table


def _cells(difference: Difference) -> list[str]:
    interval = difference.interval
    between = "n/a" if interval is None else f"{interval[0]:+.2f} .. {interval[1]:+.2f}"
    return [
        percent(difference.first),
        percent(difference.second),
        "n/a" if difference.difference is None else f"{difference.difference:+.2f}",
        between,
        "*" if difference.beyond_chance else "",
    ]


def _summary(comparison: Comparison) -> str:
    named = [(name, difference) for _, name, difference in comparison.classes if difference.beyond_chance]
    gains = [name for name, difference in named if (difference.difference or 0.0) > 0]
    losses = [name for name, difference in named if (difference.difference or 0.0) < 0]
    verdict = "beyond chance" if comparison.miou.beyond_chance else "within chance"
    if (comparison.volumes or comparison.images) < FEWEST_IMAGES:
        verdict = f"which {comparison.units} cannot tell from chance ({FEWEST_IMAGES} at least)"
    change = "n/a" if comparison.miou.difference is None else f"{comparison.miou.difference:+.2f} points, {verdict}"
    lines = [f"mIoU: second less first {change}"]
    if (comparison.volumes or comparison.images) < FEWEST_IMAGES:
        return lines[0]
    lines.append(
        f"classes that gain beyond chance: {', '.join(gains) or 'none'}; that lose: {', '.join(losses) or 'none'}"
    )
    return "\n".join(lines)


def _image_table(title: str, images: Sequence[ImageDifference]) -> Table:
    table = Table(title=f"{title} (mIoU of the image, %)", title_justify="left")
    add_names(table, "image")
    add_figures(table, "first", "second", "difference")
    for entry in images:
        table.add_row(escape(entry.name), f"{entry.first:.2f}", f"{entry.second:.2f}", f"{entry.difference:+.2f}")
    return table
