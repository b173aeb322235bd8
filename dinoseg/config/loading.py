"""How YAML files and ``key=value`` overrides become one checked, frozen ``Config``.

An unknown key names the likeliest known one; a wrong type or value names where it was given, the key, the value and
what was expected.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from dinoseg.config.defaults import SETTLED_AT, settle
from dinoseg.config.dinov3_dialect import scale_to_unit_range, translate
from dinoseg.config.likely_keys import unknown_key_hint
from dinoseg.config.option import OptionError
from dinoseg.config.schema import Config, all_keys
from dinoseg.system.files import refuse_special_file, replace_text

# What the address of a published head begins with.
HUB_PREFIX = "hf:"

# What is meant to be a list, and lacks its brackets.
_NUMBERS = re.compile(r"-?[\d.]+(, ?-?[\d.]+)*")
# Mappings of the user's own keys.
_REPLACED = (
    "datasets.classes",
    "datasets.images",
    "datasets.masks",
    "datasets.regions",
    "train.class_weights",
    "scheduler.constructor_kwargs",
)


def load_config(arguments: Iterable[str] = (), base: Config | None = None) -> Config:
    """Builds the checked config from ``key=value`` arguments; ``config=file.yaml`` among them is read first.

    Args:
        arguments: overrides in any order, values in YAML syntax (``datasets.classes={0: background, 1: vessel}``).
        base: the config to override, for instance the one of a run; the defaults when left out.

    Raises:
        ValueError: an unknown key (names the likeliest known one), a wrong type (key, value, expected type), or a value
            outside its range. Two spellings of one option disagree, or a file cannot be read.

    Warns of a key of DINOv3's configs that is passed over here, with what takes its place.
    """
    merged, given_by = _merged(arguments, base)
    return settle(_validated(_resolved(merged), given_by))


def given_keys(arguments: Iterable[str]) -> dict[str, str]:
    """The keys that arguments give a value, and which argument does: ``config=FILE``, or the ``key=value`` itself.

    Keys are those that a settled config has the value at: ``model.mode`` for ``lora.enabled``. A preset or a file of
    classes gives ``datasets.ignore``, too.

    Raises:
        ValueError: as ``load_config``.
    """
    with warnings.catch_warnings():
        # ``load_config`` says them.
        warnings.simplefilter("ignore")
        merged, given_by = _merged(arguments, None)
    known = [entry.key for entry in all_keys()]
    found: dict[str, str] = {}
    for leaf, source in given_by.items():
        # Leaves of a mapping, such as datasets.classes, are of one key.
        owner = next((key for key in known if leaf == key or leaf.startswith(f"{key}.")), None)
        if owner is not None:
            found[SETTLED_AT.get(owner, owner)] = source
    if isinstance(merged["datasets"]["classes"], str):
        found.setdefault("datasets.ignore", found["datasets.classes"])
    return found


def _merged(arguments: Iterable[str], base: Config | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Files and overrides on top of the base, and which argument gave each leaf."""
    files, overrides = _split_arguments(arguments)
    merged = (base or Config()).model_dump()
    given_by: dict[str, str] = {}
    additions = [(_read_yaml(file), f"config={file}") for file in files]
    additions += [(_parse_override(argument), argument) for argument in overrides]
    for addition, source in additions:
        try:
            _merge_into(merged, addition, source, given_by)
        except RecursionError:
            raise ValueError(f"{source}: nested too deep to be a config") from None
    return merged, given_by


def save_config(config: Config, path: Path) -> None:
    """Writes the config as YAML, so that ``config=path`` reproduces the run."""
    replace_text(path, config_yaml(config))


