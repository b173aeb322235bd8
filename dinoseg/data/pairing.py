"""Which mask is whose, by names: equal stems, or stems that differ by an affix that is constant over the folder.

Names that agree by chance (``frame_10`` and ``frame_20`` share ``frame_`` and ``0``) must not make pairs. So an affix
never splits a number, and two affixes in one place must say what they are (``img_1`` and ``mask_1``).
"""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

# Words by which a name says that it is of an image or of a mask.
_IMAGE_WORDS = {"im", "img", "imgs", "image", "images", "photo", "photos", "pic", "picture", "rgb", "raw", "input"}
_MASK_WORDS = {"mask", "masks", "label", "labels", "lbl", "seg", "segm", "segmentation", "gt", "truth", "ids", "target"}
_DRAWN_WORDS = {"ann", "anno", "annot", "annotation", "annotations", "groundtruth", "manual"}
_OF_MASKS = _MASK_WORDS | _DRAWN_WORDS
_KIND_WORDS = _IMAGE_WORDS | _OF_MASKS
# Where not all have one: images whose masks are looked for, and pairs below which names may agree by chance.
_MOST_TRIED = 16
_LEAST_PAIRS = 3
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


@dataclass(frozen=True)
class Pairing:
    """Masks by the key of their image.

    Attributes:
        mask_of: the images that found one.
        rule: what was taken off the names, in words; empty where the stems are equal.
    """

    mask_of: dict[str, Path] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True)
class _Affixes:
    """What stands before and after the part that tells the files of a folder apart."""

    prefix: str = ""
    suffix: str = ""

    def __str__(self) -> str:
        return " and ".join(repr(part) for part in (self.prefix, self.suffix) if part)


