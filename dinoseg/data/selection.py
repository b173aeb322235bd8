"""Pairs out of a pool, by the names in a list or by a glob."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.data.found_files import stem_of, suffix_of, without_suffix
from dinoseg.data.name_lists import ListEntry
from dinoseg.data.pairs import Pair, SplitListing
from dinoseg.system.messages import list_names


@dataclass(frozen=True)
class NameList:
    """Entries of a list, and the file they stand in."""

    file: Path
    entries: Sequence[ListEntry]


def recorded_name(image: Path, root: Path) -> str:
    """What a list calls an image, so that it is found again below a root that was moved: the path below it."""
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)


def select_named(listed: NameList, pool: SplitListing, root: Path, beside: Sequence[ListEntry] = ()) -> SplitListing:
    """The pairs that a list names, sorted by name.

    An entry is a path, of the root, of the list's folder or whole; or what the path ends with, with or without suffix.

    Args:
        beside: entries of another split of the file, from whose images these are told apart by their names, too.

    Raises:
        ValueError: an entry that is no image of the pool, has no mask, or could be several images; names its line.
    """
    index = _index(pool.pairs, root)
    found, missing = [], []
    for entry in listed.entries:
        if entry.mask is not None:
            found.append(_pair_of_paths(entry, listed.file, root))
            continue
        pairs = _matches(entry.image, index, listed.file, root)
        if len(pairs) > 1:
            names = list_names([str(pair.image) for pair in pairs], 3)
            raise ValueError(f"{listed.file}, {entry.place}: {entry.image!r} could be {names}; write more of its path")
        if pairs:
            found.append(pairs[0])
        else:
            missing.append(entry)
    if missing:
        raise ValueError(_not_there(missing, listed, pool, root))
    others = [pair for entry in beside for pair in _matches(entry.image, index, listed.file, root)]
    return SplitListing(_uniquely_named(found, root, others), pairing_rule=pool.pairing_rule)


def select_matching(pattern: str, pool: SplitListing, root: Path) -> SplitListing:
    """The pairs whose image's path below the root, or name, a glob matches.

    Raises:
        ValueError: it matches none.
    """
    found = [
        pair
        for pair in pool.pairs
        if fnmatch.fnmatch(recorded_name(pair.image, root), pattern) or fnmatch.fnmatch(pair.name, pattern)
    ]
    if not found:
        examples = list_names([recorded_name(pair.image, root) for pair in pool.pairs], 3)
        raise ValueError(f"{pattern!r} matches no image below {root}; there are {examples or 'none'}")
    return SplitListing(_uniquely_named(found, root), pairing_rule=pool.pairing_rule)


def _index(pairs: Iterable[Pair], root: Path) -> dict[str, list[Pair]]:
    """Pairs by their recorded name and by every end of their path, with and without suffix."""
    index: dict[str, list[Pair]] = {}
    for pair in pairs:
        parts, suffix = pair.image.parts, len(suffix_of(pair.image))
        # Deeper than a handful of folders nobody names an image; a long path need not cost a long time.
        ends = {"/".join(parts[start:]) for start in range(max(1, len(parts) - 6), len(parts))}
        ends.add(recorded_name(pair.image, root))
        for key in ends | {end[: len(end) - suffix] for end in ends}:
            index.setdefault(key, []).append(pair)
        if pair.name not in index:
            index[pair.name] = [pair]
    return index


def _matches(name: str, index: dict[str, list[Pair]], file: Path, root: Path) -> list[Pair]:
    clean = name.replace("\\", "/").removeprefix("./")
    found = index.get(clean, [])
    if len(found) > 1:
        # Exactly that path below the root, or below the list's folder, is meant before others that end like it.
        exact = [pair for pair in found if _without_suffix(pair.image) in _whole(clean, file, root)]
        found = exact or found
    if not found and (Path(clean).is_absolute() or ".." in clean):
        wanted = _whole(clean, file, root)
        alike = (pair for key in (Path(clean).name, stem_of(Path(clean))) for pair in index.get(key, []))
        found = [pair for pair in alike if _without_suffix(pair.image) in wanted]
    return list({pair.image: pair for pair in found}.values())


def _whole(name: str, file: Path, root: Path) -> set[Path]:
    return {_without_suffix((base / name).resolve()) for base in (root, file.parent)}


def _without_suffix(path: Path) -> Path:
    return without_suffix(path.resolve())


def _pair_of_paths(entry: ListEntry, file: Path, root: Path) -> Pair:
    assert entry.mask is not None
    image, mask = (_existing(name, entry.place, file, root) for name in (entry.image, entry.mask))
    return Pair(stem_of(image), image, mask)


def _existing(name: str, place: str, file: Path, root: Path) -> Path:
    for base in (root, file.parent, Path()):
        if (base / name).is_file():
            return base / name
    places = " or ".join(dict.fromkeys((str(root), str(file.parent))))
    raise ValueError(
        f"{file}, {place}: no file {name!r} below {places}; where an entry names image and mask, both are whole paths "
        "with their suffix"
    )


def _uniquely_named(pairs: Iterable[Pair], root: Path, others: Iterable[Pair] = ()) -> tuple[Pair, ...]:
    """Sorted by name; by the whole path below the root where two names, of others among them, would be the same."""
    once = list({pair.image: pair for pair in pairs}.values())
    names = {pair.image: pair.name for pair in (*others, *once)}
    if len(set(names.values())) < len(names):
        once = [replace(pair, name=str(without_suffix(Path(recorded_name(pair.image, root))))) for pair in once]
    return tuple(sorted(once, key=lambda pair: pair.name))


def _not_there(missing: Sequence[ListEntry], listed: NameList, pool: SplitListing, root: Path) -> str:
    entry = missing[0]
    more = f" (and {len(missing) - 1} others of {len(listed.entries)})" if len(missing) > 1 else ""
    stem = stem_of(Path(entry.image))
    if any(stem_of(path) == stem for path in pool.images_without_mask):
        return f"{listed.file}, {entry.place}: image {entry.image!r} has no mask{more}; add it, or take it off the list"
    names = [recorded_name(pair.image, root) for pair in pool.pairs]
    near = difflib.get_close_matches(entry.image, names[:5000], n=1)
    example = near or names[:1]
    hint = f"an image there is {example[0]!r}" if example else f"no image with a mask was found below {root}"
    return f"{listed.file}, {entry.place}: no image {entry.image!r} below {root}{more}; {hint}"
