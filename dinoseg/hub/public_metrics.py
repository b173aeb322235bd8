"""metrics.json without what names images, volumes or places."""

from collections.abc import Mapping
from typing import Any

from dinoseg.hub.local_keys import told_overrides

# What names places, or images one by one, and is told in another form below.
_OF_HERE = ("per_image", "per_volume", "overrides", "predictions", "masks", "weights_sha256")
# Of policy: runs by their folders.
_PLACES = ("members", "out_of_fold")


def public_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation, means over images and volumes among them, without their entries."""
    told = {key: value for key, value in metrics.items() if key not in _OF_HERE}
    told["policy"] = {key: value for key, value in metrics["policy"].items() if key not in _PLACES}
    if metrics.get("per_image"):
        told["per_image"] = _without_entries(metrics["per_image"])
    if metrics.get("per_volume"):
        of_volumes = _without_entries(metrics["per_volume"])
        # By class, under its name.
        told["per_volume"] = of_volumes | {"per_class": metrics["per_volume"].get("per_class", [])}
    told["overrides"] = told_overrides(list(metrics.get("overrides", [])))
    return told


def _without_entries(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Its numbers alone."""
    return {key: value for key, value in figures.items() if value is None or isinstance(value, int | float)}