def pair_by_names(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing:
    """Pairs by key: the path below the folder without suffix.

    Equal keys pair. Where there are none, all images pair at once: by a prefix and a suffix that is the same for all of
    one side, or by one on each side if a word in them tells images from masks. Some may lack a mask only where a word
    in the names of the masks says what they are, and most images, three at least, have one.
    """
    same = {key: masks[key] for key in images if key in masks}
    if same or not images or not masks:
        return Pairing(same)
    whole = _by_affixes_of_masks(images, masks) or _by_affixes_of_images(images, masks) or _by_both(images, masks)
    return whole if whole.mask_of else _by_affixes_of_most(images, masks)


def _by_affixes_of_masks(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing | None:
    """``a`` with ``a_mask``: the name of an image stands whole within that of its mask."""
    first = next(iter(images))
    found = []
    for affixes in _affixes_around(first, masks):
        keys = [_join(key, affixes) for key in images]
        if all(key in masks for key in keys):
            found.append(Pairing({i: masks[m] for i, m in zip(images, keys, strict=True)}, f"{affixes} of the masks"))
    return found[0] if len(found) == 1 else None


def _by_affixes_of_images(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing | None:
    """``train_a`` with ``a``: the name of a mask stands whole within that of its image."""
    turned = _by_affixes_of_masks(masks, images)
    if turned is None or len(masks) != len(images):
        return None
    key_of = {path: key for key, path in images.items()}
    mask_of = {key_of[path]: masks[key] for key, path in turned.mask_of.items()}
    return Pairing(mask_of, turned.rule.replace("of the masks", "of the images"))


def _by_both(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing:
    """``a_photo`` with ``a_mask``: names less what all names of their kind share."""
    image_affixes, mask_affixes = _shared_affixes(images), _shared_affixes(masks)
    image_of, mask_of = _cores(images, image_affixes), _cores(masks, mask_affixes)
    one_to_one = set(image_of) == set(mask_of) and len(image_of) == len(images) == len(masks) > 1
    if not one_to_one:
        return Pairing()
    # What both share beside the core belongs to it: img_s1 and mask_s1 differ by img and mask.
    tail = _shared_start([image_affixes.prefix[::-1], mask_affixes.prefix[::-1]])
    prefixes = tuple(affixes.prefix[: len(affixes.prefix) - tail] for affixes in (image_affixes, mask_affixes))
    head = _shared_start([image_affixes.suffix, mask_affixes.suffix])
    suffixes = tuple(affixes.suffix[head:] for affixes in (image_affixes, mask_affixes))
    for first, second in (prefixes, suffixes):
        if first and second and not _tells_kind(first) and not _tells_kind(second):
            return Pairing()
    parts = (_Affixes(prefixes[0], suffixes[0]), _Affixes(prefixes[1], suffixes[1]))
    said = zip(parts, ("images", "masks"), strict=True)
    rule = " and ".join(f"{affixes} of the {kind}" for affixes, kind in said if affixes.prefix or affixes.suffix)
    return Pairing({key: masks[mask_of[core]] for core, key in image_of.items()}, rule)


def _by_affixes_of_most(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing:
    """``a`` with ``a_mask``, while ``b_mask`` is missing: a few that lack theirs are to be named, not all."""
    some = list(images)[:: -(-len(images) // _MOST_TRIED)]
    around = {affixes for key in some for affixes in _affixes_around(key, masks)}
    found = []
    for affixes in sorted(around, key=str):
        if not _tells_kind(affixes.prefix, _OF_MASKS) and not _tells_kind(affixes.suffix, _OF_MASKS):
            continue
        key_of = {key: _join(key, affixes) for key in images}
        mask_of = {key: masks[mask] for key, mask in key_of.items() if mask in masks}
        if len(mask_of) >= _LEAST_PAIRS and 2 * len(mask_of) > len(images):
            found.append(Pairing(mask_of, f"{affixes} of the masks"))
    return found[0] if len(found) == 1 else Pairing()


def _affixes_around(key: str, others: Iterable[str]) -> list[_Affixes]:
    """The affixes that make one of the other keys, in the same folder, of this one; none that would split a number
    or a word."""
    folder, stem = _split(key)
    found = set()
    for other in others:
        other_folder, other_stem = _split(other)
        if other_folder != folder:
            continue
        start = other_stem.find(stem)
        while start >= 0:
            end = start + len(stem)
            if not any(_splits_word(other_stem, place) or _splits_number(other_stem, place) for place in (start, end)):
                found.add(_Affixes(other_stem[:start], other_stem[end:]))
            start = other_stem.find(stem, start + 1)
    return sorted(found, key=str)


def _join(key: str, affixes: _Affixes) -> str:
    folder, stem = _split(key)
    name = affixes.prefix + stem + affixes.suffix
    return f"{folder}/{name}" if folder else name


def _shared_affixes(keys: Iterable[str]) -> _Affixes:
    """What all stems begin and end with, cut back so that it splits no number."""
    stems = [_split(key)[1] for key in keys]
    prefix = _shared_start(stems)
    while any(_splits_number(stem, prefix) for stem in stems):
        prefix -= 1
    suffix = _shared_start([stem[prefix:][::-1] for stem in stems])
    while any(_splits_number(stem, len(stem) - suffix) for stem in stems):
        suffix -= 1
    return _Affixes(stems[0][:prefix], stems[0][len(stems[0]) - suffix :])


def _cores(keys: Iterable[str], affixes: _Affixes) -> dict[str, str]:
    """Keys by what is left of them, folder included."""
    cores = {}
    for key in keys:
        folder, stem = _split(key)
        cores[f"{folder}/{stem[len(affixes.prefix) : len(stem) - len(affixes.suffix)]}"] = key
    return cores


def _splits_number(stem: str, place: int) -> bool:
    return 0 < place < len(stem) and stem[place - 1].isdigit() and stem[place].isdigit()


def _splits_word(stem: str, place: int) -> bool:
    pair = stem[place - 1 : place + 1]
    # A capital after a small letter begins a word: aMask.
    return 0 < place < len(stem) and pair.isalpha() and not (pair[0].islower() and pair[1].isupper())


def _tells_kind(affix: str, words: Set[str] = _KIND_WORDS) -> bool:
    return any(word.lower() in words for word in _WORD.findall(affix))


def _shared_start(words: list[str]) -> int:
    """How many leading characters all words have in common."""
    shortest, longest = min(words), max(words)
    return next((i for i, (a, b) in enumerate(zip(shortest, longest, strict=False)) if a != b), len(shortest))


def _split(key: str) -> tuple[str, str]:
    folder, _, stem = key.rpartition("/")
    return folder, stem
