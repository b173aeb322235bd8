"""What of a run's config is of the machine and the data that it was trained with, and stays there."""

from collections.abc import Mapping
from typing import Any

from dinoseg.config import Config, get_key, with_changes

# Paths, patterns of names of files, and where a training ran and was shown.
LOCAL_KEYS = (
    "num_workers",
    "device",
    "output_dir",
    "trackers",
    "load_from",
    "model.weights",
    "datasets.root",
    "datasets.train",
    "datasets.val",
    "datasets.test",
    "datasets.split",
    "datasets.group",
    "datasets.folds",
    "datasets.fold",
    "datasets.images",
    "datasets.masks",
    "datasets.regions",
    # A file of names, perhaps; labels.json has the classes.
    "datasets.classes",
    "train.cache_folder",
)

# Of a checkpoint's metadata.
_KEPT = ("format", "step")
_COUNTS = ("train_images", "val_images")


def without_local(config: Config) -> Config:
    """The config with the defaults in the place of all that is local."""
    default = Config()
    return with_changes(config, {key: get_key(default, key) for key in LOCAL_KEYS})


def public_metadata(of_checkpoint: Mapping[str, str]) -> dict[str, str]:
    """What the metadata of a checkpoint says without paths, and without hashes of names of images."""
    counts = {key: of_checkpoint[key].partition(" ")[0] for key in _COUNTS if key in of_checkpoint}
    return {key: of_checkpoint[key] for key in _KEPT if key in of_checkpoint} | counts


def local_values(config: Config) -> list[str]:
    """The keys that say something local."""
    default = Config()
    return [key for key in LOCAL_KEYS if get_key(config, key) != get_key(default, key)]


def stated_local_values(document: Mapping[str, Any]) -> list[str]:
    """The same of a config that is not checked yet, as its file has it: such a value may make a check read a file."""
    default = Config()
    return [key for key in LOCAL_KEYS if _stated(document, key, get_key(default, key)) != get_key(default, key)]


def _stated(document: Any, key: str, default: Any) -> Any:
    for part in key.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return default
        document = document[part]
    return document


def told_overrides(overrides: list[str]) -> list[str]:
    """``key=value`` changes that figures were measured with, without the values that are local."""
    told = []
    for given in overrides:
        key = given.partition("=")[0]
        # Of a section that is given as one, any value may be local.
        hidden = key.startswith((*LOCAL_KEYS, "config")) or any(local.startswith(f"{key}.") for local in LOCAL_KEYS)
        told.append(f"{key}=..." if hidden else given)
    return told
