"""``labels.json``: what the file of a label space holds, and what in it must agree."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from dinoseg.labels.consistency import MOST_CLASSES
from dinoseg.labels.settings import Kind
from dinoseg.system.json_files import Record

# What decoded label maps, int32 at the widest, can hold.
_LARGEST_ID = {"ids": 2**31 - 1, "colours": 0xFFFFFF}

LabelId = Annotated[int, Field(ge=0)]
# Negative ids are in no image format, so that they can be ignored only.
IgnoredId = Annotated[int, Field(ge=-(2**31))]
Channel = Annotated[int, Field(ge=0, le=255)]


class ClassRecord(Record):
    """One class, in the order of the class index."""

    index: int
    name: Annotated[str, Field(min_length=1)]
    label_ids: Annotated[list[LabelId], Field(min_length=1)]
    colour: Annotated[list[Channel], Field(min_length=3, max_length=3)]


class LabelSpaceRecord(Record):
    """The whole file."""

    kind: Kind
    num_classes: int
    ignore_index: int
    classes: Annotated[list[ClassRecord], Field(min_length=1, max_length=MOST_CLASSES)]
    ignored_ids: list[IgnoredId]
    reduce_zero_label: bool
    colour_tolerance: Annotated[int, Field(ge=0, le=255)] = 0

    @model_validator(mode="after")
    def _agrees(self) -> "LabelSpaceRecord":
        count = len(self.classes)
        _expect("num_classes", self.num_classes, count)
        _expect("ignore_index", self.ignore_index, ignore_index_of(count))
        for index, entry in enumerate(self.classes):
            _expect(f"classes[{index}].index", entry.index, index)
        seen: dict[int, str] = {}
        for key, label_id in self._keyed_ids():
            if label_id > _LARGEST_ID[self.kind]:
                raise ValueError(f"{key}: {label_id} found, at most {_LARGEST_ID[self.kind]} expected")
            if label_id in seen:
                raise ValueError(f"{key}: {label_id} found, which {seen[label_id]} has already")
            seen[label_id] = key
        return self

    def _keyed_ids(self) -> Iterator[tuple[str, int]]:
        """Every label id with its key."""
        for index, entry in enumerate(self.classes):
            for place, label_id in enumerate(entry.label_ids):
                yield f"classes[{index}].label_ids[{place}]", label_id
        for place, label_id in enumerate(self.ignored_ids):
            yield f"ignored_ids[{place}]", label_id


def ignore_index_of(num_classes: int) -> int:
    """The class-index-map value that counts nowhere: 255, or 65535 when there are more than 255 classes."""
    return 65535 if num_classes > 255 else 255


def _expect(key: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{key}: {found} found, {expected} expected")
