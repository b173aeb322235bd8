"""Names of classes from a file, or of a known data set: what ``datasets.classes`` becomes when it is a text."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dinoseg.system.text_tables import column_of, parse_structured, read_utf8, table_rows

# The name by which a table says that a label counts nowhere.
IGNORED = "(ignored)"
_ID_COLUMNS = ("id", "label id", "label_id", "pixel value", "value", "index", "class_id", "label")
_NAME_COLUMNS = ("name", "class", "class_name", "class name", "category")
_COLOUR_WORDS = ("colour", "color", "rgb", "hex")
# What a feature of a card is called whose names are those of pixels.
_PIXEL_CLASSES = ("classes", "class_names", "pixel_classes", "semantic_classes")
_FORMATS = "a text file with a name a line, or a CSV (id,name), JSON or YAML file"


@dataclass
class NamedClasses:
    """What a file or a preset says.

    Attributes:
        classes: by label id or ``#rrggbb``: a name, or ``{name, colour}``.
        ignore: labels that count nowhere; None where it says nothing of them.
    """

    classes: dict[Any, Any] = field(default_factory=dict)
    ignore: list[int | str] | None = None

    def add(self, label: int | str, name: str, colour: str | None = None) -> None:
        """Adds one; a label called ``(ignored)`` counts nowhere."""
        if name == IGNORED:
            self.ignore = [*(self.ignore or []), label]
        else:
            self.classes[label] = name if colour is None else {"name": name, "colour": colour}


def preset_names() -> list[str]:
    """The data sets whose classes are known."""
    folder = resources.files("dinoseg.config") / "presets"
    return sorted(entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv"))


def read_classes(text: str, root: str = "") -> NamedClasses:
    """The classes that a text in ``datasets.classes`` stands for: a preset, or a file.

    Args:
        text: a name of ``preset_names``, or a path below the current folder or the root.
        root: ``datasets.root``.

    Raises:
        ValueError: neither, or a file that does not name classes; says where in it.
    """
    if text in preset_names():
        content = (resources.files("dinoseg.config") / "presets" / f"{text}.csv").read_text(encoding="utf-8")
        return _table(Path(f"{text}.csv"), content)
    path = next((p for p in (Path(text).expanduser(), Path(root).expanduser() / text) if p.exists()), None)
    if path is None:
        near = difflib.get_close_matches(text, preset_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"datasets.classes={text}: no such file, and no data set known by that name; {hint}known are "
            f"{', '.join(preset_names())}; or give {_FORMATS}, or {{0: background, 1: vessel}}"
        )
    return _read_file(path)


def _read_file(path: Path) -> NamedClasses:
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path, str], NamedClasses]] = {
        **dict.fromkeys((".csv", ".tsv"), _table),
        **dict.fromkeys((".json", ".yaml", ".yml"), _structured),
        ".md": _card,
        **dict.fromkeys((".txt", ".names", ""), _lines),
    }
    if path.is_dir() or suffix not in readers:
        what = "a folder" if path.is_dir() else f"a file of type {suffix}"
        raise ValueError(f"datasets.classes={path}: {what}; give {_FORMATS}")
    named = readers[suffix](path, read_utf8(path, _FORMATS))
    if not named.classes:
        raise ValueError(f"{path}: names no class; give {_FORMATS}")
    return named


def names_in_card(path: Path) -> bool:
    """Whether a README of a data set names the classes of its masks, in the YAML that it begins with."""
    try:
        return bool(_card(path, read_utf8(path, _FORMATS)).classes)
    except ValueError:
        return False


def _card(path: Path, text: str) -> NamedClasses:
    """``id2label`` or ``label2id``, or the names of a feature that is called after the classes of pixels.

    A feature called otherwise (``label``, ``scene``) most often says what is on an image, not in its pixels.
    """
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    content = parse_structured(path.with_suffix(".yaml"), found[1], _FORMATS) if found else {}
    if not isinstance(content, Mapping):
        return NamedClasses()
    names = content.get("id2label") or content.get("label2id") or _names_of_features(content.get("dataset_info"))
    named = NamedClasses()
    for key, value in names.items() if isinstance(names, Mapping) else ():
        _add_entry(named, f"{path}, {key!r}", key, value)
    return named


def _names_of_features(info: Any) -> Any:
    infos = info if isinstance(info, list) else [info]
    for features in (entry.get("features") for entry in infos if isinstance(entry, Mapping)):
        for feature in features if isinstance(features, list) else ():
            if not isinstance(feature, Mapping) or feature.get("name") not in _PIXEL_CLASSES:
                continue
            kinds = [feature.get("dtype"), feature.get("sequence"), feature.get("list")]
            labels = [kind["class_label"] for kind in kinds if isinstance(kind, Mapping) and "class_label" in kind]
            if labels and isinstance(labels[0], Mapping):
                return labels[0].get("names")
    return None


def _lines(path: Path, text: str) -> NamedClasses:
    """A name a line, for label ids 0, 1, 2; ``id name`` where every line begins so; CVAT's ``name:r,g,b::``."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    named = NamedClasses()
    colours = [re.fullmatch(r"(.+?):(\d+),(\d+),(\d+):.*", line) for _, line in lines]
    numbered = [re.fullmatch(r"(-?\d+)\s*[:,;\s]\s*(\S.*)", line) for _, line in lines]
    for index, (number, line) in enumerate(lines):
        where = f"{path}, line {number}"
        colour, pair = colours[index], numbered[index]
        if lines and all(colours) and colour:
            _add(named, where, _hex(where, colour.groups()[1:]), colour[1].strip())
        elif all(numbered) and pair:
            _add(named, where, int(pair[1]), pair[2].strip())
        else:
            _add(named, where, index, line)
    return named