def config_yaml(config: Config) -> str:
    """The config as YAML, every key in the order of the schema."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump()))


def is_setting(argument: str) -> bool:
    """Whether a command-line argument is ``key=value``; a file may have a ``=`` in its name, too."""
    # Not Path.exists, which raises for what is too long to be a name, such as a mapping of many classes.
    return "=" in argument and not argument.startswith(HUB_PREFIX) and not os.path.exists(argument)


def is_given(key: str, settings: Iterable[str]) -> bool:
    """Whether one of the ``key=value`` settings is of this key."""
    return any(setting.partition("=")[0] == key for setting in settings)


def _split_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    files, overrides, arguments = list[str](), list[str](), list(arguments)
    refuse_pieces(arguments)
    for before, argument in pairwise(["", *arguments]):
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise ValueError(_no_setting(argument, before))
        if key == "config":
            files.append(value)
        else:
            overrides.append(argument)
    return files, overrides


def _no_setting(argument: str, before: str) -> str:
    """What an argument that is no ``key=value`` was likely meant to be."""
    if before.endswith("="):
        return f"{before} {argument}: write {before}{argument}, without a space behind ="
    # Not Path.is_dir, which raises for what is too long to be a name.
    if os.path.isdir(argument):
        return f"{argument}: a folder, where key=value is wanted; write datasets.root={argument} if it holds the data"
    if os.path.isfile(argument):
        return f"{argument}: a file, where key=value is wanted; write config={argument} if it is a recipe"
    return f"{argument!r} is not an option: write key=value, for instance bs=4 or config=recipe.yaml"


def refuse_pieces(arguments: Sequence[str]) -> None:
    """Raises ValueError where an argument is a piece of a setting that a shell cut at its spaces."""
    for first, second, third in zip(arguments, arguments[1:], [*arguments[2:], ""], strict=False):
        if "=" in first and "=" not in second and any(first.count(a) > first.count(b) for a, b in ("[]", "{}")):
            raise ValueError(
                f'{first} ends in the middle: the shell cuts at spaces; put all of it in quotes, "{first} ..."'
            )
        parted = second.startswith("=") and "=" not in first and not first.startswith("-")
        if parted and not os.path.exists(second):
            value = third if second == "=" else second[1:]
            raise ValueError(f"{first} {second}: write {first}={value or 'VALUE'}, without spaces around =")


def _read_yaml(file: str) -> DictConfig:
    try:
        refuse_special_file(Path(file))
    except ValueError as error:
        raise ValueError(f"config={error}") from None
    try:
        loaded = OmegaConf.load(file)
    except OSError as error:
        raise ValueError(
            f"config={file}: cannot be read ({error.strerror or error}); give the path of a YAML file"
        ) from None
    except RecursionError:
        raise ValueError(f"config={file}: nested too deep to be a config; give `key: value` lines") from None
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ValueError(f"config={file}: not valid YAML; repair it, or give another file: {error}") from None
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"config={file}: expected `key: value` lines, found a list")
    return loaded


def _parse_override(argument: str) -> DictConfig:
    key, _, value = argument.partition("=")
    if value.startswith(("{split}", "*")):
        # A glob, which YAML would take for a mapping, or for the alias of an anchor.
        quoted = value.replace("'", "''")
        argument = f"{key}='{quoted}'"
    try:
        return OmegaConf.from_dotlist([argument])
    except RecursionError:
        raise ValueError(f"{argument[:80]!r}: nested too deep to be a value") from None
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ValueError(f"{argument[:200]!r}: the value is not valid YAML ({error})") from None


def _merge_into(base: dict[str, Any], addition: DictConfig, source: str, given_by: dict[str, str]) -> None:
    for remark in translate(addition, source):
        warnings.warn(remark, stacklevel=3)
    known = [entry.key for entry in all_keys()]
    sections = {".".join(key.split(".")[:depth]) for key in known for depth in range(1, key.count(".") + 1)}
    for key in _leaves(addition, ""):
        given_by[key] = source
        owner = next((entry for entry in known if key == entry or key.startswith(entry + ".")), None)
        if owner is None and key not in sections:
            raise ValueError(f"{source}: unknown key {key!r}; {unknown_key_hint(key)}")
    _refuse_other_containers(addition, source)
    try:
        values = OmegaConf.to_container(addition)
    except OmegaConfBaseException as error:
        raise ValueError(f"{source}: {error.full_key or ''}: {error.msg}") from None
    assert isinstance(values, dict)
    # Given whole: classes of a recipe must not stay among one's own.
    whole = {key for key in _REPLACED if source.startswith("config=") or source.partition("=")[0] == key}
    _lay_over(base, values, whole)


def _lay_over(base: dict[Any, Any], values: dict[Any, Any], whole: set[str], prefix: str = "") -> None:
    """Sets the values in ``base``; a mapping goes into the mapping that is there, unless its key is in ``whole``."""
    for name, value in values.items():
        key, there = f"{prefix}{name}", base.get(name)
        if isinstance(value, dict) and isinstance(there, dict) and key not in whole:
            _lay_over(there, value, whole, f"{key}.")
        else:
            base[name] = value


def _refuse_other_containers(addition: DictConfig, source: str) -> None:
    """A mapping where a list belongs, or the other way round: OmegaConf cannot even merge these."""
    for entry in all_keys():
        node: Any = addition
        for part in entry.key.split("."):
            node = node._get_node(part) if isinstance(node, DictConfig) and not node._is_none() else None
        is_list, is_mapping = isinstance(entry.default, list), isinstance(entry.default, dict)
        if (is_list and isinstance(node, DictConfig)) or (is_mapping and isinstance(node, ListConfig)):
            raise ValueError(f"{source}: {entry.key} is {OmegaConf.to_container(node)!r}; expected {entry.type}")


def _resolved(merged: dict[str, Any]) -> dict[str, Any]:
    """Plain values; ``${key}`` takes the value of another key."""
    if "${" not in repr(merged):
        return merged
    try:
        values = OmegaConf.to_container(OmegaConf.create(merged), resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: its ${{...}} cannot be filled in ({error.msg}); give a value") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _validated(values: dict[str, Any], given_by: dict[str, str]) -> Config:
    transforms = values.get("transforms")
    if isinstance(transforms, dict):
        for name in ("mean", "std"):
            transforms[name] = scale_to_unit_range(transforms[name])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(_explain(error, values, given_by)) from None


def _explain(error: ValidationError, values: dict[str, Any], given_by: dict[str, str]) -> str:
    """The first error: where it was given, the key, the value and what was expected."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    entry = next((e for depth in range(len(path), 0, -1) for e in all_keys() if e.key == ".".join(path[:depth])), None)
    key = entry.key if entry is not None else ".".join(path)
    found: Any = values
    for part in key.split("."):
        found = found[part]
    source = next((text for given, text in given_by.items() if given == key or given.startswith(f"{key}.")), "")
    where = "" if source.partition("=")[0] in ("", key) else f"{source}: "
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, OptionError):
        return f"{where}{key}={cause}"
    expected = entry.type if entry is not None else "a section with keys of its own"
    meant = f"; write {key}=[{found}]" if "list of" in expected and _NUMBERS.fullmatch(str(found)) else ""
    return f"{where}{key} is {found!r}; expected {expected}{meant}"


def _leaves(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in node:
        key, child = prefix + str(name), node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and len(child):
            yield from _leaves(child, key + ".")
        else:
            yield key
