"""Which image belongs to which mask, and to which split: by folders, globs, lists and the ADE20K descriptor."""

import glob
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from dinoseg.config import DatasetsConfig
from dinoseg.data.found_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    FoundFiles,
    contents,
    fixed_part,
    folder_files,
    glob_paths,
    named_files,
)
from dinoseg.data.layouts import find_layout, what_lies_there
from dinoseg.data.missing_split import MissingSplitError, UnsplitError
from dinoseg.data.name_lists import ListEntry, is_list_file, read_name_list
from dinoseg.data.pairs import SPLITS, Pair, Split, SplitListing, joined_listings, pair_files
from dinoseg.data.parts import in_parts
from dinoseg.data.places import Layout, Places, card_file, class_file
from dinoseg.data.regions import attach_regions, regions_by_split
from dinoseg.data.selection import NameList, select_matching, select_named
from dinoseg.data.suggestion import suggest_globs
from dinoseg.data.table_folders import find_tables

_FOLDER_OF_SPLIT = {"TRAIN": "training", "VAL": "validation"}
_TOP_FOLDER = "ADEChallengeData2016"
_GLOBS = ("images", "masks")
# Folds deal train and val anew: an image of either has a name that no other has, whichever holds it.
_POOLED_WITH: Mapping[Split, tuple[Split, ...]] = {"train": ("val",), "val": ("train",), "test": ()}


def find_pairs(datasets: DatasetsConfig, split: Split) -> SplitListing:
    """The images of a split with their masks, and their regions where ``datasets.regions`` gives some; large TIFFs in
    tiles, volumes in slices, and what does not lie where its image lies among the misfits, which callers refuse.

    Raises:
        MissingSplitError: (a ValueError) there is no such split; names what was looked for and what exists.
        UnsplitError: (a MissingSplitError) there are pairs, but of no split.
        ValueError: a missing ``images`` or ``masks`` folder, two images or two masks of one name, a bad glob or list,
            an image without a region, a volume that does not lie where its mask lies; a fold whose images are not
            recorded.
    """
    if datasets.folds is not None:
        raise ValueError(
            f"datasets.folds={datasets.folds}: the images of fold {datasets.fold} stand in the splits.json of its run, "
            "and there is none; copy the whole folder of the run again"
        )
    return in_parts(_with_regions(_list_split(datasets, split), datasets, split), datasets)


def _with_regions(listing: SplitListing, datasets: DatasetsConfig, split: Split) -> SplitListing:
    """The pairs with their regions: those of the split whose folder they lie in, wherever a list has put them."""
    listed = datasets.split is not None and is_list_file(datasets.split)
    if not listed or not regions_by_split(datasets):
        return attach_regions(listing, datasets, split)
    own: dict[Path, Pair] = {}
    for each in SPLITS:
        with suppress(MissingSplitError):
            found = _list_split(datasets.model_copy(update={"split": None}), each)
            own |= {pair.image: pair for pair in attach_regions(found, datasets, each).pairs}
    rest = attach_regions(
        replace(listing, pairs=tuple(pair for pair in listing.pairs if pair.image not in own)), datasets, split
    )
    by_image = own | {pair.image: pair for pair in rest.pairs}
    return replace(listing, pairs=tuple(replace(pair, region=by_image[pair.image].region) for pair in listing.pairs))


