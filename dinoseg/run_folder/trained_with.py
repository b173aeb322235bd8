"""What a checkpoint was trained with, in its metadata: config.yaml and labels.json of another run, or edited since, are
found."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dinoseg.config import Config, all_keys, get_key
from dinoseg.config.option import show_value
from dinoseg.labels import LabelSpace
from dinoseg.system.json_files import parse_json, show_found

_SETTINGS, _LABELS, _LEARNED = "settings", "labels", "val_images_learned"
# What gives the model its form and its inputs their meaning; beside these, keys that may differ were used in training.
_OF_THE_MODEL = (
    "model.dino_hub",
    "model.backbone_scale",
    "decoder_head.",
    "lora.",
    "transforms.mean",
    "transforms.std",
    "datasets.white_level",
    "datasets.bands",
    "datasets.range",
    "model.band_weights",
)
_REMEDY = "copy the whole folder of the run again"


def describe_training(config: Config, label_space: LabelSpace) -> dict[str, str]:
    """Entries of a checkpoint's metadata: the settings that shape a training, and its label table."""
    settings = {entry.key: get_key(config, entry.key) for entry in all_keys() if entry.option.resume != "free"}
    return {_SETTINGS: json.dumps(settings), _LABELS: json.dumps(_label_table(label_space))}


def describe_learned(images: int) -> dict[str, str]:
    """The entry for validation images that the runs that it began with learned from; none of no image."""
    return {_LEARNED: str(images)} if images else {}


def read_learned(metadata: Mapping[str, str]) -> int:
    """What ``describe_learned`` wrote; 0 where it wrote nothing."""
    said = metadata.get(_LEARNED, "")
    return int(said) if said.isdecimal() else 0


def refuse_other_labels(metadata: Mapping[str, str], label_space: LabelSpace, file: Path) -> None:
    """Compares a label space with the one that a checkpoint was trained with; older checkpoints do not say theirs.

    Colours of classes may differ: they are for the eye.

    Args:
        metadata: of the checkpoint.
        file: that the label space was read from.

    Raises:
        ValueError: they are not the same; names the file and the first difference.
    """
    recorded, now = _recorded(metadata, _LABELS, file), _label_table(label_space)
    for key, value in now.items():
        if key not in recorded or recorded[key] == value:
            continue
        before, after = show_value(recorded[key]), show_value(value)
        if key == "classes":
            before, after = _first_other_class(recorded[key], value)
        raise ValueError(
            f"{file}: not the labels that the checkpoint was trained with: {key}: {before} there, {after} in the file; "
            f"{_REMEDY}, or train again to change labels"
        )


def refuse_other_settings(metadata: Mapping[str, str], config: Config, file: Path, resumed: bool) -> None:
    """Compares a run's config with the one that a checkpoint was trained with; older checkpoints do not say theirs.

    Args:
        metadata: of the checkpoint.
        config: as the file says, without overrides.
        resumed: the training goes on, so that all that shapes it counts; else what gives the model's output its
            meaning.

    Raises:
        ValueError: a key differs; names the file and the key.
    """
    recorded = _recorded(metadata, _SETTINGS, file)
    keys = [entry.key for entry in all_keys() if entry.option.resume != "free" and entry.key in recorded]
    for key in keys if resumed else _of_the_model(keys):
        now = json.loads(json.dumps(get_key(config, key)))
        if now != recorded[key]:
            raise ValueError(
                f"{file}: not the config that the checkpoint was trained with: {key}: {show_value(recorded[key])} "
                f"there, {show_value(now)} in the file; {_REMEDY}, or set {key} back"
            )


def _of_the_model(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key.startswith(_OF_THE_MODEL)]


def _recorded(metadata: Mapping[str, str], name: str, file: Path) -> dict[str, Any]:
    if name not in metadata:
        return {}
    source = f"{file}: the checkpoint's metadata"
    try:
        document = parse_json(metadata[name].encode())
    except ValueError as error:
        raise ValueError(f"{source}: {name}: damaged ({error}); {_REMEDY}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{source}: {name}: {show_found(document)} found, an object expected; {_REMEDY}")
    return document


def _label_table(label_space: LabelSpace) -> dict[str, Any]:
    return {
        "kind": label_space.kind,
        "classes": [[entry.name, list(entry.label_ids)] for entry in label_space.classes],
        "ignored_ids": list(label_space.ignored_ids),
        "colour_tolerance": label_space.colour_tolerance,
    }


def _first_other_class(before: Any, after: list[Any]) -> tuple[str, str]:
    """The first class that differs, in words, of both tables."""
    before = before if isinstance(before, list) else []
    places = range(max(len(before), len(after)))
    index = next(place for place in places if before[place : place + 1] != after[place : place + 1])
    shown = [
        f"class {index} = {table[index]}" if index < len(table) else "no more classes" for table in (before, after)
    ]
    return shown[0], shown[1]
