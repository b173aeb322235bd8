"""What of a run's config is of the machine and the data that it was trained with, and stays there."""

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


def without_local(config: Config) -> Config:
    """The config with the defaults in the place of all that is local."""
    default = Config()
    return with_changes(config, {key: get_key(default, key) for key in LOCAL_KEYS})


def local_values(config: Config) -> list[str]:
    """The keys that say something local."""
    default = Config()
    return [key for key in LOCAL_KEYS if get_key(config, key) != get_key(default, key)]


def told_overrides(overrides: list[str]) -> list[str]:
    """``key=value`` changes that figures were measured with, without the values that are local."""
    told = []
    for given in overrides:
        key = given.partition("=")[0]
        told.append(f"{key}=..." if key.startswith((*LOCAL_KEYS, "config")) else given)
    return told
