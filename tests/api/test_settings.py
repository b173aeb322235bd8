from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinoseg.api.settings import config_of, key_values
from dinoseg.config import get_key
from dinoseg.config.loading import load_config


def test_a_mapping_is_what_the_command_line_says(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("bs: 7\nseed: 3\n")
    settings = {
        "config": recipe,
        "bs": 4,
        "datasets": {"root": tmp_path, "classes": {0: "back: ground", 1: "true", "2": "é"}, "ignore": (3, 255)},
        "optimizer.lr": 1e-5,
        "eval": {"use_tta": True, "max_val_samples": None},
        "trackers": [],
    }
    config = config_of(settings)
    expected: dict[str, Any] = {
        "bs": 4,
        "seed": 3,
        "datasets.root": str(tmp_path),
        "datasets.ignore": [3, 255],
        "optimizer.lr": 1e-5,
        "eval.use_tta": True,
        "eval.max_val_samples": None,
        "trackers": [],
    }
    assert {key: get_key(config, key) for key in expected} == expected
    assert list(get_key(config, "datasets.classes").values()) == ["back: ground", "true", "é"]
    assert config == config_of(config) == config_of(key_values(settings)) == load_config(key_values(settings))


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'bs'"):
        config_of({"bss": 4})
    with pytest.raises(ValueError, match=r"did you mean 'datasets\.root'"):
        config_of({"datasets": {"roots": "data"}})
    with pytest.raises(ValueError, match=r"datasets\.root: a object is no value of a config"):
        config_of({"datasets.root": object()})
    with pytest.raises(ValueError, match="'bs=4' is one text; give a mapping, or a list of key=value texts"):
        config_of("bs=4")


def test_texts_stay_texts() -> None:
    config = config_of({"datasets.classes": {0: "1e3", 1: "null", 2: "yes"}, "bs": np.int64(3)})
    assert config.datasets.classes == {0: "1e3", 1: "null", 2: "yes"} and config.bs == 3
