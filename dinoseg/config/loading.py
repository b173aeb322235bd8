"""How a YAML file and ``key=value`` overrides become one checked ``Config``.

An unknown key names the nearest known one; a wrong type names the key, the value and what was expected.
"""

import difflib
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from dinoseg.config.checks import check_values
from dinoseg.config.defaults import settle_fine_tuning
from dinoseg.config.dinov3_dialect import scale_to_unit_range, translate
from dinoseg.config.schema import Config
from dinoseg.system.files import replace_text

REPLACED = (
    "datasets.classes",
    "datasets.images",
    "datasets.masks",
    "train.class_weights",
    "scheduler.constructor_kwargs",
)


@dataclass(frozen=True)
class KeyDescription:
    """One line of ``--help``: dotted key, default as YAML would write it, type in words, sentence."""

    key: str
    default: str
    type: str
    help: str


def describe_keys() -> list[KeyDescription]:
    """Every key of the schema with its default, in the order of the schema."""

    def walk(node: Any, prefix: str) -> Iterator[KeyDescription]:
        for entry in fields(node):
            value = getattr(node, entry.name)
            if is_dataclass(value):
                yield from walk(value, f"{prefix}{entry.name}.")
            else:
                yield KeyDescription(
                    prefix + entry.name, show_value(value), _type_in_words(entry.type), entry.metadata["help"]
                )

    return list(walk(Config(), ""))


