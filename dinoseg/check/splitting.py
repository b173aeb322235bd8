"""The splits of a data set as listed, and those that are made where it has none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dinoseg.check.facts import PairFacts
from dinoseg.check.file_findings import Finding, SplitScan
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import data_root, find_pairs, find_pool
from dinoseg.data.items import SelfReading
from dinoseg.data.missing_split import MissingSplitError, UnsplitError
from dinoseg.data.name_lists import is_list_file
from dinoseg.data.pairs import SPLITS, Pair, Split, SplitListing
from dinoseg.data.parts import in_parts
from dinoseg.data.regions import attach_regions
from dinoseg.data.selection import recorded_name
from dinoseg.data.splits import DEFAULT_SHARES, HELD_OUT, Member, assign_splits, group_of, parse_shares
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import plural

MADE_SPLITS = "made_splits"


@dataclass
class ListedData:
    """What was found before any file was read.

    Attributes:
        splits: those that the data has.
        to_cut: pairs that are yet to be given to splits, by ``shares``; None where there are none.
        findings: what is missing or wrong.
    """

    splits: dict[Split, SplitListing] = field(default_factory=dict)
    to_cut: SplitListing | None = None
    shares: Mapping[Split, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def listings(self) -> list[SplitListing]:
        """All of them, in the order in which they are read."""
        return [*self.splits.values(), *([self.to_cut] if self.to_cut is not None else [])]


def list_data(datasets: DatasetsConfig, splits: Sequence[Split]) -> ListedData:
    """Lists the splits, and decides which pairs have to be split; reads no image."""
    data = ListedData()
    try:
        asked = None if datasets.split is None or is_list_file(datasets.split) else parse_shares(datasets.split)
        missing = _list_own_splits(_without_split(datasets) if asked else datasets, splits, data)
        _decide_cut(datasets, asked, missing, data)
    except ValueError as error:
        data.findings.append(Finding("error", "bad_layout", str(error)))
        return data
    data.findings += [_missing_split(name, words) for name, words in missing.items() if name not in data.shares]
    return data


def _without_split(datasets: DatasetsConfig) -> DatasetsConfig:
    """The same without ``datasets.split``: what the data says of itself."""
    return datasets.model_copy(update={"split": None})


def _list_own_splits(datasets: DatasetsConfig, splits: Sequence[Split], data: ListedData) -> dict[Split, str]:
    """Puts those that are there into the data; returns the others, with what was looked for."""
    missing: dict[Split, str] = {}
    for name in splits:
        try:
            data.splits[name] = find_pairs(datasets, name)
        except UnsplitError as error:
            if name != "train":
                # Lists or globs name what is trained on: the others are not made of what may be in it.
                missing[name] = str(error)
                continue
            _refuse_lonely(datasets)
            data.to_cut = in_parts(attach_regions(find_pool(datasets), datasets, None), datasets)
            return {}
        except MissingSplitError as error:
            missing[name] = str(error)
        except ValueError as error:
            finding = Finding("error", "bad_layout", str(error))
            if finding not in data.findings:
                data.findings.append(finding)
    return missing


def _refuse_lonely(datasets: DatasetsConfig) -> None:
    """Where nothing says what to train on, nothing else may be named: it might be trained on."""
    for name in ("val", "test"):
        if getattr(datasets, name) != name:
            raise ValueError(
                f"datasets.{name}={getattr(datasets, name)} is given, but nothing says what to train on; give "
                "datasets.train, too"
            )


def _decide_cut(
    datasets: DatasetsConfig, asked: Mapping[Split, float] | None, missing: Mapping[Split, str], data: ListedData
) -> None:
    if data.to_cut is not None:
        data.shares = asked or parse_shares(DEFAULT_SHARES)
    elif asked:
        own = [name for name in asked if name != "train" and name in data.splits]
        if own or "train" not in data.splits:
            raise ValueError(
                f"datasets.split={datasets.split}: the data has splits of its own ({', '.join(data.splits)}); leave it "
                f"out, or split only train in two (datasets.split=80/20), or give all pairs by datasets.images and "
                "datasets.masks"
            )
        data.to_cut, data.shares = data.splits.pop("train"), asked
    elif "val" in missing and "train" in data.splits and datasets.val == "val":
        data.to_cut, data.shares = data.splits.pop("train"), {"train": 1 - HELD_OUT, "val": HELD_OUT}


def cut(
    data: ListedData, facts: Sequence[PairFacts], space: LabelSpace | None, datasets: DatasetsConfig
) -> tuple[list[SplitScan], Finding]:
    """Gives the pairs to splits, and says so.

    Args:
        facts: those of ``data.to_cut``, which say what a mask holds and which images are the same.
        space: what of that is a class; None for nothing.

    Raises:
        ValueError: a pattern of groups that does not fit, or fewer groups than splits.
    """
    assert data.to_cut is not None
    listing = data.to_cut
    if not listing.pairs:
        raise ValueError(_no_pairs(listing))
    keys, members = members_of(facts, space, datasets)
    refuse_too_few(members, listing.pairs, len(data.shares), "splits", datasets)
    split_of = assign_splits(members, data.shares, datasets.split_seed)
    rows_of: dict[Split, list[int]] = {split: [] for split in data.shares}
    for index, key in enumerate(keys):
        rows_of[split_of[key]].append(index)
    scans = [
        SplitScan(split, _part(listing, rows, split == "train"), tuple(facts[row] for row in rows))
        for split, rows in rows_of.items()
    ]
    return scans, _split_finding(scans, datasets, len(members))


def members_of(
    facts: Sequence[PairFacts], space: LabelSpace | None, datasets: DatasetsConfig
) -> tuple[list[str], list[Member]]:
    """What goes into one split, or one fold, as one: the group of each image, and all groups.

    Raises:
        ValueError: a pattern of groups that does not fit.
    """
    root = data_root(datasets)
    keys = _groups(facts, [group_of(recorded_name(fact.pair.image, root), datasets.group) for fact in facts])
    held: dict[str, frozenset[int]] = {}
    for key, fact in zip(keys, facts, strict=True):
        held[key] = held.get(key, frozenset()) | (_label_ids_of_classes(fact, space) if space else frozenset())
    images = Counter(keys)
    return keys, [Member(key, label_ids, images[key]) for key, label_ids in held.items()]


def _label_ids_of_classes(fact: PairFacts, space: LabelSpace) -> frozenset[int]:
    """Those in a mask; what is taken as the nearest declared colour is of that colour's class, and is its first."""
    if fact.mask.stores != space.kind:
        return frozenset()
    found = np.array([label_id for label_id, _ in fact.mask.counts], dtype=np.int64)
    indices = space.classify(found)
    declared = {label_id for entry in space.classes for label_id in entry.label_ids}
    return frozenset(
        label_id if label_id in declared else space.classes[index].label_ids[0]
        for label_id, index in zip(found.tolist(), indices.tolist(), strict=True)
        if 0 <= index < space.num_classes
    )


