"""Formats of others that are known by their folders or file names: Pascal VOC, Cityscapes, nnU-Net."""

import re
from pathlib import Path

from dinoseg.data.folder_words import read_folder_name
from dinoseg.data.found_files import MASK_SUFFIXES, is_volume, subfolders, suffix_of
from dinoseg.data.pairs import Split
from dinoseg.data.places import Layout, Place, Places, class_file, lists_in

_VOC = re.compile(r"VOC20\d\d")


def known_format(root: Path) -> Layout | None:
    """The layout of one of them; None for other folders.

    Raises:
        ValueError: a part of it is missing, or is not read.
    """
    return _pascal_voc(root) or _cityscapes(root) or _nnunet(root)


def _pascal_voc(root: Path) -> Layout | None:
    """Also what CVAT exports as segmentation masks, with a list ``default.txt`` and a table of colours."""
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    if not masks.is_dir():
        return None
    if not images.is_dir():
        raise ValueError(
            f"{root}: masks in SegmentationClass, but no folder JPEGImages; put the pictures there "
            "(CVAT: export with images)"
        )
    lists = lists_in(root / "ImageSets" / "Segmentation")
    table = class_file(root)
    title = "Pascal VOC (JPEGImages, SegmentationClass)"
    # Other tools write these folders, too: only the name of the original says what its labels mean.
    original = "voc" if _VOC.fullmatch(root.name) else ""
    return Layout(title, {}, (Places(Place(images), Place(masks)),), lists, table or original)


def _cityscapes(root: Path) -> Layout | None:
    if not (root / "leftImg8bit").is_dir():
        return None
    truth = next((root / name for name in ("gtFine", "gtCoarse") if (root / name).is_dir()), None)
    if truth is None:
        return None
    ending, classes = f"_{truth.name}_labelIds", "cityscapes"
    if any(truth.glob(f"*/*/*_{truth.name}_labelTrainIds.png")):
        ending, classes = f"_{truth.name}_labelTrainIds", "cityscapes_train_ids"
    splits = {}
    for images in subfolders(root / "leftImg8bit"):
        split, masks = read_folder_name(images.name).split, truth / images.name
        if split and masks.is_dir():
            splits[split] = (Places(Place(images, "_leftImg8bit"), Place(masks, ending, MASK_SUFFIXES)),)
    return Layout(f"Cityscapes (leftImg8bit, *{ending}.png)", splits, classes=classes)


def _nnunet(root: Path) -> Layout | None:
    """2-D pictures of nnU-Net: ``imagesTr/case_0000.png`` with ``labelsTr/case.png``."""
    if not ((root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()):
        return None
    splits: dict[Split, tuple[Places, ...]] = {}
    sides: tuple[tuple[Split, str], ...] = (("train", "Tr"), ("test", "Ts"))
    for split, side in sides:
        images, masks = root / f"images{side}", root / f"labels{side}"
        if images.is_dir() and masks.is_dir():
            _refuse_channels(images)
            splits[split] = (Places(Place(images, "_0000"), Place(masks, suffixes=MASK_SUFFIXES)),)
    description = root / "dataset.json"
    classes = str(description) if description.is_file() else ""
    return Layout("nnU-Net (imagesTr, labelsTr)", splits, classes=classes)


def _refuse_channels(images: Path) -> None:
    second = next(images.glob("*_0001.*"), None)
    if second is not None:
        raise ValueError(f"{second}: a second channel of nnU-Net's; one file an image is read: {_one_channel(second)}")


def _one_channel(file: Path) -> str:
    if not is_volume(file):
        return "give RGB pictures as *_0000.png, or images/ and masks/ folders with one picture each"
    ending = suffix_of(file)
    return (
        f'choose one of the channels, "datasets.images=imagesTr/*_0000{ending}" "datasets.masks=labelsTr/*{ending}"; '
        "splits are made then"
    )