def _list_split(datasets: DatasetsConfig, split: Split) -> SplitListing:
    """Lists a split by the first of these that is given or there.

    A file of lists in ``datasets.split``; a list or a glob in ``datasets.<split>``; globs in ``datasets.images`` and
    ``datasets.masks``; an ADE20K descriptor; the folder ``root/<split>/{images,masks}``; what the names of the folders
    below the root say.
    """
    value: str = getattr(datasets, split)
    if datasets.split is not None and is_list_file(datasets.split):
        return _listed(datasets, datasets.split, split)
    if _chooses(datasets, value):
        if is_list_file(value):
            return _listed(datasets, value, split)
        return select_matching(value, find_pool(datasets), data_root(datasets))
    globs = _given_globs(datasets)
    if globs and _knows_splits(datasets):
        return _glob_listing(datasets, split)
    if globs:
        raise UnsplitError(f"split {split}: datasets.images and datasets.masks give all splits the same files")
    root = _existing_root(datasets)
    if is_descriptor(value):
        return _folder_listing(*descriptor_folders(root, value))
    if value and (root / value).is_dir() and _is_own_folder(root / value):
        return _folder_listing(root / value / "images", root / value / "masks")
    layout = find_layout(root)
    if not layout and (tables := find_tables(root)):
        return tables.listing(value, split)
    return _layout_listing(datasets, root, layout, split)


def find_pool(datasets: DatasetsConfig) -> SplitListing:
    """All pairs that lists and shares choose from: those of no split, or of every split that is there.

    The folder of a split whose value is a list or a glob is the one of the split's own name.

    Raises:
        ValueError: there are none, or what ``find_pairs`` raises.
    """
    if _given_globs(datasets):
        if not _knows_splits(datasets):
            return _glob_listing(datasets, None)
        return joined_listings([listing for split in SPLITS if (listing := _if_there(datasets, split)) is not None])
    root = _existing_root(datasets)
    values: dict[Split, str] = {split: getattr(datasets, split) for split in SPLITS}
    named = dict.fromkeys((split if _chooses(datasets, value) else value) or "." for split, value in values.items())
    own = [folder for name in named if _is_own_folder(folder := root / name)]
    if own and own != [root]:
        return joined_listings([_folder_listing(folder / "images", folder / "masks") for folder in own])
    layout = find_layout(root)
    every = layout.pool or tuple(chain.from_iterable(layout.splits.values()))
    if not every and (tables := find_tables(root)):
        return tables.pairs()
    if not every:
        raise ValueError(f"{root}: no images with masks found; there are {what_lies_there(root)}")
    return _places_listing(every)


def find_recorded(datasets: DatasetsConfig, made: Mapping[Split, Sequence[str]], split: Split) -> SplitListing:
    """The pairs of a split by the names that a run records, just as they are found again by its ``splits.json``.

    Args:
        made: paths of images below the root, of train and val.

    Raises:
        ValueError: an image that is not among the pairs below the root, or what ``find_pairs`` raises.
    """
    entries = {
        name: [ListEntry(path, None, f"{name}[{index}]") for index, path in enumerate(paths)]
        for name, paths in made.items()
    }
    beside = [entry for name in _POOLED_WITH[split] for entry in entries.get(name, ())]
    listed = NameList(Path("splits.json"), entries[split])
    selected = select_named(listed, find_pool(datasets), data_root(datasets), beside)
    recorded = datasets.model_copy(update={"split": "splits.json"})
    return in_parts(_with_regions(selected, recorded, split), datasets)


def layout_of(datasets: DatasetsConfig) -> Layout:
    """What the folders below the root say, where they are what splits are taken from; else a layout that is false."""
    plain = not _given_globs(datasets) and not any(is_descriptor(getattr(datasets, split)) for split in SPLITS)
    root = data_root(datasets)
    if not plain or not datasets.root or not root.is_dir():
        return Layout("")
    layout = find_layout(root)
    return layout if layout or not find_tables(root) else Layout("tables", classes=class_file(root) or card_file(root))


def data_root(datasets: DatasetsConfig) -> Path:
    """``datasets.root`` as a path; the current folder where it is left out."""
    return Path(datasets.root or ".").expanduser()


def _chooses(datasets: DatasetsConfig, value: str) -> bool:
    """Whether the value of a split is a list or a glob, which chooses from the pool; a folder may bear any name."""
    if datasets.root and value and (data_root(datasets) / value).is_dir():
        return False
    return is_list_file(value) or (glob.has_magic(value) and not is_descriptor(value))


def _if_there(datasets: DatasetsConfig, split: Split) -> SplitListing | None:
    try:
        return _glob_listing(datasets, split)
    except MissingSplitError:
        return None


