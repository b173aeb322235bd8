"""Settings as Python programs give them: a config, a mapping, or ``key=value`` as on the command line."""

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np
import yaml

from dinoseg.config import Config, all_keys
from dinoseg.config.loading import load_config

Settings = Config | Mapping[str, Any] | Iterable[str]


def config_of(settings: Settings) -> Config:
    """The checked config of settings in any of their forms.

    Raises:
        ValueError: an unknown key, a wrong type, or a value outside its choices; names the key.
    """
    if isinstance(settings, Config):
        return load_config([], base=settings)
    return load_config(key_values(settings))


def key_values(settings: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """Settings as ``key=value`` with YAML values.

    Args:
        settings: a mapping of dotted keys or of nested sections (``{"datasets": {"root": "data"}, "bs": 4}``), among
            them ``config``, a YAML file that is read first; or ``key=value`` texts.

    Raises:
        ValueError: one text in place of a list of them, or a value that YAML has no form for; names the key.
    """
    if isinstance(settings, str):
        raise ValueError(f"{settings!r} is one text; give a mapping, or a list of key=value texts")
    if isinstance(settings, Mapping):
        known = {entry.key for entry in all_keys()} | {"config"}
        return [f"{key}={_to_yaml(key, value)}" for key, value in _leaves(settings, "", known)]
    return list(settings)


def _leaves(settings: Mapping[str, Any], prefix: str, known: set[str]) -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        key = f"{prefix}{name}"
        # A key of the schema may hold a mapping of the user's own, such as datasets.classes.
        if isinstance(value, Mapping) and key not in known:
            yield from _leaves(value, f"{key}.", known)
        else:
            yield key, value


def _to_yaml(key: str, value: Any) -> str:
    if key == "config":
        # The path of a file is taken as it is; quotes around it would become part of the name.
        return str(value)
    try:
        text = yaml.dump(
            _plain(value), Dumper=_Quoting, default_flow_style=True, width=float("inf"), allow_unicode=True
        )
    except yaml.YAMLError:
        raise ValueError(
            f"{key}: a {type(value).__name__} is no value of a config; give numbers, texts, lists and mappings of such"
        ) from None
    return text.removesuffix("\n").removesuffix("\n...")


class _Quoting(yaml.SafeDumper):
    """Quotes every text, so that a class named 1e3 stays one."""


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
