"""Lists of images: text, CSV, JSON or YAML files that name what belongs to a split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.found_files import MASK_SUFFIXES, suffix_of
from dinoseg.data.pairs import SPLITS, Split
from dinoseg.system.text_tables import column_of, parse_structured, read_utf8, table_rows

LIST_SUFFIXES = (".txt", ".lst", ".csv", ".tsv", ".json", ".yaml", ".yml")
_WHAT = "a list of images (text, CSV, JSON or YAML)"
_IMAGE_COLUMNS = ("image", "images", "img", "file", "filename", "file_name", "path", "name", "stem", "id", "image_path")
_MASK_COLUMNS = ("mask", "masks", "label", "labels", "annotation", "gt", "segmentation", "mask_path", "label_path")
_SPLIT_COLUMNS = ("split", "set", "subset", "fold", "partition")
_SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class ListEntry:
    """One entry: an image by path, path below its folder, or stem; and its mask, where the list names it.

    Attributes:
        place: where it stands, for messages: ``line 3``, ``train[2]``.
    """

    image: str
    mask: str | None
    place: str


def is_list_file(text: str) -> bool:
    """Whether a value of ``datasets.train`` and the like names a list rather than a folder."""
    return Path(text).suffix.lower() in LIST_SUFFIXES


def read_name_list(path: Path, split: Split) -> list[ListEntry]:
    """The entries of a list that belong to a split: all of them where the list knows no splits.

    Text: one image a line, or an image and a mask parted by a tab or a space; ``#`` begins a comment. CSV: with a
    header (image, and if wanted mask and split), or one or two columns. JSON, YAML: a list, or
    ``{train: [...], val: [...]}``; an entry is a text or ``{image: ..., mask: ...}``.

    Raises:
        ValueError: no such file, not readable, an entry that names nothing, an image named twice; names the line.
    """
    suffix = path.suffix.lower()
    text = read_utf8(path, _WHAT)
    if suffix in (".json", ".yaml", ".yml"):
        entries = list(_structured(path, text, split))
    elif suffix in (".csv", ".tsv"):
        entries = list(_table(path, text, split))
    else:
        entries = list(_lines(text))
    places: dict[str, str] = {}
    for entry in entries:
        if entry.image in places:
            raise ValueError(f"{path}, {entry.place}: {entry.image!r} is named twice (before: {places[entry.image]})")
        places[entry.image] = entry.place
    return entries


def _lines(text: str) -> Iterator[ListEntry]:
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield ListEntry(*_columns(line), f"line {number}")


def _columns(line: str) -> tuple[str, str | None]:
    """An image, and its mask where the line has two parts of which the second is a file of a mask."""
    parts = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
    if len(parts) == 2 and suffix_of(Path(parts[1].strip())) in MASK_SUFFIXES and Path(parts[0].strip()).suffix:
        return parts[0].strip(), parts[1].strip()
    return line, None


def _table(path: Path, text: str, split: Split) -> Iterator[ListEntry]:
    rows = table_rows(path, text)
    header = [cell.lower() for cell in rows[0]] if rows else []
    image, mask, part = (column_of(header, names) for names in (_IMAGE_COLUMNS, _MASK_COLUMNS, _SPLIT_COLUMNS))
    start = 0 if image is None else 1
    if image is None and part is not None:
        raise ValueError(
            f"{path}, line 1: a column {rows[0][part]!r} and none of images; call it one of {', '.join(_IMAGE_COLUMNS)}"
        )
    if image is None:
        widest = max(map(len, rows), default=0)
        if widest > 2:
            raise ValueError(
                f"{path}: {widest} columns and no header that names them; begin with the line image,mask or image,split"
            )
        image, mask = 0, (1 if widest == 2 else None)
    for number, row in enumerate(rows[start:], start + 1):
        if not any(row):
            continue
        if len(row) <= max(column for column in (image, mask, part) if column is not None) or not row[image]:
            raise ValueError(f"{path}, line {number}: {','.join(row)!r} has no image, or too few columns")
        if part is None or _split_word(path, f"line {number}", row[part]) == split:
            yield ListEntry(row[image], row[mask] or None if mask is not None else None, f"line {number}")


def _split_word(path: Path, place: str, word: str) -> Split:
    if word.lower() not in _SPLIT_WORDS:
        raise ValueError(f"{path}, {place}: {word!r} is no split; write {', '.join(SPLITS)}")
    return _SPLIT_WORDS[word.lower()]


def _structured(path: Path, text: str, split: Split) -> Iterator[ListEntry]:
    content = parse_structured(path, text, _WHAT, plain=True)
    where = ""
    if isinstance(content, Mapping):
        named = {_SPLIT_WORDS[key.lower()]: key for key in content if str(key).lower() in _SPLIT_WORDS}
        if not named:
            raise ValueError(f"{path}: neither a list nor {{train: [...], val: [...]}}; keys: {list(content)[:6]}")
        where = named.get(split, "")
        content = content[where] if where else []
    if not isinstance(content, list):
        raise ValueError(f"{path}: {where or 'the file'} holds a {type(content).__name__}; give a list of images")
    for index, entry in enumerate(content):
        place = f"{where}[{index}]"
        if isinstance(entry, Mapping) and isinstance(entry.get("image"), str):
            mask = entry.get("mask")
            yield ListEntry(entry["image"], None if mask is None else str(mask), place)
        elif isinstance(entry, str | int) and not isinstance(entry, bool) and str(entry).strip():
            # YAML takes 0001 for a number; JSON has names as texts.
            yield ListEntry(str(entry).strip(), None, place)
        else:
            raise ValueError(f"{path}, {place}: {entry!r} names no image; write a text, or {{image: .., mask: ..}}")
