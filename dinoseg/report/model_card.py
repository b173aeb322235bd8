"""The card of a run that goes to the Hub: what it is, how good it is, how to use it. No paths, no names of images."""

import json
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from dinoseg import __version__
from dinoseg.backbone.timm_models import find_or_describe
from dinoseg.config import Config, all_keys
from dinoseg.config.loading import HUB_PREFIX
from dinoseg.console.policy_words import percent, policy_in_words
from dinoseg.evaluation.constant import not_above_constant
from dinoseg.hub.layout import BackboneRecord
from dinoseg.hub.local_keys import LOCAL_KEYS
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_labels
from dinoseg.report.card_front_matter import FrontMatter, Licence
from dinoseg.report.markdown import plain, table
from dinoseg.report.summary import model_in_words

_MEANS = (
    ("mIoU", "mIoU"),
    ("mDice", "mean Dice"),
    ("mAcc", "mean accuracy"),
    ("aAcc", "pixel accuracy"),
    ("mBoundaryIoU", "mean boundary IoU"),
    ("mclDice", "mean clDice"),
)
_OF_CLASSES = (
    ("Dice", "Dice"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("BoundaryIoU", "boundary IoU"),
    ("clDice", "clDice"),
)
_PACKAGES = ("torch", "timm", "huggingface_hub")


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        repository: ``owner/name``.
        config: of the run, without what is local.
        backbone: which, and where its weights are.
        base_model: ``owner/name`` of these on the Hub, where they are published.
        metadata: of the checkpoint: how many images it was trained on, its step.
        split, metrics: what was evaluated last, as it is sent; None without an evaluation.
        pictures: files beside the card.
        pretrained: whether the backbone had weights of anyone's when training began.
    """

    repository: str
    config: Config
    label_space: LabelSpace
    backbone: BackboneRecord
    base_model: str | None
    metadata: Mapping[str, str]
    split: str = ""
    metrics: Mapping[str, Any] | None = None
    pictures: tuple[str, ...] = field(default=())
    pretrained: bool = True


def model_card(facts: CardFacts) -> str:
    """The text of README.md."""
    name = facts.repository.partition("/")[2]
    parts = [
        f"# {plain(name)}",
        f"Semantic segmentation into {_count(facts.label_space.num_classes, 'class', 'classes')}: "
        f"{plain(model_in_words(facts.config))}. Made with dinoseg.",
        *_use(facts),
        *_training(facts),
        *_figures(facts),
        *_pictures(facts),
        *_licence(facts),
        "## Versions",
        f"dinoseg {__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
        + ".",
    ]
    return f"{_front_matter(facts, name).to_yaml()}\n" + "\n\n".join(parts) + "\n"


def licence_of(facts: CardFacts) -> Licence | None:
    """That of the backbone's weights; None where it is not stated, or they are nobody's."""
    if not facts.pretrained:
        return None
    return Licence.of(find_or_describe(facts.backbone.name).licence)


def _front_matter(facts: CardFacts, name: str) -> FrontMatter:
    family = facts.backbone.name.partition("_")[0]
    tags = ["dinoseg", "semantic-segmentation", *([family] if family.startswith("dinov") else [])]
    tags.append(facts.config.decoder_head.type)
    return FrontMatter(name, facts.base_model, licence_of(facts), tuple(tags), facts.split, facts.metrics)


def _use(facts: CardFacts) -> list[str]:
    address = f"{HUB_PREFIX}{facts.repository}"
    extra = "[lora]" if facts.config.model.mode == "lora" and facts.backbone.weights != "included" else ""
    needs_file = facts.backbone.weights == "file"
    measured_with = _predicting(facts)
    settings = [*(["model.weights=FILE"] if needs_file else []), *measured_with]
    shell, python = (
        f" {shlex.join(settings)}" if settings else "",
        f", overrides={json.dumps(settings)}" if settings else "",
    )
    text = [
        "## Use",
        f"With dinoseg{extra} installed:",
        f"```bash\ndinoseg predict {address} images/ --out predictions/{shell}\n```",
        f'```python\nimport dinoseg\n\nsegmenter = dinoseg.load("{address}"{python})\n'
        'labels = segmenter.predict("image.png").labels  # (height, width), label ids\n```',
        *(
            [f"The figures below are with {plain(', '.join(measured_with))}, unlike the defaults."]
            if measured_with
            else []
        ),
        _backbone_in_words(facts),
    ]
    return text


def _predicting(facts: CardFacts) -> list[str]:
    """Settings that the figures were measured with, and that decide what is predicted."""
    given = [] if facts.metrics is None else facts.metrics.get("overrides") or []
    keys = {entry.key for entry in all_keys() if entry.is_used_by("predict")} - set(LOCAL_KEYS)
    return [setting for setting in given if setting.partition("=")[0] in keys]


def _backbone_in_words(facts: CardFacts) -> str:
    backbone = facts.backbone
    if not facts.pretrained:
        return "The whole model is here, its backbone included, which began with random weights."
    if backbone.weights == "included":
        return "The whole model is here, its backbone included: nothing else is fetched."
    digest = f"(SHA-256 of its tensors `{backbone.sha256}`)"
    if backbone.weights == "file":
        return (
            f"Only what was trained is here. The backbone, `{backbone.name}`, had its weights from a file that is not "
            f"here {digest}: FILE is that one, to be had from whoever trained this. Any other is refused."
        )
    return (
        f"Only what was trained is here. The backbone, `{backbone.name}`, is fetched from "
        f"[{facts.base_model}](https://huggingface.co/{facts.base_model}) {digest}; any other is refused."
    )


def _training(facts: CardFacts) -> list[str]:
    config, space = facts.config, facts.label_space
    lines = []
    images = [(_leading_number(facts.metadata.get(f"{split}_images", "")), split) for split in ("train", "val")]
    counted = [f"{number} for {'training' if split == 'train' else 'validation'}" for number, split in images if number]
    if counted:
        lines.append(f"images: {', '.join(counted)}")
    crop = config.transforms.train.crop_size
    lines.append(f"crops of {_size(crop)} px" + _short_side(config.transforms.train.img_size))
    step = facts.metadata.get("step")
    if step and step.isdecimal():
        lines.append(
            f"the checkpoint after {step} of {config.scheduler.total_iter} optimiser steps, each of {config.bs} images "
            "a process"
        )
    if config.datasets.bands is not None:
        lines.append(f"bands of the files: {', '.join(map(str, config.datasets.bands))}")
    if config.datasets.range is not None:
        lines.append(f"values from black to white: {plain(str(config.datasets.range))}")
    lines.append(f"classes, by label id: {_classes(space)}")
    ignored = show_labels(space.ignored_ids, space.kind)
    nouns = "colour" if space.kind == "colours" else "label id"
    counting_nowhere = f"ignored pixels, which count nowhere: those of {nouns} {plain(ignored)}"
    lines.append(counting_nowhere if ignored else "no pixel is ignored")
    return ["## Trained on", "\n".join(f"- {line}" for line in lines)]


def _classes(space: LabelSpace) -> str:
    return ", ".join(
        f"{plain(show_labels(entry.label_ids, space.kind))} {plain(entry.name)}" for entry in space.classes
    )


def _figures(facts: CardFacts) -> list[str]:
    metrics = facts.metrics
    if metrics is None:
        return ["## Figures", "Not evaluated."]
    interval, coverage = metrics["confidence"]["mIoU"], metrics["confidence"]["coverage"]
    units = metrics["confidence"].get("resampled", "images")
    means = [
        [title, percent(metrics[name]), _interval(interval) if name == "mIoU" else ""]
        for name, title in _MEANS
        if name in metrics
    ]
    words = " ".join(policy_in_words(metrics["policy"], facts.label_space.kind))
    parts = [
        f"## Figures: {facts.split}",
        f"In percent, {coverage} % intervals over the {units} by bootstrap; all in metrics.json.",
        table(["mean", "", f"{coverage} %"], means),
        f"How they were measured: {plain(words)}",
    ]
    if metrics.get("constant"):
        parts.append(_constant_in_words(metrics))
    if metrics.get("overrides"):
        parts.append(f"Measured with: {plain(', '.join(metrics['overrides']))}.")
    return [*parts, _class_table(metrics, coverage)]


def _constant_in_words(metrics: Mapping[str, Any]) -> str:
    """What always predicting one class would score."""
    constant = metrics["constant"]
    name = plain(metrics["per_class"][constant["class_index"]]["name"])
    words = f"To predict {name} everywhere scores mIoU {percent(constant['mIoU'])}, aAcc {percent(constant['aAcc'])}"
    beaten = not_above_constant(dict(metrics))
    return f"{words}; in {' and '.join(beaten)} this run is not better." if beaten else f"{words}."


def _class_table(metrics: Mapping[str, Any], coverage: int) -> str:
    rows = metrics["per_class"]
    shown = [(name, title) for name, title in _OF_CLASSES if name in rows[0]]
    header = ["label id", "class", "IoU", f"{coverage} %", *(title for _, title in shown), "pixels"]
    cells = [
        [
            plain(str(row["label_id"])),
            plain(row["name"]),
            percent(row["IoU"]),
            _interval(row["IoU_interval"]),
            *(percent(row[name]) for name, _ in shown),
            f"{row['truth']:,}",
        ]
        for row in rows
    ]
    return table(header, cells, numbers_from=2)


def _pictures(facts: CardFacts) -> list[str]:
    if not facts.pictures:
        return []
    shown = [f"![image, truth, prediction and errors]({picture})" for picture in facts.pictures]
    return ["## Pictures", "Images of the validation during training.", *shown]


def _licence(facts: CardFacts) -> list[str]:
    licence, words = licence_of(facts), find_or_describe(facts.backbone.name).licence
    said = f"[{licence.name}]({licence.link})" if licence and licence.link else plain(words)
    text = f"The weights of the backbone are under their own licence: {said}."
    if not facts.pretrained:
        text = "The backbone began with random weights, which are nobody's."
    source = facts.metadata.get("source_repository")
    if source is not None:
        text += f" The head was made from that of {plain(source)}, which has its own, too."
    return ["## Licence", text]


def _leading_number(text: str) -> int | None:
    number = text.partition(" ")[0]
    return int(number) if number.isdecimal() else None


def _size(size: Any) -> str:
    height, width = size if isinstance(size, list) else (size, size)
    return f"{height} × {width}"


def _short_side(size: int | None) -> str:
    return "" if size is None else f" of images whose short side is {size} px"


def _interval(value: list[float] | None) -> str:
    return "n/a" if value is None else f"{value[0]:.2f} to {value[1]:.2f}"


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
