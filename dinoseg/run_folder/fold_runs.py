"""The folder of a cross-validation: a run for each fold, ``fold_0`` and so on, which together are an ensemble."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dinoseg.run_folder.ensemble_folder import EnsembleFolder, is_ensemble, is_rest_of_run, is_run
from dinoseg.run_folder.folder import ENSEMBLE_FILE, RunFolder
from dinoseg.system.json_files import Record, read_json
from dinoseg.system.messages import list_names


class FoldImages(Record):
    """What a fold is trained on and holds out, as its ``splits.json`` says: paths of images below the root."""

    train: list[str]
    val: list[str]


@dataclass(frozen=True)
class FoldRuns:
    """Paths of a cross-validation.

    Attributes:
        folds: how many there are.
    """

    path: Path
    folds: int

    def run(self, number: int) -> RunFolder:
        """The run that holds out one fold."""
        return RunFolder(self.path / fold_name(number))

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """All of them, whether they were trained or not."""
        return tuple(self.run(number) for number in range(self.folds))

    def record(self) -> None:
        """Makes the folder an ensemble of the best checkpoints of all runs.

        Raises:
            ValueError: a run has none.
        """
        members = [(run.path.name, run.open_checkpoint("best").weights_sha256) for run in self.runs]
        EnsembleFolder(self.path).write(members)

    def refuse_other_use(self) -> None:
        """Raises ValueError where the folder holds a run, or several as one that are no folds."""
        if is_run(self.path) or is_rest_of_run(self.path):
            raise ValueError(
                f"output_dir={self.path}: holds a run, and datasets.fold=all makes a folder of {self.folds} runs; give "
                "another output_dir"
            )
        names = {run.path.name for run in self.runs}
        others = sorted(path.name for path in _folds_below(self.path) if path.name not in names)
        if others:
            raise ValueError(
                f"output_dir={self.path}: holds {list_names(others)}, and datasets.folds={self.folds} has "
                f"{fold_name(0)} to {fold_name(self.folds - 1)}: folds of another division; give another output_dir"
            )
        if is_ensemble(self.path):
            # Of another number of folds: their configs say so.
            members = [name for name in EnsembleFolder(self.path).names() if not _is_fold(name)]
            if members:
                raise ValueError(
                    f"output_dir={self.path}: holds other runs as one ({ENSEMBLE_FILE}), "
                    f"{list_names(members)}; give another output_dir"
                )

    def refuse_other_deals(self, pending: Mapping[str, FoldImages] | None = None) -> None:
        """Compares what the runs hold out, those that have begun and those that are to begin.

        Args:
            pending: of runs to begin, by the name of their folder.

        Raises:
            ValueError: they were not dealt out of the same images, so that one may be held out twice or never.
        """
        dealt = {run.path.name: _read_splits(run) for run in self.runs if run.splits.exists()}
        dealt |= pending or {}
        held_by: dict[str, str] = {}
        for name, images in dealt.items():
            first = next(iter(dealt))
            differing = sorted({*images.train, *images.val} ^ {*dealt[first].train, *dealt[first].val})
            if differing:
                raise ValueError(
                    f"{self.path}: {first} and {name} are folds of different images: only one of them has "
                    f"{list_names(differing, 3)} (the data was changed since the first was trained); remove the "
                    "runs that are older than the change, or give another output_dir"
                )
            twice = sorted(image for image in images.val if image in held_by)
            if twice:
                raise ValueError(
                    f"{self.path}: {held_by[twice[0]]} and {name} both hold out {list_names(twice, 3)}: they were not "
                    "dealt alike (the masks were changed since the first was trained); remove the runs that are older "
                    "than the change, or give another output_dir"
                )
            held_by |= dict.fromkeys(images.val, name)


def refuse_folds_below(path: Path) -> None:
    """Raises ValueError where one run is to be trained in a folder that holds the runs of folds."""
    found = next(_folds_below(path), None)
    if found is not None:
        raise ValueError(
            f"output_dir={path}: holds the runs of folds, {found.name} among them, and a run of its own would be mixed "
            f"with them; give a folder in it, such as {path / 'fold_0'} for datasets.fold=0, or another one"
        )


def fold_name(number: int) -> str:
    """The folder of a fold's run below that of the cross-validation."""
    return f"fold_{number}"


def find_fold_runs(path: Path) -> FoldRuns | None:
    """The cross-validation that a folder holds, once all of it is trained; None where there is none.

    Raises:
        ValueError: ``ensemble.json``, or a config, is damaged.
    """
    if not is_ensemble(path):
        return None
    members = [folder for folder, _ in EnsembleFolder(path).members()]
    found = FoldRuns(path, len(members))
    if [folder.name for folder in members] != [run.path.name for run in found.runs]:
        return None
    # An export of folds has no record of what they held out.
    if not all(run.splits.exists() for run in found.runs):
        return None
    chosen = [run.read_config().datasets for run in found.runs]
    dealt = [(datasets.folds, datasets.fold) for datasets in chosen]
    return found if dealt == [(found.folds, str(number)) for number in range(found.folds)] else None


def _folds_below(path: Path) -> Iterator[Path]:
    """Runs whose folders are called as folds are."""
    for entry in sorted(path.glob("fold_*")):
        if _is_fold(entry.name) and (is_run(entry) or is_rest_of_run(entry)):
            yield entry


def _is_fold(name: str) -> bool:
    return name.startswith("fold_") and name.removeprefix("fold_").isdecimal()


def _read_splits(run: RunFolder) -> FoldImages:
    return read_json(run.splits, FoldImages, "copy the whole folder of the run again")
