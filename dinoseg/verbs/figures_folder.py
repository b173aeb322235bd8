"""A folder for figures that a user names: not one in which others would be lost, or that is for something else."""

from pathlib import Path
from typing import Any

from dinoseg.run_folder.ensemble_folder import is_ensemble, is_run
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.json_files import load_json

_METRICS = "metrics.json"
_OF_EVALUATIONS = (_METRICS, "shards")


def refuse_other_figures(out: Path, split: str) -> None:
    """Raises ValueError for a run's folder or one within it, for figures of another split, other files or no folder."""
    refuse_figures_of_run(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not any((out / name).exists() for name in _OF_EVALUATIONS):
        raise ValueError(f"--out {out}: holds other files; give a new folder for the figures")
    other = _split_in(out)
    if other not in (None, split):
        raise ValueError(f"--out {out}: holds figures of --split {other}; give each split a folder of its own")


def refuse_figures_of_run(out: Path) -> None:
    """Raises ValueError for a run's folder or one within it, or no folder that can be written."""
    refuse_unwritable(out, "--out")
    place = out.resolve()
    run = next((folder for folder in (place, *place.parents) if is_run(folder) or is_ensemble(folder)), None)
    if run is not None:
        held = "holds a run" if run == place else f"lies in the run {run}, whose own figures are there"
        raise ValueError(f"--out {out}: {held}; give a folder for these figures alone, such as {run}-and-others")


def _split_in(out: Path) -> Any:
    """The split whose figures lie there; None where none do, or they are damaged."""
    try:
        contents = load_json(out / _METRICS, "it is written anew")
    except ValueError:
        return None
    return contents.get("split") if isinstance(contents, dict) else None
