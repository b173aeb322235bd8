"""What is wrong with the files of a data set: unpaired, unreadable, mismatched, doubled, rotated."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from dinoseg.check.facts import PairFacts
from dinoseg.data.found_files import IMAGE_SUFFIXES, MASK_SUFFIXES, suffix_of
from dinoseg.data.items import is_part
from dinoseg.data.pairs import Pair, Split, SplitListing
from dinoseg.system.messages import list_names, plural, printable

Severity = Literal["error", "warning", "note"]

# What lies beside images without being any.
_SIDE_FILES = {".txt", ".md", ".csv", ".tsv", ".db", ".ini", ".html", ".log", ".py", ".sh"}


@dataclass(frozen=True)
class Finding:
    """One thing a check found.

    Attributes:
        severity: ``error``: training would be wrong; ``warning``: it may be; ``note``: good to know.
        code: a stable name for programs.
        message: what was found, in one sentence.
        advice: what to do.
        files: the files concerned, all of them; ``count`` how many cases there are.
    """

    severity: Severity
    code: str
    message: str
    advice: str = ""
    files: tuple[str, ...] = ()
    count: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"files": list(self.files)}


@dataclass(frozen=True)
class SplitScan:
    """A split as listed and as read."""

    name: Split
    listing: SplitListing
    facts: tuple[PairFacts, ...]


def file_finding(severity: Severity, code: str, message: str, advice: str, files: Iterable[Path]) -> Finding:
    """A finding about files; one case for each."""
    names = tuple(printable(path) for path in files)
    return Finding(severity, code, message, advice, names, len(names))


def file_findings(split: SplitScan) -> list[Finding]:
    """Everything that can be said of a split without knowing what its labels mean."""
    return [
        *_empty(split),
        *_unpaired(split),
        *_passed_over(split),
        *_not_text(split),
        *_paired_by_affix(split),
        *_unreadable(split),
        *_jpeg_masks(split),
        *_size_mismatches(split),
        *_rotated(split),
        *_regions(split),
    ]


def same_image_findings(splits: Sequence[SplitScan]) -> list[Finding]:
    """The same image, byte for byte, in two splits, or twice in one."""
    by_digest: dict[str, dict[Split, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for split in splits:
        for fact in split.facts:
            if fact.image.digest:
                by_digest[fact.image.digest][split.name].append(fact.pair.image)
    findings = []
    for first, second in combinations([split.name for split in splits], 2):
        shared = [places for places in by_digest.values() if first in places and second in places]
        if shared:
            paths = dict.fromkeys(str(path) for places in shared for path in (*places[first], *places[second]))
            meaning = "figures on images seen in training mean nothing"
            if first != "train":
                meaning = f"{second} figures are no independent check of a checkpoint chosen on {first}"
            findings.append(
                Finding(
                    "error" if first == "train" else "warning",
                    "same_image_in_two_splits",
                    f"{plural(len(shared), 'image')} of {first} also in {second} (same bytes)",
                    f"remove them from {first} or from {second}: {meaning}",
                    tuple(paths),
                    len(shared),
                )
            )
    for split in splits:
        twice = [places[split.name] for places in by_digest.values() if len(places.get(split.name, ())) > 1]
        if twice:
            message = f"{plural(len(twice), 'image')} of {split.name} there more than once (same bytes)"
            advice = "remove the copies, or they count more than the others"
            files = tuple(str(path) for copies in twice for path in copies)
            findings.append(Finding("warning", "same_image_twice", message, advice, files, len(twice)))
    return findings


def _empty(split: SplitScan) -> list[Finding]:
    if split.listing.pairs or split.listing.misfits:
        return []
    found = f"{len(split.listing.images_without_mask)} images, {len(split.listing.masks_without_image)} masks"
    return [
        Finding(
            "warning" if split.name == "test" else "error",
            "empty_split",
            f"split {split.name} has no pair of image and mask ({found})",
            "put images and masks of the same stem there" + _naming_hint(split.listing),
        )
    ]


def _passed_over(split: SplitScan) -> list[Finding]:
    """Files of a kind that is not read, which therefore are no images or masks to the rest of the check."""
    listing, findings = split.listing, []
    for noun, files, suffixes, alone in (
        ("image", listing.passed_over_images, IMAGE_SUFFIXES, listing.masks_without_image),
        ("mask", listing.passed_over_masks, MASK_SUFFIXES, listing.images_without_mask),
    ):
        if not files:
            continue
        kinds = Counter(suffix_of(path) for path in files)
        counted = list_names((plural(n, f"{kind or 'suffixless'} file") for kind, n in kinds.most_common()), 4)
        read = ", ".join(suffix.removeprefix(".") for suffix in suffixes)
        message = f"{counted} among the {noun}s of {split.name}, left out: dinoseg reads {read} as {noun}s"
        form = "PNG label maps (a label id in each pixel)" if noun == "mask" else "PNG"
        advice = f"if they are {noun}s, convert them to {form}"
        severity: Severity = "warning" if set(kinds) - _SIDE_FILES else "note"
        if not listing.pairs or (noun == "mask" and alone):
            severity = "error" if split.name != "test" else "warning"
        findings.append(file_finding(severity, "unread_format", message, advice, files))
    return findings


def _not_text(split: SplitScan) -> list[Finding]:
    """Names that cannot stand in a line of text, as they would in metrics and tables."""
    listing = split.listing
    paths = [path for pair in listing.pairs for path in (pair.image, pair.mask) if path is not None]
    paths += [*listing.images_without_mask, *listing.masks_without_image]
    broken = [path for path in dict.fromkeys(paths) if printable(path) != str(path)]
    if not broken:
        return []
    message = f"{plural(len(broken), 'file')} of {split.name} with a line break, a control character or bytes that are"
    message += " no UTF-8 in the name"
    advice = "rename them: metrics, tables and reports name every image"
    return [file_finding("error", "bad_file_name", message, advice, broken)]


def _naming_hint(listing: SplitListing) -> str:
    if not listing.images_without_mask or not listing.masks_without_image:
        return ""
    image, mask = listing.images_without_mask[0].name, listing.masks_without_image[0].name
    return f": images are named like {image}, masks like {mask}"


def _named_as(listing: SplitListing) -> str:
    example = next((pair for pair in listing.pairs if pair.mask), None)
    if not listing.pairing_rule or example is None or example.mask is None:
        return "same stem"
    return f"named as {example.mask.name} is after {example.image.name}"


def _unpaired(split: SplitScan) -> list[Finding]:
    findings = []
    lonely_images, lonely_masks = split.listing.images_without_mask, split.listing.masks_without_image
    if lonely_images:
        findings.append(
            file_finding(
                "error" if split.name != "test" else "warning",
                "image_without_mask",
                f"{plural(len(lonely_images), 'image')} of {split.name} without a mask",
                f"add the masks ({_named_as(split.listing)}), or take the images out" + _naming_hint(split.listing),
                lonely_images,
            )
        )
    if lonely_masks:
        message = f"{plural(len(lonely_masks), 'mask')} of {split.name} without an image"
        advice = "add the images (same stem), or take the masks out; they are left out"
        findings.append(file_finding("warning", "mask_without_image", message, advice, lonely_masks))
    return findings


def _paired_by_affix(split: SplitScan) -> list[Finding]:
    listing = split.listing
    if not listing.pairing_rule:
        return []
    # Slices and tiles of one file are one pair of files.
    files = dict.fromkeys((pair.image.name, pair.mask.name) for pair in listing.pairs if pair.mask)
    examples = [f"{image} with {mask}" for image, mask in files]
    message = (
        f"{plural(len(files), 'image')} of {split.name} paired with masks by names without "
        f"{listing.pairing_rule}: {list_names(examples, 3)}"
    )
    advice = "if these do not belong together, give each mask the stem of its image"
    return [Finding("note", "paired_by_affix", message, advice, count=len(files))]


def _regions(split: SplitScan) -> list[Finding]:
    facts = [f for f in split.facts if f.pair.region and not f.mask.error and not is_part(f.pair)]
    pixels = sum(fact.mask.size[0] * fact.mask.size[1] for fact in facts)
    if not pixels:
        return []
    outside = sum(fact.mask.outside for fact in facts)
    example = facts[0].pair
    message = (
        f"{plural(len(facts), 'image')} of {split.name} with a region, {100 * outside / pixels:.1f} % of the pixels "
        f"outside: {example.image.name} with {example.region.name if example.region else ''}"
    )
    return [Finding("note", "regions", message, "outside counts nowhere", count=len(facts))]


def _unreadable(split: SplitScan) -> list[Finding]:
    reasons = dict(_at_fault(fact.pair, fact.pair.image, fact.image.error) for fact in split.facts if fact.image.error)
    reasons |= dict(
        _at_fault(fact.pair, fact.pair.mask, fact.mask.error)
        for fact in split.facts
        if fact.mask.error and fact.pair.mask
    )
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for path, reason in reasons.items():
        by_reason[reason].append(path)
    return [
        file_finding(
            "error",
            "unreadable",
            f"{plural(len(files), 'file')} of {split.name} cannot be read: {reason}",
            _what_to_do(reason),
            files,
        )
        for reason, files in by_reason.items()
    ]


def _at_fault(pair: Pair, path: Path, reason: str) -> tuple[Path, str]:
    """The file that a reason is of, which begins with its path where that is the region of image and mask."""
    of_region = reason.removeprefix(f"{pair.region}: ")
    return (path, reason) if pair.region is None or of_region == reason else (pair.region, of_region)


def _what_to_do(reason: str) -> str:
    if "datasets.bands=" in reason and "dinoseg does not read" not in reason:
        return ""  # the reason says it
    verb = "convert" if "dinoseg does not read" in reason else "replace"
    return f"{verb} the file, or remove it together with its partner"


def _jpeg_masks(split: SplitScan) -> list[Finding]:
    files = [fact.pair.mask for fact in split.facts if fact.pair.mask and is_jpeg(fact)]
    if not files:
        return []
    message = (
        f"{plural(len(files), 'mask')} of {split.name} stored as JPEG, whose compression alters label ids at edges"
    )
    advice = "export the masks again as PNG from the annotation tool; converting the JPEG keeps the damage"
    return [file_finding("error", "jpeg_mask", message, advice, files)]


def is_jpeg(fact: PairFacts) -> bool:
    """Whether the mask is a JPEG file."""
    return fact.pair.mask is not None and fact.pair.mask.suffix.lower() in (".jpg", ".jpeg")


def _size_mismatches(split: SplitScan) -> list[Finding]:
    wrong = [fact for fact in split.facts if not (fact.image.error or fact.mask.error) and not _sizes_agree(fact)]
    if not wrong:
        return []
    first = wrong[0]
    example = f"{first.pair.name}: image {_size(first.image.size)}, mask {_size(first.mask.size)}"
    return [
        file_finding(
            "error",
            "size_mismatch",
            f"{plural(len(wrong), 'mask')} of {split.name} not of the image's size ({example}, width x height)",
            "resize one of the two, a mask by nearest neighbour only",
            [fact.pair.mask for fact in wrong if fact.pair.mask],
        )
    ]


def _sizes_agree(fact: PairFacts) -> bool:
    return fact.mask.size == fact.image.size or _turned_with_image(fact)


def _turned_with_image(fact: PairFacts) -> bool:
    return fact.mask.size == fact.image.stored_size != fact.image.size


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _rotated(split: SplitScan) -> list[Finding]:
    rotated = [fact for fact in split.facts if fact.image.orientation != 1 and not fact.image.error]
    unclear = [
        fact
        for fact in rotated
        if fact.mask.orientation == 1 and not fact.mask.error and fact.image.size == fact.image.stored_size
    ]
    clear = [fact for fact in rotated if fact not in unclear]
    findings = []
    if clear:
        turned = sum(_turned_with_image(fact) for fact in clear)
        message = f"{plural(len(clear), 'image')} of {split.name} with an EXIF rotation, which is applied"
        advice = f"nothing to do: {plural(turned, 'mask')} of the size before rotation turned alike"
        findings.append(file_finding("note", "exif_rotation", message, advice, [fact.pair.image for fact in clear]))
    if unclear:
        message = (
            f"{plural(len(unclear), 'image')} of {split.name} with an EXIF rotation that keeps the size, while "
            "the mask has no tag: the mask is taken to be upright"
        )
        advice = "look at one pair; if the mask is turned, save the image without the tag or turn the mask"
        findings.append(file_finding("warning", "exif_unclear", message, advice, [fact.pair.image for fact in unclear]))
    return findings