def _listed(datasets: DatasetsConfig, value: str, split: Split) -> SplitListing:
    root = data_root(datasets)
    file = next((path for path in (root / value, Path(value).expanduser()) if path.exists()), None)
    if file is None:
        raise MissingSplitError(f"split {split}: no list {value}, neither below {root} nor in the current folder")
    entries = read_name_list(file, split)
    if not entries:
        raise MissingSplitError(f"split {split}: {file} names no image")
    pool = find_pool(datasets) if any(entry.mask is None for entry in entries) else SplitListing(())
    # A file for this split alone says nothing of others.
    pooled = _POOLED_WITH[split] if value == datasets.split else ()
    beside = [entry for name in pooled for entry in read_name_list(file, name)]
    return select_named(NameList(file, entries), pool, root, beside)


def _layout_listing(datasets: DatasetsConfig, root: Path, layout: Layout, split: Split) -> SplitListing:
    value: str = getattr(datasets, split)
    # A name of the user's own is a folder, not another word for the split.
    if value == split:
        if split in layout.lists:
            return _beside_listing(layout, root, split)
        if split in layout.splits:
            return _places_listing(layout.splits[split])
        if split in layout.incomplete:
            raise _without_masks(
                split, f"{layout.incomplete[split]} has no masks, or no images, beside it; add them, or move it away"
            )
        if layout.pool and not layout.lists:
            raise UnsplitError(f"split {split}: {layout.title} of {root} knows no splits")
    if layout.base is not None:
        # What all of the data is wrapped in, where the other splits were found.
        root = layout.base
    folder = root / value
    suggested = "" if layout else suggest_globs(root)
    instead = f"globs, for instance {suggested}" if suggested else "globs in datasets.images and datasets.masks"
    lacking = [folder / name for name in ("images", "masks") if not (folder / name).is_dir()]
    if folder.is_dir() and lacking:
        words = f"no folder {lacking[0]}; {folder} holds {contents(folder)}"
        raise _without_masks(split, f"{words}; expected {folder}/images and {folder}/masks, or {instead}")
    raise MissingSplitError(
        f"split {split}: no folder {folder}; {root} holds {contents(root)}; "
        f"name the folder or a list with datasets.{split}=..., or give {instead}"
    )


def _beside_listing(layout: Layout, root: Path, split: Split) -> SplitListing:
    """By a list that lies with the data."""
    file = layout.lists[split]
    try:
        return select_named(NameList(file, read_name_list(file, split)), _places_listing(layout.pool), root)
    except ValueError as error:
        raise _without_masks(split, str(error)) from None


def _without_masks(split: Split, words: str) -> ValueError:
    """What a split without masks is: images to test on are often given away without, others are not."""
    return MissingSplitError(f"split test: {words}") if split == "test" else ValueError(f"split {split}: {words}")


def _places_listing(every: Sequence[Places]) -> SplitListing:
    return joined_listings(
        [pair_files(each.images.files("images"), each.masks.files("masks"), each.folder) for each in every]
    )


