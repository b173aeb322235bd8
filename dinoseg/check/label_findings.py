"""What is wrong with the labels of a data set: outside the label space, colours for ids, classes that never occur."""

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.check.facts import PairFacts
from dinoseg.check.file_findings import Finding, SplitScan, file_finding, is_jpeg
from dinoseg.data.items import is_part
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind, label_ids_advice, show_label
from dinoseg.system.messages import plural

# More ids than this with nothing declared is more often a photograph or blurred edges than a label map.
MANY_IDS = 64
# Of label ids that count from 0 or 1, more than one in so many is in use.
_FEW_OF = 8
# A stray colour that covers less than this share of all pixels is more likely an edge than a forgotten class.
EDGE_SHARE = 0.002
# With more ids than this outside the label space, one finding sums them up.
MOST_UNKNOWN = 6


def usable_masks(split: SplitScan, kind: Kind) -> list[PairFacts]:
    """The pairs whose mask can be read, stores what is declared, and is no JPEG."""
    return [fact for fact in split.facts if not fact.mask.error and not is_jpeg(fact) and fact.mask.stores == kind]


def mask_kind_findings(splits: Sequence[SplitScan], kind: Kind, declared: bool, ignore: Any = None) -> list[Finding]:
    """RGB masks where label ids were declared (or nothing was), label ids where colours were.

    Args:
        declared: whether ``datasets.classes`` says the kind; else ``ignore``, which is ``datasets.ignore``, may.
    """
    wrong = [
        fact
        for split in splits
        for fact in split.facts
        if not fact.mask.error and not is_jpeg(fact) and fact.mask.stores != kind
    ]
    files = [fact.pair.mask for fact in wrong if fact.pair.mask]
    if not wrong:
        return []
    total: Counter[int] = Counter()
    for fact in wrong:
        total.update(dict(fact.mask.counts))
    if kind == "colours":
        ids = ", ".join(map(str, sorted(total)[:12]))
        where = "datasets.classes declares colours" if declared else f"datasets.ignore={ignore} names a colour"
        message = f"{plural(len(wrong), 'mask')} with label ids ({ids}) where {where}"
        advice = (
            "name the label ids in datasets.classes ({0: name, 1: name}), or point datasets.masks at the colour masks"
        )
        if not declared:
            advice = f"name label ids in datasets.ignore{label_ids_advice(ignore)}"
        return [file_finding("error", "mask_kind", message, advice, files)]
    expected = "datasets.classes declares label ids" if declared else "label ids are expected"
    message = f"{plural(len(wrong), 'mask')} with RGB colours where {expected} ({len(total)} colours found)"
    pasted = ", ".join(f"'{show_label(c, 'colours')}': name_{i}" for i, (c, _) in enumerate(total.most_common(12)))
    advice = f'declare the colours: "datasets.classes={{{pasted}}}"'
    if all(fact.mask.equal_channels for fact in wrong):
        message += ", all of them grey (red = green = blue)"
        advice = "these are grey masks saved as RGB: save them with one channel; or " + advice
    return [file_finding("error", "mask_kind", message, advice, files)]


