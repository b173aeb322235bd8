"""``predictions.json`` read back: which classes the label maps beside it hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dinoseg.labels.settings import Kind, LabelClass
from dinoseg.system.json_files import Record, read_json

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


@dataclass(frozen=True)
class RecordedPredictions:
    """What a prediction left in its folder.

    Attributes:
        kind: what the label maps store.
        classes: in the order of their class index.
    """

    kind: Kind
    classes: tuple[LabelClass, ...]

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
            if labels.name == "labels" and (labels.parent / "predictions.json").is_file():
                return RecordedPredictions._read(labels.parent / "predictions.json")
        return None

    @staticmethod
    def _read(path: Path) -> "RecordedPredictions":
        record = read_json(path, _PredictionsRecord, _REMEDY)
        classes = tuple(
            LabelClass(entry.name, tuple(entry.label_ids), (entry.colour[0], entry.colour[1], entry.colour[2]))
            for entry in record.classes
        )
        return RecordedPredictions(record.kind, classes)
