"""Label ids that are given, so that several imports (one a split) agree on them."""

from dataclasses import replace

from dinoseg.config.class_files import read_classes
from dinoseg.importing.classes import BACKGROUND_NAMES, ClassTable, ImportedClass
from dinoseg.importing.source import IGNORED_ID, AnnotatedPicture, Source
from dinoseg.labels.settings import parse_classes
from dinoseg.system.messages import list_names

_LARGEST = 65534


def with_classes(source: Source, text: str) -> Source:
    """The source with given label ids and colours, class by class of one name.

    Args:
        text: a classes.csv, or what else ``datasets.classes`` takes as a text.

    Raises:
        ValueError: no classes there, ids that a mask does not hold, or a class of the source is missing.
    """
    given = {entry.name: entry for entry in given_classes(text)}
    own = source.classes.classes
    lacking = [entry.name for entry in own if entry.label_id != 0 and entry.name not in given]
    if lacking:
        raise ValueError(
            f"--classes {text}: lacks {list_names(lacking)} of {source.origin}; add lines, or remove --classes"
        )
    # What nobody drew is 0 in every mask, whatever it is called.
    new_ids = {entry.label_id: given[entry.name].label_id if entry.label_id else 0 for entry in own}
    keys = {entry.name: entry.key for entry in own if entry.label_id}
    classes = tuple(replace(entry, key=keys.get(entry.name)) for entry in given.values())
    pictures = tuple(_relabelled(picture, new_ids) for picture in source.pictures)
    return replace(source, classes=ClassTable(classes, f"label ids are those of {text}"), pictures=pictures)


def given_classes(text: str) -> tuple[ImportedClass, ...]:
    """Classes with one label id each that a mask can hold, by label id.

    Raises:
        ValueError: colours, several ids of one name, an id that no mask of an import has, or a 0 that is no background.
    """
    kind, classes = parse_classes(read_classes(text).classes)
    if kind == "colours":
        raise ValueError(f"--classes {text}: names colours; give label ids, which masks of an import hold")
    for entry in classes:
        if len(entry.label_ids) > 1:
            ids = " and ".join(map(str, entry.label_ids))
            raise ValueError(f"--classes {text}: {entry.name!r} has the label ids {ids}; give one")
        if not 0 <= entry.label_ids[0] <= _LARGEST or entry.label_ids[0] == IGNORED_ID:
            raise ValueError(
                f"--classes {text}: {entry.name!r} has the label id {entry.label_ids[0]}; use ids of 0 to {_LARGEST}, "
                f"and not {IGNORED_ID}, which counts nowhere"
            )
    zero = next((entry.name for entry in classes if entry.label_ids == (0,)), None)
    if zero is None or zero.lower() not in BACKGROUND_NAMES:
        found = "no class has the label id 0" if zero is None else f"the label id 0 is {zero!r}"
        raise ValueError(
            f"--classes {text}: {found}, which is what nobody drew in masks of an import; give a table with "
            "0,background"
        )
    imported = (ImportedClass(entry.label_ids[0], entry.name, entry.colour, None) for entry in classes)
    return tuple(sorted(imported, key=lambda entry: entry.label_id))


def _relabelled(picture: AnnotatedPicture, new_ids: dict[int, int]) -> AnnotatedPicture:
    shapes = tuple(replace(shape, label_id=new_ids.get(shape.label_id, shape.label_id)) for shape in picture.shapes)
    return replace(picture, shapes=shapes)