def _table(path: Path, text: str) -> NamedClasses:
    rows = table_rows(path, text)
    header = [cell.lower() for cell in rows[0]] if rows else []
    label, name, colour = (column_of(header, names) for names in (_ID_COLUMNS, _NAME_COLUMNS, _COLOUR_WORDS))
    channels = [header.index(letter) for letter in "rgb"] if set("rgb") <= set(header) else []
    start = 1
    if name is None:
        start, label, name = 0, 0, 1
    named = NamedClasses()
    for number, row in enumerate(rows[start:], start + 1):
        if not any(row):
            continue
        where = f"{path}, line {number}"
        needed = [column for column in (label, name, colour, *channels) if column is not None]
        if len(row) <= max(needed):
            raise ValueError(f"{where}: {','.join(row)!r} has too few columns; write id,name or id,name,colour")
        if channels:
            _add(named, where, _hex(where, [row[column] for column in channels]), row[name])
        elif label is None:
            _add(named, where, len(named.classes) + len(named.ignore or ()), row[name])
        else:
            _add(
                named,
                where,
                _label(where, row[label]),
                row[name],
                None if colour is None else _colour(where, row[colour]),
            )
    return named


def _structured(path: Path, text: str) -> NamedClasses:
    content = parse_structured(path, text, _FORMATS)
    for key in ("id2label", "labels", "names", "categories", "classes"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping | list):
            content = content[key]
            break
    named = NamedClasses()
    if isinstance(content, Mapping):
        for key, value in content.items():
            _add_entry(named, f"{path}, {key!r}", key, value)
    elif isinstance(content, list):
        for index, entry in enumerate(content):
            where = f"{path}, [{index}]"
            if isinstance(entry, Mapping) and "id" in entry and "name" in entry:
                _add(named, where, _label(where, entry["id"]), str(entry["name"]), _colour_of(where, entry))
            elif isinstance(entry, str):
                _add(named, where, index, entry)
            else:
                raise ValueError(f"{where}: {entry!r} is no name; write a text, or an object with id and name")
    else:
        raise ValueError(f"{path}: holds neither a list nor a mapping of names; give {_FORMATS}")
    return named


def _add_entry(named: NamedClasses, where: str, key: Any, value: Any) -> None:
    """``{id: name}``, or ``{name: id}`` as nnU-Net writes it, whose label ``ignore`` counts nowhere."""
    if isinstance(value, int) and not isinstance(value, bool) and not re.fullmatch(r"-?\d+", str(key)):
        _add(named, where, value, IGNORED if key == "ignore" else str(key))
    elif isinstance(value, list):
        raise ValueError(
            f"{where}: is made of several labels {value} (a region of nnU-Net's); give each label one name"
        )
    elif isinstance(value, Mapping) and "name" in value:
        _add(named, where, _label(where, key), str(value["name"]), _colour_of(where, value))
    elif isinstance(value, str):
        _add(named, where, _label(where, key), value)
    else:
        raise ValueError(f"{where}: {value!r} is no name; write {{id: name}} or {{name: id}}")


def _label(where: str, text: Any) -> int | str:
    word = str(text).strip()
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", word):
        return word.lower()
    raise ValueError(f"{where}: {word!r} is neither a label id nor a colour (#rrggbb)")


def _colour_of(where: str, entry: Mapping[Any, Any]) -> str | None:
    """What a class is drawn in, where its entry says so."""
    return _colour(where, next((entry[word] for word in _COLOUR_WORDS if entry.get(word)), None))


def _colour(where: str, said: Any) -> str | None:
    """``#rrggbb`` of a text, or of three numbers; None of nothing."""
    if said is None or said == "":
        return None
    if isinstance(said, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", said.strip()):
        return said.strip().lower()
    channels = said if isinstance(said, list) else str(said).strip("()[] ").split(",")
    if len(channels) != 3:
        raise ValueError(f"{where}: {said!r} is no colour; write '#rrggbb' or three numbers of 0 to 255")
    return _hex(where, [str(channel).strip() for channel in channels])


def _hex(where: str, channels: Iterable[str]) -> str:
    values = [int(value) if value.isdecimal() else 256 for value in channels]
    if max(values) > 255:
        raise ValueError(f"{where}: a colour is three numbers of 0 to 255")
    return "#{:02x}{:02x}{:02x}".format(*values)


def _add(named: NamedClasses, where: str, label: int | str, name: str, colour: str | None = None) -> None:
    if label in named.classes or label in (named.ignore or ()):
        raise ValueError(f"{where}: label {label} is named twice")
    if not name:
        raise ValueError(f"{where}: label {label} has no name")
    named.add(label, name, colour)
