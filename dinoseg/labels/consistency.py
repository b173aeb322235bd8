"""Do ``classes``, ``ignore``, ``reduce_zero_label``, ``num_classes`` and the masks agree? Every way they may not."""

from collections.abc import Iterable, Sequence
from typing import Any

from dinoseg.labels.settings import (
    Kind,
    LabelClass,
    LabelError,
    drawing_colour,
    label_ids_advice,
    parse_classes,
    parse_ignore,
    show_label,
    show_labels,
)

MOST_CLASSES = 65534  # class indices and the ignore index 65535 share 16 bits
_NOUN: dict[Kind, str] = {"ids": "label ids", "colours": "colours"}


def resolve_labels(
    classes: Any,
    ignore: Any,
    reduce_zero_label: bool,
    found: set[int],
    *,
    num_classes: int | None,
    kind: Kind | None,
    declared_range: bool,
) -> tuple[Kind, tuple[LabelClass, ...], tuple[int, ...]]:
    """Config values and the label ids found in the masks, resolved to (kind, classes, ignored ids).

    Raises:
        LabelError: any contradiction, with the settings that are consistent.
    """
    first = 1 if reduce_zero_label and _begins_with_one(classes, found, num_classes) else 0
    declared_kind, declared = parse_classes(classes, first) if classes is not None else (None, ())
    ignore_kind, given_ignored = parse_ignore(ignore)
    resolved_kind: Kind = declared_kind or kind or ignore_kind or "ids"
    named = {label_id for entry in declared for label_id in entry.label_ids}
    if ignore_kind is not None and ignore_kind != resolved_kind:
        raise LabelError(
            "label_settings",
            f"datasets.ignore lists {_NOUN[ignore_kind]}, but the masks are declared as {_NOUN[resolved_kind]}; use "
            f"one kind in both{label_ids_advice(ignore)}",
        )
    _check_kinds(resolved_kind, declared_kind, kind, reduce_zero_label)
    ignored = _ignored_ids(given_ignored, named, reduce_zero_label, resolved_kind)
    _check_overlap(declared, ignored, reduce_zero_label, resolved_kind)
    if classes is None:
        label_ids = _ids_as_classes(found, set(ignored), reduce_zero_label, num_classes, resolved_kind, declared_range)
        declared = tuple(
            LabelClass(f"class_{label_id}", (label_id,), drawing_colour(label_id, index, resolved_kind))
            for index, label_id in enumerate(label_ids)
        )
    _check_not_negative(declared, found)
    _check_shift(declared, reduce_zero_label, classes is not None)
    _check_count(declared, ignored, reduce_zero_label, num_classes, resolved_kind, classes is not None)
    return resolved_kind, declared, ignored


def _begins_with_one(classes: Any, found: set[int], num_classes: int | None) -> bool:
    """Whether a list of names is sure to be of label ids 1, 2, 3, ..., where label id 0 is ignored.

    A list that begins with the background is of 0, 1, 2, ...: the number of classes, or the largest label id of the
    masks, tells the two apart.
    """
    if not isinstance(classes, list | tuple):
        return False
    return len(classes) in (num_classes, max(found - {255}, default=0))


def label_table(classes: Sequence[LabelClass], ignored: Iterable[int], kind: Kind, most: int = 20) -> str:
    """The label space as text: label id, class index, name; one line each."""
    rows = [
        (show_labels(entry.label_ids, kind, 4), str(index), entry.name) for index, entry in enumerate(classes[:most])
    ]
    if len(classes) > most:
        rows.append(("...", "...", f"({len(classes) - most} more)"))
    rows += [(show_label(label_id, kind), "-", "(ignored)") for label_id in ignored]
    rows.insert(0, ("label id", "class index", "name"))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"  {label:>{width}}  {index:>11}  {name}" for label, index, name in rows)


def _check_kinds(kind: Kind, declared: Kind | None, scanned: Kind | None, reduce_zero_label: bool) -> None:
    if declared is not None and scanned is not None and declared != scanned:
        raise LabelError(
            "mask_kind",
            f"datasets.classes names {_NOUN[declared]}, but the masks store {_NOUN[scanned]}; name {_NOUN[scanned]}",
        )
    if kind == "colours" and reduce_zero_label:
        raise LabelError(
            "label_settings",
            "reduce_zero_label=true has no meaning for colour masks: there is no label id 0; "
            "list the colours to ignore in datasets.ignore instead",
        )


def _ignored_ids(
    given: tuple[int, ...] | None, named: set[int], reduce_zero_label: bool, kind: Kind
) -> tuple[int, ...]:
    ignored = given
    if ignored is None:
        # Whoever names 255 as a class has overruled the default.
        ignored = () if kind == "colours" or 255 in named else (255,)
    return (0, *(label_id for label_id in ignored if label_id != 0)) if reduce_zero_label else ignored


def _check_overlap(classes: Sequence[LabelClass], ignored: Sequence[int], reduce_zero_label: bool, kind: Kind) -> None:
    for entry in classes:
        if reduce_zero_label and 0 in entry.label_ids:
            raise LabelError(
                "label_settings",
                f"datasets.classes names label id 0 ({entry.name!r}), but reduce_zero_label=true ignores it; "
                "set reduce_zero_label=false to learn it, or take 0 out of datasets.classes (a list of names is of "
                f"label ids 1, 2, 3, ... when decoder_head.num_classes={len(classes)} says so, too)",
            )
        both = [label_id for label_id in entry.label_ids if label_id in ignored]
        if both:
            raise LabelError(
                "label_settings",
                f"{show_labels(both, kind)} is in datasets.classes ({entry.name!r}) and in datasets.ignore; "
                "take it out of one of them",
            )


