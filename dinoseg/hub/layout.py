"""The files of a pushed run, and ``config.json``, which names the others and says what the run is."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dinoseg import __version__
from dinoseg.config import Config
from dinoseg.run_folder.checkpoint_manifest import PartRecord, Sha256
from dinoseg.system.files import file_sha256
from dinoseg.system.json_files import Record

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
LABELS_FILE = "labels.json"
CALIBRATION_FILE = "calibration.json"
METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"
PICTURES = "pictures"

LIBRARY = "dinoseg"
FORMAT = 1

# What is loaded; the others are for the eye. Each with the most bytes that it may have, the model apart.
LOADED_FILES = {LABELS_FILE: 16_000_000, CALIBRATION_FILE: 16_000_000, MODEL_FILE: None}
# All that a push writes, but for pictures.
PUSHED_FILES = frozenset({CARD_FILE, CONFIG_FILE, METRICS_FILE, *LOADED_FILES})
NEEDED_FILES = (LABELS_FILE, MODEL_FILE)
LARGEST_CONFIG = 1_000_000
_PICTURE = re.compile(rf"{PICTURES}/\d+\.png")

# Where whoever loads the run has the backbone's weights from: where its authors publish them, a file of whoever trained
# it, or the model file itself.
Source = Literal["hub", "file", "included"]


class BackboneRecord(Record):
    """The backbone: its name, the hash of its frozen weights (of all where they are included), and where they are."""

    name: Annotated[str, Field(min_length=1)]
    sha256: Sha256
    weights: Source


class PushedRecord(Record):
    """The whole of config.json.

    Attributes:
        version: of dinoseg, that wrote it.
        files: size and hash of those that are loaded.
        config: of the run, without what is of one machine.
    """

    library: Literal["dinoseg"]
    format: Annotated[int, Field(ge=1)]
    version: Annotated[str, Field(min_length=1, max_length=100)]
    backbone: BackboneRecord
    files: dict[str, PartRecord]
    config: dict[str, Any]


def config_json(config: Config, backbone: BackboneRecord, folder: Path) -> str:
    """The text of config.json for files that lie in a folder already."""
    files = {name: _described(folder / name) for name in LOADED_FILES if (folder / name).is_file()}
    contents = {
        "library": LIBRARY,
        "format": FORMAT,
        "version": __version__,
        "backbone": backbone.model_dump(),
        "files": files,
        "config": _finite(config.model_dump()),
    }
    return json.dumps(contents, indent=2, allow_nan=False) + "\n"


def is_pushed(document: Any) -> bool:
    """Whether the contents of a config.json are those of a pushed run."""
    return isinstance(document, Mapping) and document.get("library") == LIBRARY


def is_pushed_file(name: str) -> bool:
    """Whether a push writes a file of this name."""
    return name in PUSHED_FILES or _PICTURE.fullmatch(name) is not None


def _described(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _finite(value: Any) -> Any:
    """JSON has no infinity; an option that may be infinite takes the word."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, float) and math.isinf(value) else value
