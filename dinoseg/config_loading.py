"""How a YAML file and ``key=value`` overrides become one checked ``Config``.

An unknown key names the nearest known one; a wrong type names the key, the value and what was expected.
"""

import difflib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from dinoseg.atomic_file import replace_text
from dinoseg.config import Config
from dinoseg.config_dialect import scale_to_unit_range, translate
from dinoseg.config_fine_tuning import settle_fine_tuning

CHOICES: dict[str, tuple[str, ...]] = {
    "model_dtype": ("FLOAT32", "BFLOAT16"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "metric_to_save": ("mIoU", "mAcc", "aAcc", "mDice", "mFscore"),
    "model.mode": ("freeze", "lora", "full"),
    "decoder_head.type": ("linear", "m2f"),
    "scheduler.type": ("WarmupOneCycleLR", "WarmupMultiStepLR", "WarmupPolyLR", "Constant"),
    "eval.mode": ("whole", "slide"),
    "eval.blend": ("uniform", "gaussian", "hann"),
    "eval.absent_classes": ("skip_empty", "skip_absent", "zero"),
}

REPLACED = (
    "datasets.classes",
    "datasets.images",
    "datasets.masks",
    "train.class_weights",
    "scheduler.constructor_kwargs",
)

# Options of scheduler.constructor_kwargs that are numbers; the factors one divides by are above zero.
SCHEDULE_NUMBERS = ("warmup_iters", "warmup_ratio", "pct_start", "div_factor", "final_div_factor", "gamma", "power")

MINIMUM: dict[str, float] = {
    "bs": 1,
    "num_workers": 0,
    "scheduler.total_iter": 0,
    "train.accumulation_steps": 1,
    "train.log_interval": 1,
    "train.checkpoint_interval": 1,
    "eval.eval_interval": 0,
    "eval.batch_size": 1,
    "eval.max_val_samples": 1,
    "eval.num_visualizations": 0,
    "decoder_head.num_heads": 1,
    "decoder_head.num_queries": 1,
    "decoder_head.adapter_inplane": 1,
    "decoder_head.dropout": 0,
    "train.celoss_weight": 0,
    "train.diceloss_weight": 0,
    "optimizer.lr": 0,
    "optimizer.gradient_clip": 0,
    "optimizer.backbone_lr_factor": 0,
    "lora.rank": 1,
}


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
                shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                yield KeyDescription(prefix + entry.name, shown, _type_in_words(entry.type), entry.metadata["help"])

    return list(walk(Config(), ""))


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
    _check_values(config)
    _fill_in(config)
    return config


def save_config(config: Config, path: Path) -> None:
    """Writes the config as YAML, so that ``config=path`` reproduces the run."""
    replace_text(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def get_key(config: Config, key: str) -> Any:
    """The value at a dotted key, e.g. ``"eval.crop_size"``."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return node


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


def _check_values(config: Config) -> None:
    for key, choices in CHOICES.items():
        if get_key(config, key) not in choices:
            raise ValueError(f"{key}={get_key(config, key)!r} is unknown; choose one of {', '.join(choices)}")
    for key, minimum in MINIMUM.items():
        value = get_key(config, key)
        if value is not None and not value >= minimum:
            raise ValueError(f"{key}={value} is too small; give {minimum:g} or more")
    if config.train.celoss_weight == config.train.diceloss_weight == 0:
        raise ValueError(
            "train.celoss_weight and train.diceloss_weight are both 0: nothing to learn; raise one of them"
        )
    for key in ("transforms.train.crop_size", "eval.crop_size", "eval.stride"):
        _check_size(key, get_key(config, key))
    _check_schedule(config.scheduler.constructor_kwargs)


def _check_schedule(options: dict[str, Any]) -> None:
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name in SCHEDULE_NUMBERS and (not number or (name.endswith("div_factor") and value == 0)):
            raise ValueError(f"scheduler.constructor_kwargs.{name} is {value!r}; expected a number, not below zero")
        if name == "milestones" and not (isinstance(value, list) and all(isinstance(step, int) for step in value)):
            raise ValueError(f"scheduler.constructor_kwargs.milestones is {value!r}; expected a list of steps")


def _check_size(key: str, value: Any) -> None:
    sides = value if isinstance(value, list) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    left_out = value is None and key.startswith("eval.")
    if not left_out and (not whole or len(sides) not in (1, 2)):
        raise ValueError(f"{key} is {value!r}; expected pixels: a whole number, or [height, width]")


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
