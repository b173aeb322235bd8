"""The label space: the one mapping between label ids in mask files and class indices in the model.

``encode`` is applied once, in the dataset; ``decode`` at every exit. Everything in between sees class indices only.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.labels.consistency import resolve_labels
from dinoseg.labels.labels_json import LabelSpaceRecord, ignore_index_of
from dinoseg.labels.settings import Kind, LabelClass, show_label
from dinoseg.system.files import replace_text
from dinoseg.system.json_files import check_document, read_json

__all__ = ["LabelClass", "LabelSpace"]

LabelMap = Integer[np.ndarray, "height width"]

_LARGEST_TABLE = 1 << 16
# Colours whose distances to all declared ones are taken at a time.
_PART = 4096
_REMEDY = "copy labels.json anew from where the run was trained"
_UNKNOWN = 65534  # never a class index: resolve_labels allows no more than 65534 classes


@dataclass(frozen=True)
class LabelSpace:
    """Classes in the order of their class index, and the label ids that count nowhere.

    Attributes:
        kind: what a mask stores, label ids or colours; a colour's label id is the packed integer 0xRRGGBB.
        classes: class index 0 first; the first label id of a class is the one ``decode`` writes.
        ignored_ids: label ids that become the ignore index; ``decode`` writes the first one for it.
        reduce_zero_label: whether the ADE20K shorthand made this space (it is already worked into the rest).
        colour_tolerance: largest channel distance at which an undeclared colour is taken as the nearest declared one.
    """

    kind: Kind
    classes: tuple[LabelClass, ...]
    ignored_ids: tuple[int, ...]
    reduce_zero_label: bool = False
    colour_tolerance: int = 0

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def ignore_index(self) -> int:
        """The class-index-map value that counts nowhere: 255, or 65535 when there are more than 255 classes."""
        return ignore_index_of(self.num_classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @staticmethod
    def build(
        classes: Any,
        ignore: Any,
        reduce_zero_label: bool | None,
        found_ids: Iterable[int],
        *,
        num_classes: int | None = None,
        kind: Kind | None = None,
        colour_tolerance: int = 0,
        declared_range: bool = False,
    ) -> "LabelSpace":
        """The label space of config values and the label ids a scan found.

        Args:
            classes: ``datasets.classes``; None takes the ids found, less the ignored ones, sorted.
            ignore: ``datasets.ignore``; None means 255 for label ids, nothing for colours.
            reduce_zero_label: label id 0 is ignored and class index = label id - 1.
            found_ids: label ids in the masks of all splits.
            num_classes: checked when given.
            kind: what the masks store, where ``classes`` does not say it.
            colour_tolerance: see the attribute.
            declared_range: the data set is known to use a contiguous range of ids (ADE20K), so that ids which do not
                occur are classes too, up to ``num_classes``.

        Raises:
            LabelError: (a ValueError) contradictory settings; the message has the label table and what to set.
        """
        resolved_kind, resolved, ignored = resolve_labels(
            classes,
            ignore,
            bool(reduce_zero_label),
            set(found_ids),
            num_classes=num_classes,
            kind=kind,
            declared_range=declared_range,
        )
        return LabelSpace(resolved_kind, resolved, ignored, bool(reduce_zero_label), colour_tolerance)

    def encode(self, mask: LabelMap, source: str = "mask") -> LabelMap:
        """Label ids (packed for colours) to class indices, uint8 (uint16 when num_classes > 255).

        Raises:
            ValueError: a label id that the space does not name, with ``source``, the id and its pixel count.
        """
        indices = self._lookup(mask)
        unknown = indices == _UNKNOWN
        if unknown.any():
            indices = self._encode_strays(mask, indices, unknown, source)
        return indices if self.num_classes > 255 else indices.astype(np.uint8)

    def decode(self, prediction: LabelMap) -> LabelMap:
        """Class indices to canonical label ids, in uint8, uint16 or int32, whichever holds every id of the space.

        The ignore index becomes the first ignored id that is not negative (255, or black for colours, without one).

        Raises:
            ValueError: a value that is neither a class index nor the ignore index.
        """
        indices = prediction.astype(np.int64)
        valid = ((indices >= 0) & (indices < self.num_classes)) | (indices == self.ignore_index)
        if not valid.all():
            raise ValueError(
                f"{np.unique(indices[~valid]).tolist()[:8]} are no class indices: this label space has "
                f"0..{self.num_classes - 1} and the ignore index {self.ignore_index}"
            )
        return self._decode_table[np.minimum(indices, self.num_classes)]

    def mask_ignored(self, decoded: LabelMap, truth: LabelMap) -> LabelMap:
        """``decoded`` label ids, but with the label id of ``truth`` wherever ``truth`` is ignored (a negative one as
        ``decode`` writes the ignore index).

        With a prediction that is right everywhere the result equals ``truth`` (merged ids become the canonical one).
        """
        ignored = self.encode(truth) == self.ignore_index
        shown = np.where(truth < 0, self._decode_table[-1], truth)
        return np.where(ignored, shown, decoded).astype(decoded.dtype)

    def classify(self, label_ids: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        """The class index of every label id: the ignore index for ignored ids, -1 for ids outside the space."""
        indices = self._lookup_strays(label_ids).astype(np.int64)
        return np.where(indices == _UNKNOWN, -1, indices)

    def nearest(
        self, colours: Integer[np.ndarray, " n"]
    ) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
        """For packed colours: the nearest declared one and its distance (largest difference of a channel, 0..255)."""
        position, distance = self._nearest_declared(colours)
        return self._sorted_ids[position], distance

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "num_classes": self.num_classes,
            "ignore_index": self.ignore_index,
            "classes": [
                {"index": i, "name": c.name, "label_ids": list(c.label_ids), "colour": list(c.colour)}
                for i, c in enumerate(self.classes)
            ],
            "ignored_ids": list(self.ignored_ids),
            "reduce_zero_label": self.reduce_zero_label,
            "colour_tolerance": self.colour_tolerance,
        }

    @staticmethod
    def from_dict(data: dict[str, Any], source: str = "label space") -> "LabelSpace":
        """The inverse of ``to_dict``.

        Raises:
            ValueError: a key is missing, wrong, or does not agree with another; names it after ``source``.
        """
        return LabelSpace.from_record(check_document(data, LabelSpaceRecord, source, _REMEDY))

    @staticmethod
    def from_record(record: LabelSpaceRecord) -> "LabelSpace":
        """The label space of a file that was checked."""
        classes = (
            LabelClass(entry.name, tuple(entry.label_ids), (entry.colour[0], entry.colour[1], entry.colour[2]))
            for entry in record.classes
        )
        ignored = tuple(record.ignored_ids)
        return LabelSpace(record.kind, tuple(classes), ignored, record.reduce_zero_label, record.colour_tolerance)

    def save(self, path: Path) -> None:
        """Writes ``labels.json``; the file appears whole or not at all."""
        replace_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> "LabelSpace":
        """Reads ``labels.json``.

        Raises:
            ValueError: missing, damaged, or a key is wrong; names file and key.
        """
        return LabelSpace.from_record(read_json(path, LabelSpaceRecord, _REMEDY))

    @cached_property
    def _index_of(self) -> dict[int, int]:
        table = {label_id: index for index, entry in enumerate(self.classes) for label_id in entry.label_ids}
        return table | dict.fromkeys(self.ignored_ids, self.ignore_index)

    @cached_property
    def _sorted_ids(self) -> Integer[np.ndarray, " ids"]:
        return np.array(sorted(self._index_of), dtype=np.int64)

    @cached_property
    def _sorted_indices(self) -> Integer[np.ndarray, " ids"]:
        return np.array([self._index_of[int(label_id)] for label_id in self._sorted_ids], dtype=np.uint16)

    @cached_property
    def _encode_table(self) -> Integer[np.ndarray, " ids"]:
        # Long enough for any uint8, and the last entry is always unknown.
        table = np.full(max(int(self._sorted_ids[-1]) + 2, 257), _UNKNOWN, dtype=np.uint16)
        table[self._sorted_ids] = self._sorted_indices
        return table

    @cached_property
    def _decode_table(self) -> Integer[np.ndarray, " classes_and_ignored"]:
        free = (0,) if self.kind == "colours" else (255, *range(_LARGEST_TABLE))
        fallback = next(label_id for label_id in free if label_id not in self._index_of or self.kind == "colours")
        # A negative id is in no image format: maps are written with an ignored id that is.
        ignored = next((label_id for label_id in self.ignored_ids if label_id >= 0), fallback)
        largest = 0xFFFFFF if self.kind == "colours" else max(*self._index_of, ignored)
        dtype = np.uint8 if largest < 256 else np.uint16 if largest < 65536 else np.int32
        return np.array([entry.label_ids[0] for entry in self.classes] + [ignored], dtype=dtype)

    def _lookup(self, ids: Integer[np.ndarray, "..."]) -> Integer[np.ndarray, "..."]:
        if int(self._sorted_ids[0]) >= 0 and int(self._sorted_ids[-1]) < _LARGEST_TABLE:
            table = self._encode_table
            if ids.dtype != np.uint8 and ids.size and (ids.min() < 0 or ids.max() >= len(table)):
                ids = np.clip(ids.astype(np.int64), -1, len(table) - 1)
            return table[ids]
        position = np.searchsorted(self._sorted_ids, ids).clip(max=len(self._sorted_ids) - 1)
        found = self._sorted_ids[position] == ids
        return np.where(found, self._sorted_indices[position], np.uint16(_UNKNOWN))

    def _lookup_strays(self, ids: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        indices = self._lookup(ids)
        if self.kind == "colours" and self.colour_tolerance > 0:
            position, distance = self._nearest_declared(ids)
            indices = np.where(distance <= self.colour_tolerance, self._sorted_indices[position], indices)
        return indices

    def _nearest_declared(
        self, colours: Integer[np.ndarray, " n"]
    ) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
        """The place of the nearest declared colour among the sorted ids, and its distance."""
        position, distance = (np.empty(len(colours), np.int64) for _ in range(2))
        # In parts, since masks may hold more colours than distances to all declared ones fit into memory.
        for start in range(0, len(colours), _PART):
            part = slice(start, start + _PART)
            to_each = _colour_distance(colours[part], self._sorted_ids)
            position[part], distance[part] = to_each.argmin(axis=1), to_each.min(axis=1)
        return position, distance

    def _encode_strays(
        self,
        mask: LabelMap,
        indices: LabelMap,
        unknown: np.ndarray,
        source: str,
    ) -> LabelMap:
        strays, where, counts = np.unique(mask[unknown], return_inverse=True, return_counts=True)
        taken = self._lookup_strays(strays)
        if (taken == _UNKNOWN).any():
            missing = {int(i): int(n) for i, n, t in zip(strays, counts, taken, strict=True) if t == _UNKNOWN}
            raise ValueError(self._unknown_message(missing, source))
        indices[unknown] = taken[where.reshape(-1)]
        return indices

    def _unknown_message(self, missing: dict[int, int], source: str) -> str:
        most = sorted(missing.items(), key=lambda entry: -entry[1])
        listed = ", ".join(f"{show_label(i, self.kind)} ({n} pixels)" for i, n in most[:5])
        more = f" and {len(most) - 5} more" if len(most) > 5 else ""
        what = "colour" if self.kind == "colours" else "label id"
        label = f"'{show_label(most[0][0], self.kind)}'" if self.kind == "colours" else str(most[0][0])
        advice = f"add it to datasets.ignore ([{label}])"
        if most[0][0] >= 0:
            advice = f"name it in datasets.classes ({{{label}: name}}) or {advice}"
        if self.kind == "colours":
            distance = self.nearest(np.array(list(missing)))[1].max()
            advice += f"; if these are blurred edges, datasets.colour_tolerance={distance} takes the nearest declared"
        return f"{source}: {what} outside the label space: {listed}{more}; {advice}"


def _colour_distance(
    colours: Integer[np.ndarray, " n"], declared: Integer[np.ndarray, " m"]
) -> Integer[np.ndarray, "n m"]:
    """Chebyshev distance over the three channels between packed colours."""
    first = np.stack(unpack_channels(colours), axis=-1)
    second = np.stack(unpack_channels(declared), axis=-1)
    return np.abs(first[:, None] - second[None]).max(axis=-1)


def unpack_channels(packed: Integer[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed colours 0xRRGGBB to their red, green and blue channels (0..255, int64)."""
    wide = packed.astype(np.int64)
    return wide >> 16 & 255, wide >> 8 & 255, wide & 255