def _ids_as_classes(
    found: set[int],
    ignored: set[int],
    reduce_zero_label: bool,
    num_classes: int | None,
    kind: Kind,
    declared_range: bool,
) -> list[int]:
    if kind == "colours":
        pasted = ", ".join(f"'{show_label(label_id, kind)}': name_{i}" for i, label_id in enumerate(sorted(found)[:12]))
        raise LabelError(
            "mask_kind",
            f"the masks store colours ({len(found)} found) and datasets.classes does not say which is which; "
            f'give for instance "datasets.classes={{{pasted}}}"',
        )
    if found == {0, 255}:
        raise LabelError(
            "binary_mask",
            "the masks hold 0 and 255 only: a binary mask in which 255 is the object, while 255 is ignored by default, "
            "so that one class would be left; set\n"
            '  "datasets.classes={0: background, 255: object}" "datasets.ignore=[]"',
        )
    label_ids = sorted(found - ignored)
    has_gaps = bool(label_ids) and label_ids != list(range(1, len(label_ids) + 1))
    if label_ids and (declared_range or (reduce_zero_label and num_classes is not None and has_gaps)):
        first = 1 if reduce_zero_label else 0
        last = first + num_classes - 1 if num_classes is not None else label_ids[-1]
        if label_ids[0] >= first and label_ids[-1] <= last:
            return [label_id for label_id in range(first, last + 1) if label_id not in ignored]
    if len(label_ids) > MOST_CLASSES:
        raise LabelError(
            "label_settings", f"{len(label_ids)} label ids found; at most {MOST_CLASSES} classes are possible"
        )
    return label_ids


def _check_not_negative(classes: Sequence[LabelClass], found: set[int]) -> None:
    negative = sorted(label_id for entry in classes for label_id in entry.label_ids if label_id < 0)
    if negative:
        ignored = [*negative[:8], *([255] if 255 in found else [])]
        raise LabelError(
            "negative_ids",
            f"label id {show_labels(negative, 'ids')} cannot be a class: label maps are written as images, which hold "
            f"no negative ids; if it marks pixels without a label, set datasets.ignore={ignored}",
        )


def _check_shift(classes: Sequence[LabelClass], reduce_zero_label: bool, named: bool) -> None:
    wrong = [entry for index, entry in enumerate(classes) if entry.label_ids != (index + 1,)]
    if reduce_zero_label and wrong:
        settings = (
            f'datasets.reduce_zero_label=false "datasets.ignore=[0, 255]" decoder_head.num_classes={len(classes)}'
        )
        advice = f"set {settings}"
        if not named:
            largest = max(entry.label_ids[0] for entry in classes)
            advice = (
                f"if label ids are only missing from these masks, set decoder_head.num_classes={largest} (or whatever "
                f"the largest label id is); if these are all, set {settings}"
            )
        raise LabelError(
            "label_settings",
            "reduce_zero_label=true means class index = label id - 1, so the label ids must be 1, 2, 3, ... in this "
            f"order, each a class of its own; found {show_labels(wrong[0].label_ids, 'ids')} ({wrong[0].name!r}) at "
            f"class index {classes.index(wrong[0])}; {advice}",
        )


def _check_count(
    classes: Sequence[LabelClass],
    ignored: Sequence[int],
    reduce_zero_label: bool,
    num_classes: int | None,
    kind: Kind,
    named: bool,
) -> None:
    table = label_table(classes, ignored, kind)
    if num_classes is not None and num_classes != len(classes):
        raise LabelError(
            "num_classes",
            f"decoder_head.num_classes={num_classes} does not match the label space, which has {len(classes)} classes "
            f"with reduce_zero_label={str(reduce_zero_label).lower()}:\n{table}\n"
            f"{_consistent_settings(classes, reduce_zero_label, kind, named)}",
        )
    if len(classes) < 2:
        raise LabelError(
            "single_class",
            f"the label space has {len(classes)} classes and nothing can be learned from fewer than two:\n{table}\n"
            "check datasets.ignore and reduce_zero_label, or name the classes in datasets.classes",
        )


def _consistent_settings(classes: Sequence[LabelClass], reduce_zero_label: bool, kind: Kind, named: bool) -> str:
    count = len(classes)
    with_zero = count + 1 if reduce_zero_label else count
    has_zero = reduce_zero_label or any(0 in entry.label_ids for entry in classes)
    lines = [f"  decoder_head.num_classes={with_zero} datasets.reduce_zero_label=false"]
    if kind == "ids" and has_zero and with_zero > 2:
        lines[0] += "   label id 0 is a class to segment, such as background"
        # What the shift makes of label ids with gaps: every id up to the largest is a class.
        ids = sorted({label_id for entry in classes for label_id in entry.label_ids} - {0})
        without_zero = with_zero - 1 if named or ids == list(range(1, len(ids) + 1)) else ids[-1]
        lines.append(
            f"  decoder_head.num_classes={without_zero} datasets.reduce_zero_label=true    label id 0 means ignore"
        )
        if named:
            # The branch not taken also needs another datasets.classes.
            lines[0 if reduce_zero_label else 1] += (
                f" ({'name it in' if reduce_zero_label else 'take it out of'} datasets.classes)"
            )
    lines.append("or leave decoder_head.num_classes out: it follows from the labels")
    return "Consistent settings:\n" + "\n".join(lines)
