"""``predictions.json`` read back: which classes the label maps beside it hold, and which images failed."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dinoseg.data.found_files import without_suffix
from dinoseg.labels.settings import Kind, LabelClass
from dinoseg.system.json_files import Record, read_json

PREDICTIONS_FILE = "predictions.json"
_REMEDY = "run `dinoseg predict` into this folder again"
_Channel = Annotated[int, Field(ge=0, le=255)]


class _ClassRecord(Record):
    name: str
    label_ids: list[int] = Field(min_length=1)
    colour: list[_Channel] = Field(min_length=3, max_length=3)


class _PredictionsRecord(Record):
    # Older files do not say it.
    kind: Kind = "ids"
    classes: list[_ClassRecord]
    labels: dict[str, str] = Field(default_factory=dict)
    failed: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class RecordedPredictions:
    """What a prediction left in its folder.

    Attributes:
        kind: what the label maps store.
        classes: in the order of their class index.
        label_maps: those of its images, relative to its folder.
        failed: images without one, as they were given.
    """

    kind: Kind
    classes: tuple[LabelClass, ...]
    label_maps: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()

    @staticmethod
    def around(label_map: Path) -> "RecordedPredictions | None":
        """Those of the folder that a label map was written into, by this prediction or one before; None where there is
        no such folder around a file.

        Raises:
            ValueError: predictions.json is damaged.
        """
        label_map = label_map.absolute()
        # Names of label maps may have folders of their own within labels/.
        for labels in label_map.parents:
            if labels.name == "labels" and (found := RecordedPredictions.of(labels.parent)) is not None:
                return found
        return None

    @staticmethod
    def of(folder: Path) -> "RecordedPredictions | None":
        """Those of an output folder; None where none ended there.

        Raises:
            ValueError: predictions.json is damaged.
        """
        path = folder / PREDICTIONS_FILE
        if not path.is_file():
            return None
        record = read_json(path, _PredictionsRecord, _REMEDY)
        classes = tuple(
            LabelClass(entry.name, tuple(entry.label_ids), (entry.colour[0], entry.colour[1], entry.colour[2]))
            for entry in record.classes
        )
        return RecordedPredictions(record.kind, classes, frozenset(record.labels.values()), tuple(record.failed))

    def of_failed(self, label_maps: Collection[Path], folder: Path) -> list[Path]:
        """Those of the label maps in the output folder that an earlier prediction left of an image that failed in this.

        Images of several calls may lie in one folder: what is of none that this one knows is not among them.
        """
        failed = [without_suffix(Path(image)).parts for image in self.failed]
        names = {path: without_suffix(path.relative_to(folder / "labels")).parts for path in label_maps}
        return [
            path
            for path, name in names.items()
            if path.relative_to(folder).as_posix() not in self.label_maps
            and any(image[-len(name) :] == name for image in failed)
        ]