def palette_findings(splits: Sequence[SplitScan]) -> list[Finding]:
    """A label id that has one colour in some palette masks and another in others: palettes that were made file by file.

    Masks whose palettes differ in what they do not use, or that have none, say nothing.
    """
    seen: dict[int, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for split in splits:
        for fact in usable_masks(split, "ids"):
            for label_id, colour in fact.mask.palette:
                seen[label_id][colour].append(fact.pair.mask or Path())
    findings = []
    for label_id, colours in sorted(seen.items()):
        if len(colours) == 1:
            continue
        most = sorted(colours, key=lambda colour: -len(colours[colour]))
        others = [file for colour in most[1:] for file in colours[colour]]
        findings.append(
            file_finding(
                "warning",
                "palettes_differ",
                f"label id {label_id} is {show_label(most[0], 'colours')} in {plural(len(colours[most[0]]), 'mask')} "
                f"and another colour, such as {show_label(most[1], 'colours')}, in {len(others)}",
                "label ids are the indices of a palette, which programs number anew in each file: if the colours are "
                "what is meant, name them in datasets.classes ({'#rrggbb': name}); if not, nothing is wrong",
                others,
            )
        )
    return findings[:MOST_UNKNOWN]


def undeclared_id_findings(counts: Counter[int], ignore: Any = None) -> list[Finding]:
    """No classes are declared and the values do not look like label ids.

    Args:
        ignore: ``datasets.ignore``; left out, 255 is ignored, which such values may mean as a class.
    """
    if len(counts) <= 2:
        return []
    everything = sum(counts.values())
    binary = (counts[0] + counts[255]) / everything if counts[0] and counts[255] else 0.0
    if binary > 0.9 and len(counts) > 8 and _like_edges(counts.keys() - {0, 255}):
        return [
            Finding(
                "error",
                "binary_mask",
                f"0 and 255 cover {100 * binary:.1f} % of the pixels and {len(counts) - 2} values between them the "
                "rest: a binary mask with blurred edges",
                "make the masks hard (value >= 128 is the object) and set "
                '"datasets.classes={0: background, 255: object}" "datasets.ignore=[]"',
                count=len(counts) - 2,
            )
        ]
    if len(counts) > MANY_IDS:
        message = f"{len(counts)} label ids found and none declared; each would become a class"
        advice = (
            "if these are no label maps (photographs, depth, blurred edges), fix the masks; else name datasets.classes"
        )
        return [Finding("warning", "many_ids", message, advice, count=len(counts))]
    others, share = sorted(counts.keys() - {255}), counts[255] / everything
    greys = others[-1] > MANY_IDS and len(others) * _FEW_OF < others[-1]
    if ignore is None and counts[255] and (greys or share > 0.5):
        why = "the others are greys that are far apart" if greys else "that is most of them"
        named = ", ".join(f"{label_id}: name" for label_id in [*others[:6], 255])
        return [
            Finding(
                "warning",
                "ignored_255",
                f"label id 255 is ignored where nothing is declared, and {100 * share:.1f} % of the pixels have it: "
                f"{why}, so it may be a class",
                f'if it is, "datasets.classes={{{named}}}" "datasets.ignore=[]"; if not, datasets.ignore=[255]',
            )
        ]
    return []


def _like_edges(between: Set[int]) -> bool:
    """Whether these are shades between 0 and 255, not label ids 1, 2, 3, ... beside 255 for what is not labelled."""
    highest = max(between)
    return 127 < highest < 255 and min(between) > 0 and (len(between) < highest or highest == 254)


def unknown_label_findings(splits: Sequence[SplitScan], space: LabelSpace) -> list[Finding]:
    """Label ids and colours in the masks that the label space does not name."""
    pixels: Counter[int] = Counter()
    where: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    everything = 0
    for split in splits:
        for fact in usable_masks(split, space.kind):
            everything += sum(count for _, count in fact.mask.counts)
            for label_id, count in _unknown(fact, space).items():
                pixels[label_id] += count
                where[label_id].append((count, fact.pair.mask or Path()))
    if not pixels:
        return []
    if space.kind == "colours":
        return [_stray_colours(pixels, where, everything, space)]
    if len(pixels) > MOST_UNKNOWN:
        return [_many_unknown(pixels, where)]
    return [_unknown_id(label_id, count, where[label_id]) for label_id, count in sorted(pixels.items())]


def presence_findings(splits: Sequence[SplitScan], space: LabelSpace, is_ade20k: bool) -> list[Finding]:
    """Masks in which nothing counts, classes that occur nowhere, and classes missing from a split."""
    findings = []
    for split in splits:
        whole = [fact for fact in usable_masks(split, space.kind) if not is_part(fact.pair)]
        empty = [fact for fact in whole if not class_counts(fact, space).any()]
        files = [fact.pair.mask for fact in empty if fact.pair.mask and not _unknown(fact, space)]
        if files:
            message = f"{plural(len(files), 'mask')} of {split.name} in which every pixel is ignored"
            advice = "nothing is learned or measured there; take the pairs out or check datasets.ignore"
            findings.append(file_finding("warning", "all_ignored_mask", message, advice, files))
    train = next((split for split in splits if split.name == "train"), None)
    if train is not None and usable_masks(train, space.kind) and not _present(train, space):
        message = "no pixel of train counts: every mask holds ignored label ids alone"
        advice = "check datasets.ignore and datasets.classes: there is nothing to learn"
        findings.append(Finding("error", "nothing_counts", message, advice))
    present = {split.name: _present(split, space) for split in splits if usable_masks(split, space.kind)}
    if not present:
        return findings
    anywhere = set().union(*present.values())
    never = [i for i in range(space.num_classes) if i not in anywhere]
    if never:
        message = f"{_names(never, space)}: in no mask of any split"
        advice = "it cannot be learned, and its figures will be n/a; check the label ids in datasets.classes"
        severity: Any = "note" if is_ade20k else "warning"
        findings.append(Finding(severity, "class_never_occurs", message, advice, count=len(never)))
    return findings + _absent_findings(present, anywhere, space)


def class_counts(fact: PairFacts, space: LabelSpace) -> np.ndarray:
    """Pixels per class index in one mask."""
    ids = np.array([label_id for label_id, _ in fact.mask.counts], dtype=np.int64)
    pixels = np.array([count for _, count in fact.mask.counts], dtype=np.int64)
    indices = space.classify(ids)
    counted = (indices >= 0) & (indices < space.num_classes)
    return np.bincount(indices[counted], pixels[counted], minlength=space.num_classes).astype(np.int64)


def _absent_findings(present: dict[Any, set[int]], anywhere: set[int], space: LabelSpace) -> list[Finding]:
    consequence = {
        "train": "it cannot be learned; put images with it into train",
        "val": "its figures will be n/a during training and it does not decide which checkpoint is best; "
        "put images with it into val",
        "test": "its figures will be n/a",
    }
    findings = []
    for name, indices in present.items():
        absent = sorted(anywhere - indices)
        if absent:
            message = f"{_names(absent, space)}: absent from {name}"
            findings.append(
                Finding("warning", f"class_absent_from_{name}", message, consequence[name], count=len(absent))
            )
    return findings


def _present(split: SplitScan, space: LabelSpace) -> set[int]:
    return {int(i) for fact in usable_masks(split, space.kind) for i in np.flatnonzero(class_counts(fact, space))}


def _names(indices: Sequence[int], space: LabelSpace, most: int = 6) -> str:
    named = ", ".join(repr(space.class_names[i]) for i in indices[:most])
    more = f" and {len(indices) - most} more" if len(indices) > most else ""
    return f"{'class' if len(indices) == 1 else 'classes'} {named}{more}"


def _unknown(fact: PairFacts, space: LabelSpace) -> dict[int, int]:
    ids = np.array([label_id for label_id, _ in fact.mask.counts], dtype=np.int64)
    outside = space.classify(ids) == -1
    return {label_id: count for (label_id, count), out in zip(fact.mask.counts, outside, strict=True) if out}


def _unknown_id(label_id: int, pixels: int, places: list[tuple[int, Path]]) -> Finding:
    places = sorted(places, key=lambda place: -place[0])
    message = f"label id {label_id} outside the label space: {plural(pixels, 'pixel')} in {plural(len(places), 'mask')}"
    message += f", most in {places[0][1].name} ({places[0][0]})"
    advice = f"add it to datasets.ignore ([{label_id}, ...])"
    if label_id >= 0:
        advice = f"name it in datasets.classes ({{{label_id}: name}}), or add it to datasets.ignore"
    return Finding("error", "unknown_label", message, advice, tuple(str(p) for _, p in places), pixels)


def _many_unknown(pixels: Counter[int], where: dict[int, list[tuple[int, Path]]]) -> Finding:
    listed = ", ".join(f"{label_id} ({count} pixels)" for label_id, count in pixels.most_common(MOST_UNKNOWN))
    files = sorted({str(path) for places in where.values() for _, path in places})
    message = f"{len(pixels)} label ids outside the label space in {plural(len(files), 'mask')}, most often {listed}"
    advice = "name them in datasets.classes, or add them to datasets.ignore"
    return Finding("error", "unknown_label", message, advice, tuple(files), sum(pixels.values()))


def _stray_colours(
    pixels: Counter[int], where: dict[int, list[tuple[int, Path]]], everything: int, space: LabelSpace
) -> Finding:
    nearest, distance = space.nearest(np.array(list(pixels), dtype=np.int64))
    near = dict(zip(pixels, zip(nearest.tolist(), distance.tolist(), strict=True), strict=True))
    listed = "; ".join(
        f"{show_label(c, 'colours')} ({plural(n, 'pixel')}, {near[c][1]} from {_colour_name(near[c][0], space)})"
        for c, n in pixels.most_common(3)
    )
    files = sorted({str(path) for places in where.values() for _, path in places})
    blurred = len(pixels) > MOST_UNKNOWN and pixels.most_common(1)[0][1] < EDGE_SHARE * everything
    share = 100 * sum(pixels.values()) / everything
    message = (
        f"{plural(len(pixels), 'colour')} outside the label space in {plural(len(files), 'mask')}, {share:.2g} % of "
        f"the pixels{', like blurred (anti-aliased) edges' if blurred else ''}; most often {listed}"
    )
    tolerance = f"datasets.colour_tolerance={int(distance.max())} takes each as the nearest declared colour"
    advice = f"name them in datasets.classes or datasets.ignore; or {tolerance}"
    if blurred:
        advice = f"export the masks without anti-aliasing; or {tolerance}, if you accept that at edges"
    code = "antialiased_colours" if blurred else "unknown_label"
    return Finding("error", code, message, advice, tuple(files), len(pixels))


def _colour_name(colour: int, space: LabelSpace) -> str:
    name = next((entry.name for entry in space.classes if colour in entry.label_ids), "ignored")
    return f"{show_label(colour, 'colours')} {name}"
