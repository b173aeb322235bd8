"""Run lengths as COCO stores regions: column by column, the first run outside; as numbers, or packed into a text.

The text is read here because a decoder in C trusts it: lengths beyond the picture would be written beyond its memory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from dinoseg.importing.runs import Bitmap, Region, Runs
from dinoseg.system.json_files import show_found

Counts = Int64[np.ndarray, " counts"]

# Of a packed number: five bits a letter, lowest first; one bit says that more follow, one (of the last) is the sign.
_FIRST_LETTER, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_MOST_LETTERS = 7


@dataclass(frozen=True)
class RunLengths(Region):
    """A region of a picture of a known size by its run lengths."""

    counts: Counts
    height: int
    width: int

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels."""
        ends = np.cumsum(self.counts)
        starts, ends = ends[0::2][: len(ends) // 2], ends[1::2]
        starts, ends = starts[starts < ends], ends[starts < ends]
        if not len(starts):
            return Bitmap(np.zeros((0, 0), bool)).runs(height, width)
        first, last = int(starts[0]) // self.height, (int(ends[-1]) - 1) // self.height
        size = (last - first + 1) * self.height
        change = np.bincount(starts - first * self.height, minlength=size + 1).astype(np.int32)
        change -= np.bincount(ends - first * self.height, minlength=size + 1)
        columns = np.cumsum(change[:size]) > 0
        return Bitmap(columns.reshape(-1, self.height).T, left=first).runs(height, width)


def run_lengths(segmentation: dict[str, Any], height: int, width: int, where: str) -> RunLengths:
    """The region of a COCO object ``{"size": [height, width], "counts": ...}``.

    Raises:
        ValueError: a size other than the picture's, or counts that are damaged or do not fill it.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(
            f"{where}.size is {size if isinstance(size, list) else show_found(size)}, but the file says that "
            f"its picture has [{height}, {width}] (height, width); correct it"
        )
    if isinstance(counts, str):
        lengths = unpack_counts(counts, f"{where}.counts")
    elif isinstance(counts, list) and all(type(count) is int and 0 <= count <= height * width for count in counts):
        lengths = np.array(counts, dtype=np.int64)
    else:
        raise ValueError(
            f"{where}.counts is {show_found(counts)}; a text or a list of run lengths expected: correct it"
        )
    within = ((lengths >= 0) & (lengths <= height * width)).all()
    if not within or int(lengths.sum()) != height * width:
        raise ValueError(
            f"{where}.counts does not cover the {height} x {width} pixels of its picture once; it is damaged: write it "
            "again, or remove the annotation"
        )
    return RunLengths(lengths, height, width)


def unpack_counts(text: str, where: str) -> Counts:
    """The run lengths in a packed text.

    Raises:
        ValueError: it holds other letters, ends within a number, or a number is too long.
    """
    letters = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - _FIRST_LETTER
    if not letters.size:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((letters & _MORE) == 0)
    lengths = np.diff(ends, prepend=-1)
    damaged = letters.min() < 0 or letters.max() >= 2 * _MORE or not ends.size or ends[-1] != letters.size - 1
    if damaged or lengths.max() > _MOST_LETTERS:
        raise ValueError(f"{where}: no packed run lengths of COCO ({text[:20]!r}); write it again")
    number = np.repeat(np.arange(len(ends)), lengths)
    place = np.arange(letters.size) - (ends - lengths + 1)[number]
    values = np.zeros(len(ends), np.int64)
    np.add.at(values, number, (letters & (_MORE - 1)) << (_BITS * place))
    values -= np.where(letters[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    # From the fourth on they are differences to the last but one.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