def refuse_too_few(
    members: Sequence[Member], pairs: Sequence[Pair], wanted: int, noun: str, datasets: DatasetsConfig
) -> None:
    """Raises ValueError where there are more splits, or folds, than there is to give to them."""
    if len(members) >= wanted:
        return
    what = "groups (datasets.group)" if datasets.group else "different images with masks"
    remedy = "or lists of your own" if noun == "splits" else "or fewer datasets.folds"
    raise ValueError(f"{len(members)} {what} for {wanted} {noun}; give more, {remedy}{_of_parts(pairs)}")


def _no_pairs(listing: SplitListing) -> str:
    """Images and masks are there, and not one pair."""
    images, masks = listing.images_without_mask, listing.masks_without_image
    named = "".join(f", {kind} like {files[0].name}" for kind, files in (("images", images), ("masks", masks)) if files)
    return (
        f"{plural(len(images), 'image')} and {plural(len(masks), 'mask')}, and no mask is named after an image{named}: "
        "give each mask the stem of its image, with the same prefix or suffix in all of them; or list the pairs "
        "(datasets.split=list.csv)"
    )


def _of_parts(pairs: Sequence[Pair]) -> str:
    """For a message: what keeps images in one split that are parts of one file."""
    part = next((pair.part for pair in pairs if isinstance(pair, SelfReading) and pair.part), "")
    return f"; {part}s of one file stay in one split: cut it into files of their own" if part else ""


def _groups(facts: Sequence[PairFacts], groups: Sequence[str]) -> list[str]:
    """The groups, joined where they share an image: the same picture may not be trained on and scored."""
    joined = {group: group for group in groups}

    def first(group: str) -> str:
        while joined[group] != group:
            group = joined[group]
        return group

    by_digest: dict[str, str] = {}
    for fact, group in zip(facts, groups, strict=True):
        if fact.image.digest:
            other = by_digest.setdefault(fact.image.digest, group)
            one, two = sorted((first(group), first(other)))
            joined[two] = one
    return [first(group) for group in groups]


def _part(listing: SplitListing, rows: Sequence[int], with_leftovers: bool) -> SplitListing:
    """The pairs of one split; what found no partner is reported once, with train."""
    pairs: tuple[Pair, ...] = tuple(listing.pairs[row] for row in rows)
    if with_leftovers:
        return replace(listing, pairs=pairs)
    return SplitListing(pairs, pairing_rule=listing.pairing_rule)


def _split_finding(scans: Sequence[SplitScan], datasets: DatasetsConfig, groups: int) -> Finding:
    counts = Counter({scan.name: len(scan.facts) for scan in scans})
    listed = ", ".join(f"{name} {counts[name]}" for name in SPLITS if name in counts)
    unit = f"{groups} groups" if datasets.group else "names"
    what = f"there is no val: train is split by hash of the {unit}"
    if "test" in counts:
        what = f"there are no splits: they are made by hash of the {unit}"
    if datasets.split is not None:
        what = f"split {datasets.split} by hash of the {unit}"
    advice = "the run keeps them in splits.json; datasets.split gives other shares"
    if not datasets.group:
        advice += r"; several images of one patient or site: datasets.group='(patient\d+)' keeps them together"
    return Finding("note", MADE_SPLITS, f"{what}: {listed} pairs", advice)


def _missing_split(name: Split, message: str) -> Finding:
    if name == "test":
        return Finding("note", "missing_split", f"there is no test split ({message})", "fine for training")
    advice = "training needs it"
    if name == "val":
        advice = "evaluation during training needs it: move about a fifth of the training pairs there"
    return Finding("error", "missing_split", message, advice)
