"""The folds of a cross-validation: train and val as one, dealt out; and what the training of a fold lacks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dinoseg.check.facts import PairFacts
from dinoseg.check.file_findings import Finding, SplitScan
from dinoseg.check.label_findings import class_counts, usable_masks
from dinoseg.check.splitting import MADE_SPLITS, members_of, refuse_too_few
from dinoseg.config import DatasetsConfig
from dinoseg.config.folds import ALL_FOLDS
from dinoseg.data.folders import data_root, find_recorded
from dinoseg.data.folds import assign_folds
from dinoseg.data.items import SelfReading
from dinoseg.data.pairs import Pair, Split, SplitListing, joined_listings
from dinoseg.data.selection import recorded_name
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import list_names

_FOLDED: tuple[Split, ...] = ("train", "val")
# Said of the one fold that a check shows, where all are meant: ``fold_findings`` speaks of each.
_OF_ONE_FOLD = ("class_absent_from_train", "class_absent_from_val")


@dataclass(frozen=True)
class Folding:
    """How images were dealt out.

    Attributes:
        folds: the images of each as a split.
        chosen: the fold that is held out; None for each in turn.
    """

    folds: tuple[SplitScan, ...]
    chosen: int | None


def fold_scans(
    scans: Sequence[SplitScan], space: LabelSpace | None, datasets: DatasetsConfig, cut: Mapping[Split, float]
) -> tuple[list[SplitScan], Folding, Finding]:
    """Train and val of one fold, dealt out of those that there are; of the first fold where all are asked for.

    Args:
        scans: of the splits as they lie, or as they were cut.
        space: by whose classes folds are made alike; None for none.
        cut: the shares by which splits were made; nothing where none were.

    Raises:
        ValueError: more folds than groups, or images that are not found again by their names.
    """
    assert datasets.folds is not None
    pooled, others = ([scan for scan in scans if (scan.name in _FOLDED) == folded] for folded in (True, False))
    # A list may name an image for both.
    facts = list({_place(fact.pair): fact for scan in pooled for fact in scan.facts}.values())
    pairs = [fact.pair for fact in facts]
    keys, members = members_of(facts, space, datasets)
    refuse_too_few(members, pairs, datasets.folds, "folds", datasets)
    fold_of = assign_folds(members, datasets.folds, datasets.split_seed)
    chosen = None if datasets.fold in (None, ALL_FOLDS) else int(datasets.fold)
    folds: list[list[PairFacts]] = [[] for _ in range(datasets.folds)]
    for fact, key in zip(facts, keys, strict=True):
        folds[fold_of[key]].append(fact)
    held = chosen or 0
    learned = [fact for number, fold in enumerate(folds) if number != held for fact in fold]
    # What found no partner, or does not fit.
    leftovers = replace(joined_listings([scan.listing for scan in pooled]), pairs=())
    without = SplitListing((), pairing_rule=leftovers.pairing_rule)
    found = _found_again({"train": learned, "val": folds[held]}, datasets, {"train": leftovers, "val": without})
    dealt = tuple(SplitScan("val", SplitListing(tuple(fact.pair for fact in fold)), tuple(fold)) for fold in folds)
    folding = Folding(dealt, chosen)
    return [*found, *others], folding, _finding(scans, folding, datasets, len(members), cut)


def fold_findings(findings: Iterable[Finding], folding: Folding | None, space: LabelSpace) -> list[Finding]:
    """What is said of the presence of classes, with every fold in the place of the one that was looked at.

    Args:
        findings: of ``presence_findings``.
    """
    findings = list(findings)
    if folding is None or folding.chosen is not None:
        return findings
    kept = [finding for finding in findings if finding.code not in _OF_ONE_FOLD]
    return [*kept, *_absent_from_training(folding, space)]


def _absent_from_training(folding: Folding, space: LabelSpace) -> list[Finding]:
    """Classes that one fold alone holds: its training does not see them."""
    held = np.array([_masks_with_class(scan, space) for scan in folding.folds])
    found = []
    for number in range(len(folding.folds)):
        absent = [index for index in np.flatnonzero(held[number]) if (held[:, index] > 0).sum() == 1]
        if absent:
            names = list_names([f"{space.class_names[index]!r} ({held[number, index]})" for index in absent], 6)
            message = f"fold {number} alone has masks with {names}: the training that holds it out learns nothing of it"
            advice = "its figures out of fold will be low: give more images of it, merge it with another class, or try "
            advice += "another datasets.split_seed where it is in more than one group"
            found.append(Finding("warning", "class_absent_from_training", message, advice, count=len(absent)))
    return found


def _masks_with_class(scan: SplitScan, space: LabelSpace) -> Int[np.ndarray, " classes"]:
    """How many masks hold each class index."""
    held = np.zeros(space.num_classes, dtype=np.int64)
    for fact in usable_masks(scan, space.kind):
        held += class_counts(fact, space) > 0
    return held


def _found_again(
    facts: Mapping[Split, Sequence[PairFacts]], datasets: DatasetsConfig, leftovers: Mapping[Split, SplitListing]
) -> list[SplitScan]:
    """Splits of these images, named and in the order in which a run that goes on finds them by its splits.json."""
    root = data_root(datasets)
    made = {
        split: list(dict.fromkeys(recorded_name(fact.pair.image, root) for fact in found))
        for split, found in facts.items()
    }
    return [
        _scan_of(find_recorded(datasets, made, split), split, found, datasets, leftovers[split])
        for split, found in facts.items()
    ]


def _scan_of(
    listing: SplitListing,
    split: Split,
    facts: Sequence[PairFacts],
    datasets: DatasetsConfig,
    leftovers: SplitListing,
) -> SplitScan:
    """What is known of the pairs of a split that was found again."""
    root, known = data_root(datasets), {_place(fact.pair): fact for fact in facts}
    if {_place(pair) for pair in listing.pairs} != known.keys():
        other = next((pair for pair in listing.pairs if _place(pair) not in known), facts[0].pair)
        raise ValueError(
            f"datasets.folds={datasets.folds}: {other.image} has another mask below {root} than train and val give it "
            "(by a list that names masks, too); with folds let lists name images alone"
        )
    found = tuple(replace(known[_place(pair)], pair=pair) for pair in listing.pairs)
    return SplitScan(split, replace(leftovers, pairs=listing.pairs), found)


def _place(pair: Pair) -> tuple[Path, Path | None, Path | None, str]:
    """What a pair is of, whatever it is called."""
    return pair.image, pair.mask, pair.region, pair.place if isinstance(pair, SelfReading) else ""


def _finding(
    scans: Sequence[SplitScan], folding: Folding, datasets: DatasetsConfig, groups: int, cut: Mapping[Split, float]
) -> Finding:
    counts = {scan.name: len(scan.facts) for scan in scans}
    sizes = ", ".join(str(len(fold.facts)) for fold in folding.folds)
    unit = f"{groups} groups" if datasets.group else "names"
    pooled = counts["train"] + counts.get("val", 0)
    what = f"train ({pooled} pairs) is"
    if not cut and "val" in counts:
        what = f"train ({counts['train']} pairs) and val ({counts['val']}) are pooled and"
    elif "test" in cut:
        what = f"test ({counts['test']} pairs) is cut off by hash of the {unit}, the other {pooled} are"
    held = "each is held out in turn; train and val here are those of fold 0"
    if folding.chosen is not None:
        held = f"fold {folding.chosen} is held out as val"
    message = f"{what} dealt into {len(folding.folds)} folds by hash of the {unit}: {sizes} pairs; {held}"
    advice = "the run keeps its fold in splits.json; datasets.split_seed deals anew"
    if not datasets.group:
        advice += r"; several images of one patient or site: datasets.group='(patient\d+)' keeps them together"
    return Finding("note", MADE_SPLITS, message, advice)