def _is_own_folder(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _folder_listing(images: Path, masks: Path) -> SplitListing:
    return pair_files(folder_files(images, IMAGE_SUFFIXES, "images"), folder_files(masks, MASK_SUFFIXES, "masks"))


def _existing_root(datasets: DatasetsConfig) -> Path:
    if not datasets.root:
        raise ValueError("datasets.root is empty; give the folder that holds the data, datasets.root=path/to/data")
    root = Path(datasets.root).expanduser()
    if not root.is_dir():
        parent = next((p for p in root.absolute().parents if p.is_dir()), Path("/"))
        raise ValueError(
            f"datasets.root={datasets.root}: no such folder; {parent} holds {contents(parent)}; "
            "give the folder as datasets.root=PATH"
        )
    return root


def _given_globs(datasets: DatasetsConfig) -> bool:
    given = [key for key in ("images", "masks") if getattr(datasets, key) is not None]
    if len(given) == 1:
        raise ValueError(f"datasets.{given[0]} is given alone; give globs for both, datasets.images and datasets.masks")
    return bool(given)


def _knows_splits(datasets: DatasetsConfig) -> bool:
    """Whether the globs give each split files of its own.

    Raises:
        ValueError: one does, the other does not.
    """
    known = {key: isinstance(value := getattr(datasets, key), Mapping) or "{split}" in str(value) for key in _GLOBS}
    if known["images"] != known["masks"]:
        key = "images" if not known["images"] else "masks"
        raise ValueError(
            f"datasets.{key}={getattr(datasets, key)!r} gives every split the same files; put {{split}} in place of "
            f"the split's folder, or give {{train: glob, val: glob}}"
        )
    return known["images"]


def _glob_listing(datasets: DatasetsConfig, split: Split | None) -> SplitListing:
    """The pairs that the globs give a split; those of globs that know no splits for None."""
    images = _glob_files(datasets, "images", split, IMAGE_SUFFIXES)
    masks = _glob_files(datasets, "masks", split, MASK_SUFFIXES)
    mask_paths = {*masks.files.values(), *masks.passed_over}
    alone = {key: path for key, path in images.files.items() if path not in mask_paths}
    passed_over = tuple(path for path in images.passed_over if path not in mask_paths)
    return pair_files(FoundFiles(alone, passed_over), masks)


def _glob_files(datasets: DatasetsConfig, key: str, split: Split | None, suffixes: tuple[str, ...]) -> FoundFiles:
    value = getattr(datasets, key)
    if split is None:
        pattern, said = str(value), ""
    elif isinstance(value, Mapping):
        said = f"split {split}: "
        if value.get(split) is None:
            raise MissingSplitError(f"{said}datasets.{key} has globs for {', '.join(map(str, value)) or 'nothing'}")
        pattern = str(value[split])
    else:
        pattern, said = str(value).replace("{split}", getattr(datasets, split)), f"split {split}: "
    root = data_root(datasets)
    found = glob_paths(root, pattern)
    base = root / fixed_part(pattern)
    if not found and not base.is_dir():
        raise MissingSplitError(f"{said}datasets.{key}={pattern!r} matches nothing below {root}")
    return named_files(found, suffixes, base, key)


def is_descriptor(text: str) -> bool:
    """Whether ``datasets.train`` and the like hold an ADE20K descriptor rather than a folder name."""
    return text.strip().upper().startswith("ADE20K")


def parse_descriptor(text: str) -> tuple[str, str | None]:
    """``ADE20K:split=TRAIN[:root=PATH]`` as (layout folder ``training`` or ``validation``, root or None).

    Raises:
        ValueError: an unknown split or option.
    """
    head, *options = text.strip().split(":")
    values = dict(option.partition("=")[::2] for option in options)
    split = values.pop("split", "").upper()
    root = values.pop("root", None)
    if head.upper() != "ADE20K" or values or split not in _FOLDER_OF_SPLIT:
        raise ValueError(f"{text!r} is no ADE20K descriptor; write ADE20K:split=TRAIN or ADE20K:split=VAL")
    return _FOLDER_OF_SPLIT[split], root


def descriptor_folders(root: Path, descriptor: str) -> tuple[Path, Path]:
    """The folders of images and annotations of a descriptor, under ``root`` or ``root/ADEChallengeData2016``.

    Raises:
        ValueError: a bad descriptor, or no such layout, with the folders looked for.
    """
    split, own_root = parse_descriptor(descriptor)
    base = Path(own_root) if own_root else root
    candidates = (base, base / _TOP_FOLDER)
    for candidate in candidates:
        images, masks = candidate / "images" / split, candidate / "annotations" / split
        if images.is_dir() and masks.is_dir():
            return images, masks
    looked = " and ".join(str(c / "{images,annotations}" / split) for c in candidates)
    raise ValueError(
        f"{descriptor}: neither layout exists: looked for {looked}; set datasets.root to the ADE20K folder"
    )
