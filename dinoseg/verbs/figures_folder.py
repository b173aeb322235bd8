"""A folder for figures: not one in which others would be lost, or that is for something else."""

from pathlib import Path
from typing import Any

from dinoseg.run_folder.ensemble_folder import is_ensemble, is_run
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.json_files import load_json

_METRICS = "metrics.json"
_OF_EVALUATIONS = (_METRICS, "shards")
_WRITTEN = (*_OF_EVALUATIONS, "per_class.csv", "confusion.csv", "per_image.npz")


def refuse_other_figures(out: Path, split: str) -> None:
    """Raises ValueError for a run's folder or one within it, for figures of another split, other files or no folder."""
    refuse_figures_of_run(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not any((out / name).exists() for name in _OF_EVALUATIONS):
        raise ValueError(f"--out {out}: holds other files; give a new folder for the figures")
    if not (out / _METRICS).exists():
        return
    found = _figures_in(out)
    if "checkpoint" not in found:
        raise ValueError(f"--out {out}: holds a metrics.json that is of no run; give a new folder for the figures")
    if found.get("split") not in (None, split):
        raise ValueError(f"--out {out}: holds figures of --split {found['split']}; give each split a folder of its own")


def refuse_figures_of_others(out: Path) -> None:
    """Raises ValueError where figures of label maps would take the place of a run's, or of another tool's files."""
    policy = _figures_in(out).get("policy")
    of_label_maps = isinstance(policy, dict) and policy.get("source") == "label maps"
    there = [name for name in _WRITTEN if (out / name).exists()]
    if there and not of_label_maps:
        raise ValueError(
            f"{out / there[0]}: is there and of something else than label maps; give a new folder for the figures with "
            "--out"
        )


def refuse_figures_of_run(out: Path) -> None:
    """Raises ValueError for a run's folder or one within it, or no folder that can be written."""
    refuse_unwritable(out, "--out")
    place = out.resolve()
    run = next((folder for folder in (place, *place.parents) if is_run(folder) or is_ensemble(folder)), None)
    if run is not None:
        held = "holds a run" if run == place else f"lies in the run {run}, whose own figures are there"
        raise ValueError(f"--out {out}: {held}; give a folder for these figures alone, such as {run}-and-others")


def _figures_in(out: Path) -> dict[str, Any]:
    """What the metrics.json there holds; nothing where there is none, or it is no evaluation's."""
    try:
        contents = load_json(out / _METRICS, "it is written anew")
    except ValueError:
        return {}
    return contents if isinstance(contents, dict) else {}
