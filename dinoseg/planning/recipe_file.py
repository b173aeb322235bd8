"""A plan as a YAML file that ``train config=`` takes: every choice with its reason, to be read and changed."""

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from dinoseg.config import all_keys, get_key
from dinoseg.planning.plan import Choice, Plan

_WIDTH = 110
# What the figures are that choices rest on.
EVIDENCE = "evidence: mIoU on DRIVE (vessels), CamVid (streets) and drawn sets, docs/plan.md"
# Where a run is written is said when it is trained, and is no part of a recipe.
_LEFT_OUT = ("output_dir",)


def recipe_yaml(plan: Plan, command: str) -> str:
    """The keys that the plan decided and those that were given; no others, whose defaults follow from these.

    Args:
        command: that made it.
    """
    values = {key: get_key(plan.config, key) for key in plan.given if key not in _LEFT_OUT}
    comments: dict[str, str] = {}
    for choice in plan.choices:
        values |= choice.values
        for place, key in enumerate(choice.values):
            comments[key] = comment_of(choice) if place == 0 else f"See {next(iter(choice.values))}."
    comments |= {key: f"Given: {source}." for key, source in plan.given.items() if key in values}
    made_by = [f"# {line}" for line in f"Made by: {command}".splitlines()]
    lines = [*made_by, "#", *_comment("\n".join([*data_in_words(plan), EVIDENCE]), ""), ""]
    order = [entry.key for entry in all_keys() if entry.key in values]
    return "\n".join([*lines, *_nested(order, values, comments)]) + "\n"


def comment_of(choice: Choice) -> str:
    """Reason and evidence."""
    evidence = f" Evidence: {choice.evidence}." if choice.evidence else ""
    # As it is: it may begin with the name of a class.
    return f"{choice.reason}.{evidence}"


def data_in_words(plan: Plan) -> list[str]:
    """What the plan rests on, a line each: images, classes with share, images and width, and the machine."""
    data, machine = plan.fingerprint, plan.machine
    splits = ", ".join(f"{count} {name}" for name, count in data.images.items())
    lines = [
        f"images: {splits}; {data.size[1]} x {data.size[0]} px, {data.bands} bands; widths of {data.masks} masks",
    ]
    for entry in data.classes:
        if entry.share == 0:
            lines.append(f"{entry.name}: no pixel in the training images, so that it cannot be learned")
            continue
        width = "no width known"
        if entry.width is not None:
            width = f"{entry.width.median:.3g} px wide (a tenth below {entry.width.tenth:.3g})"
        lines.append(
            f"{entry.name}: {100 * entry.share:.3g} % of the pixels, in {100 * entry.images:.0f} % of images, {width}"
        )
    memory = f", {machine.memory:g} GB" if machine.memory else ""
    lines.append(f"machine: {machine.device}, {machine.cores} cores, PyTorch on {machine.threads}{memory}")
    return lines


def _nested(keys: list[str], values: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    """Lines of YAML, keys of a section below it."""
    lines: list[str] = []
    above: list[str] = []
    for key in keys:
        *sections, name = key.split(".")
        shared = 0
        while shared < min(len(above), len(sections)) and above[shared] == sections[shared]:
            shared += 1
        lines += [f"{'  ' * depth}{sections[depth]}:" for depth in range(shared, len(sections))]
        indent = "  " * len(sections)
        lines += [*_comment(comments.get(key, ""), indent), f"{indent}{name}: {_value(values[key])}"]
        above = sections
    return lines


def _comment(text: str, indent: str) -> list[str]:
    return [
        line
        for part in text.splitlines()
        for line in textwrap.wrap(
            part, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   ", break_long_words=False
        )
    ]


def _value(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
