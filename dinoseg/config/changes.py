"""A config with other values: the one given stays as it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dinoseg.config.schema import Config


def with_changes(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy of the config with other values at dotted keys, e.g. ``{"model.weights": "none"}``."""
    for key, value in values.items():
        config = _with_value(config, key.split("."), value)
    return config


def _with_value(node: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    return replace(node, **{name: _with_value(getattr(node, name), rest, value) if rest else value})