def show_value(value: Any) -> str:
    """A value as YAML would write it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _type_in_words(annotation: Any) -> str:
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "Any": "a value"}
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = text.replace("typing.", "")
    base, _, optional = text.partition(" | ")
    words |= {"list[float]": "a list of numbers", "list[str]": "a list of words", "dict[str, Any]": "a mapping"}
    named = words.get(base, base)
    return f"{named} or null" if optional else named


def load_config(arguments: Iterable[str] = (), base: Config | None = None) -> Config:
    """Builds the checked config from ``key=value`` arguments; ``config=file.yaml`` among them is read first.

    Args:
        arguments: overrides in any order, values in YAML syntax (``datasets.classes={0: background, 1: vessel}``).
        base: the config to override, for instance the one of a run; the defaults when left out.

    Raises:
        ValueError: an unknown key (names the nearest known one), a wrong type (key, value, expected type), a value
            outside its choices, two spellings of one option that disagree, a file that cannot be read.

    Warns of a key of DINOv3's configs that is passed over here, with what takes its place.
    """
    files, overrides = _split_arguments(arguments)
    merged = OmegaConf.structured(base or Config())
    for file in files:
        merged = _merge(merged, _read_yaml(file), f"config={file}")
    for argument in overrides:
        merged = _merge(merged, _parse_override(argument), argument)
    config = _resolve(merged)
    _join_spellings(config)
    settle_fine_tuning(config)
    check_values(config)
    _fill_in(config)
    return config


def save_config(config: Config, path: Path) -> None:
    """Writes the config as YAML, so that ``config=path`` reproduces the run."""
    replace_text(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def is_setting(argument: str) -> bool:
    """Whether a command-line argument is ``key=value``; a file may have a ``=`` in its name, too."""
    # Not Path.exists, which raises for what is too long to be a name, such as a mapping of many classes.
    return "=" in argument and not os.path.exists(argument)


def is_given(key: str, settings: Iterable[str]) -> bool:
    """Whether one of the ``key=value`` settings is of this key."""
    return any(setting.partition("=")[0] == key for setting in settings)


def _split_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    files, overrides = [], []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise ValueError(f"{argument!r} is not an option: write key=value, for instance bs=4 or config=recipe.yaml")
        if key == "config":
            files.append(value)
        else:
            overrides.append(argument)
    return files, overrides


def _read_yaml(file: str) -> DictConfig:
    try:
        loaded = OmegaConf.load(file)
    except OSError as error:
        raise ValueError(
            f"config={file}: cannot be read ({error.strerror or error}); give the path of a YAML file"
        ) from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"config={file}: not valid YAML: {error}") from None
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"config={file}: expected `key: value` lines, found a list")
    return loaded


def _parse_override(argument: str) -> DictConfig:
    try:
        parsed = OmegaConf.from_dotlist([argument])
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{argument!r}: the value is not valid YAML ({error})") from None
    return parsed


def _merge(base: DictConfig, addition: DictConfig, source: str) -> DictConfig:
    for remark in translate(addition, source):
        warnings.warn(remark, stacklevel=3)
    known = [entry.key for entry in describe_keys()]
    sections = {key.rsplit(".", 1)[0] for key in known if "." in key}
    for key in _leaves(addition, ""):
        owner = next((entry for entry in known if key == entry or key.startswith(entry + ".")), None)
        if owner is None and key not in sections:
            near = difflib.get_close_matches(key, known, 1, 0.6) or [k for k in known if k.endswith("." + key)]
            hint = f"did you mean {near[0]!r}?" if near else "`dinoseg train --help` lists every key"
            raise ValueError(f"{source}: unknown key {key!r}; {hint}")
    for key in REPLACED:
        # A mapping of the user's own keys is given whole: classes of a recipe must not stay among one's own.
        named = source.startswith("config=") or source.partition("=")[0] == key
        if named and OmegaConf.select(addition, key) is not None:
            OmegaConf.update(base, key, {} if key.endswith("kwargs") else None, merge=False)
    try:
        merged = OmegaConf.merge(base, addition)
    except ConfigKeyError as error:
        raise ValueError(f"{source}: {error.msg}") from None
    except OmegaConfBaseException as error:
        key = error.full_key or next(iter(_leaves(addition, "")))
        types = {entry.key: entry.type for entry in describe_keys()}
        expected = types.get(key, types.get(key.partition("[")[0], "a section with keys of its own"))
        found = OmegaConf.select(addition, key)
        raise ValueError(f"{source}: {key} is {found!r}; expected {expected}") from None
    assert isinstance(merged, DictConfig)
    return merged


def _resolve(merged: DictConfig) -> Config:
    """The config object; ``${key}`` takes the value of another key."""
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: its ${{...}} cannot be filled in ({error.msg}); give a value") from None
    assert isinstance(config, Config)
    return config


def _leaves(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in node:
        key, child = prefix + str(name), node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and len(child):
            yield from _leaves(child, key + ".")
        else:
            yield key


def _join_spellings(config: Config) -> None:
    ours, theirs = config.datasets.reduce_zero_label, config.eval.reduce_zero_label
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            f"datasets.reduce_zero_label={ours} and eval.reduce_zero_label={theirs} disagree; they are two spellings "
            "of one option (it changes labels in training and evaluation alike): give one of them"
        )
    config.datasets.reduce_zero_label = config.eval.reduce_zero_label = ours if ours is not None else theirs
    transforms, scheduler = config.transforms, config.scheduler
    transforms.mean, transforms.std = scale_to_unit_range(transforms.mean), scale_to_unit_range(transforms.std)
    scheduler.constructor_kwargs = {k: v for k, v in scheduler.constructor_kwargs.items() if v is not None}


def _fill_in(config: Config) -> None:
    """Replaces what was left out by the default of the chosen head, so that the written config says all of it."""
    mask2former = config.decoder_head.type == "m2f"
    head, optimizer = config.decoder_head, config.optimizer
    if head.backbone_out_layers is None:
        head.backbone_out_layers = "FOUR_EVEN_INTERVALS" if mask2former else "LAST"
    if head.hidden_dim is None and mask2former:
        head.hidden_dim = 256
    if optimizer.lr is None:
        optimizer.lr = 1e-4 if mask2former else 1e-3
    if optimizer.weight_decay is None:
        optimizer.weight_decay = 0.05 if mask2former else 0.01
    if optimizer.gradient_clip is None:
        optimizer.gradient_clip = 0.01 if mask2former else float("inf")
    if config.eval.crop_size is None:
        config.eval.crop_size = config.transforms.train.crop_size
    if config.eval.stride is None:
        crop = config.eval.crop_size
        config.eval.stride = [side * 2 // 3 for side in crop] if isinstance(crop, list) else int(crop) * 2 // 3
    if config.eval.eval_interval == 0:
        config.eval.eval_interval = max(1, config.scheduler.total_iter // 10)
