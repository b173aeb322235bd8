"""ADE20K's folder layout and the descriptors ``ADE20K:split=TRAIN`` of DINOv3's configs."""

from pathlib import Path

_FOLDER_OF_SPLIT = {"TRAIN": "training", "VAL": "validation"}
_TOP_FOLDER = "ADEChallengeData2016"


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


def split_folders(root: Path, descriptor: str) -> tuple[Path, Path]:
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
