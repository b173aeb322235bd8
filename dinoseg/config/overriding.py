"""Overrides of a model that was trained: they may change how it is used, not what it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from dinoseg.config.loading import load_config
from dinoseg.config.option import show_value
from dinoseg.config.schema import Config, all_keys, get_key

# What decides the meaning of the model's outputs.
LABEL_KEYS = (
    "datasets.classes",
    "datasets.ignore",
    "datasets.reduce_zero_label",
    "datasets.colour_tolerance",
    "eval.reduce_zero_label",
    "decoder_head.num_classes",
)


@dataclass(frozen=True)
class Trained:
    """Words for what was trained.

    Attributes:
        noun: such as ``run``.
        labels, settings: where its label space and its settings stand.
        remedy: what to do to have others.
    """

    noun: str
    labels: str
    settings: str
    remedy: str = "train again to change it"


@cache
def model_keys() -> tuple[str, ...]:
    """What decides which model the weights belong to: another value would give other features without a word."""
    shaping = (entry for entry in all_keys() if entry.key.startswith(("model.", "lora.", "decoder_head.")))
    return tuple(entry.key for entry in shaping if entry.option.resume == "fixed")


def override(recorded: Config, overrides: Sequence[str], trained: Trained) -> Config:
    """The config of a trained model with ``key=value`` overrides on top.

    Raises:
        ValueError: one of them is wrong, or would make another model or other classes of it.
    """
    for given in overrides:
        if given.partition("=")[0].startswith(LABEL_KEYS):
            raise ValueError(
                f"{given}: the label space of a {trained.noun} is fixed ({trained.labels}); {trained.remedy}"
            )
    _refuse_other_bands(recorded, overrides, trained)
    config = load_config(overrides, base=recorded)
    for key in model_keys():
        before, now = get_key(recorded, key), get_key(config, key)
        if before != now:
            raise ValueError(
                f"{key}={show_value(now)}: the model of this {trained.noun} was trained with {show_value(before)} "
                f"({trained.settings}); leave the key out, or {trained.remedy}"
            )
    return config


def _refuse_other_bands(recorded: Config, overrides: Sequence[str], trained: Trained) -> None:
    """Files to predict may hold their bands in another order; how many there are is the model's."""
    given = [entry for entry in overrides if entry.startswith("datasets.bands=")]
    if not given:
        return
    before, now = recorded.datasets.bands, load_config(given).datasets.bands
    if (None if before is None else len(before)) != (None if now is None else len(now)):
        raise ValueError(
            f"datasets.bands={show_value(now)}: the model of this {trained.noun} was trained with "
            f"{show_value(before)} ({trained.settings}); name as many, or {trained.remedy}"
        )
