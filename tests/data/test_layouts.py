"""Data as it lies: folders whose names say what they hold, and three formats of others."""

from pathlib import Path

import pytest
from helpers.small_data_set import touch

from dinoseg.config import DatasetsConfig
from dinoseg.data.folder_words import read_folder_name
from dinoseg.data.folders import MissingSplitError, UnsplitError, find_pairs, find_pool, layout_of
from dinoseg.data.pairs import SPLITS


def splits_of(root: Path, **settings: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Name, image and mask of every pair of every split that is there."""
    found = {}
    for split in SPLITS:
        try:
            listing = find_pairs(DatasetsConfig(root=str(root), **settings), split)
        except MissingSplitError as error:
            assert not isinstance(error, UnsplitError)
            continue
        found[split] = {
            pair.name: (pair.image.relative_to(root).as_posix(), pair.mask.relative_to(root).as_posix())  # type: ignore[union-attr]
            for pair in listing.pairs
        }
    return found


TWO_FOLDERS = {
    "another word for the masks": ("train/images", "train/labels", "valid/images", "valid/labels"),
    "kind first": ("images/training", "annotations/training", "images/validation", "annotations/validation"),
    "img_dir and ann_dir": ("img_dir/train", "ann_dir/train", "img_dir/val", "ann_dir/val"),
    "years behind the split": ("images/train2017", "annotations/train2017", "images/val2017", "annotations/val2017"),
    "one word with both": ("train_images", "train_masks", "val_images", "val_masks"),
    "plain beside labelled": ("train", "train_labels", "val", "val_labels"),
    "capitals": ("Train/Images", "Train/GT", "Val/Images", "Val/GT"),
    "unpacked one folder deeper": (
        "set/data/train/img",
        "set/data/train/mask",
        "set/data/val/img",
        "set/data/val/mask",
    ),
}


@pytest.mark.parametrize("folders", TWO_FOLDERS.values(), ids=TWO_FOLDERS)
def test_names_of_folders_say_split_and_kind(folders: tuple[str, str, str, str], tmp_path: Path) -> None:
    train_images, train_masks, val_images, val_masks = folders
    touch(tmp_path, f"{train_images}/a.jpg", f"{train_images}/b.jpg", f"{train_masks}/a.png", f"{train_masks}/b.png")
    touch(tmp_path, f"{val_images}/c.jpg", f"{val_masks}/c.png")
    assert splits_of(tmp_path) == {
        "train": {name: (f"{train_images}/{name}.jpg", f"{train_masks}/{name}.png") for name in "ab"},
        "val": {"c": (f"{val_images}/c.jpg", f"{val_masks}/c.png")},
    }


def test_several_places_of_one_split_keep_their_folder_in_the_name(tmp_path: Path) -> None:
    for place in ("Rural", "Urban"):
        touch(tmp_path, f"Train/{place}/images_png/0.png", f"Train/{place}/masks_png/0.png")
    touch(tmp_path, "Val/Rural/images_png/1.png", "Val/Rural/masks_png/1.png")
    assert splits_of(tmp_path)["train"] == {
        f"{place}/0": (f"Train/{place}/images_png/0.png", f"Train/{place}/masks_png/0.png")
        for place in ("Rural", "Urban")
    }


def test_masks_beside_images_by_ending(tmp_path: Path) -> None:
    """What Roboflow calls semantic segmentation masks."""
    touch(tmp_path, "train/a.jpg", "train/a_mask.png", "train/_classes.csv", "valid/b.jpg", "valid/b_mask.png")
    assert splits_of(tmp_path) == {
        "train": {"a": ("train/a.jpg", "train/a_mask.png")},
        "val": {"b": ("valid/b.jpg", "valid/b_mask.png")},
    }
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes.endswith("train/_classes.csv")


def test_masks_beside_images_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "train/a.png", "val/b.jpg", "val/b.png")
    assert splits_of(tmp_path)["val"] == {"b": ("val/b.jpg", "val/b.png")}


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("a.jpg", "a.png", "b.jpg"), ("a.jpg", "b_mask.png")])
def test_a_folder_of_pictures_is_no_folder_of_pairs(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{name}" for name in names))
    with pytest.raises((MissingSplitError, ValueError), match="no folder"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_pascal_voc(tmp_path: Path) -> None:
    base = "VOCdevkit/VOC2012"
    touch(tmp_path, *(f"{base}/JPEGImages/{n}.jpg" for n in ("1", "2", "3")), f"{base}/SegmentationObject/1.png")
    touch(tmp_path, *(f"{base}/SegmentationClass/{n}.png" for n in ("1", "2")), f"{base}/Annotations/1.xml")
    lists = tmp_path / base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n")
    (lists / "val.txt").write_text("2\n")
    (lists / "trainval.txt").write_text("1\n2\n")
    assert splits_of(tmp_path) == {
        "train": {"1": (f"{base}/JPEGImages/1.jpg", f"{base}/SegmentationClass/1.png")},
        "val": {"2": (f"{base}/JPEGImages/2.jpg", f"{base}/SegmentationClass/2.png")},
    }
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == "voc"
    both = splits_of(tmp_path, train=f"{base}/ImageSets/Segmentation/trainval.txt")
    assert list(both["train"]) == ["1", "2"]
    (lists / "val.txt").write_text("2\n3\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 2: image '3' has no mask; add it, or take it off the list"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "val")
    (lists / "test.txt").write_text("3\n")
    with pytest.raises(MissingSplitError, match=r"split test: .*test\.txt, line 1: image '3' has no mask"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "test")


def test_masks_that_cvat_exports(tmp_path: Path) -> None:
    touch(tmp_path, "JPEGImages/a.jpg", "SegmentationClass/a.png", "SegmentationObject/a.png", "labelmap.txt")
    with pytest.raises(UnsplitError, match="Pascal VOC"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == str(tmp_path / "labelmap.txt")


def test_an_export_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "SegmentationClass/a.png", "labelmap.txt")
    with pytest.raises(ValueError, match=r"no folder JPEGImages; put the pictures there \(CVAT: export with images\)"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


@pytest.mark.parametrize(("ids", "classes"), [("labelIds", "cityscapes"), ("labelTrainIds", "cityscapes_train_ids")])
def test_cityscapes(ids: str, classes: str, tmp_path: Path) -> None:
    for split, city in (("train", "ulm"), ("val", "bonn")):
        touch(tmp_path, f"leftImg8bit/{split}/{city}/{city}_0_leftImg8bit.png")
        for kind in {"labelIds", ids, "color", "instanceIds"}:
            touch(tmp_path, f"gtFine/{split}/{city}/{city}_0_gtFine_{kind}.png")
    assert splits_of(tmp_path) == {
        split: {
            f"{city}/{city}_0": (
                f"leftImg8bit/{split}/{city}/{city}_0_leftImg8bit.png",
                f"gtFine/{split}/{city}/{city}_0_gtFine_{ids}.png",
            )
        }
        for split, city in (("train", "ulm"), ("val", "bonn"))
    }
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == classes


def test_nnunet(tmp_path: Path) -> None:
    touch(
        tmp_path, "imagesTr/case_1_0000.png", "labelsTr/case_1.png", "imagesTs/case_2_0000.png", "labelsTs/case_2.png"
    )
    touch(tmp_path, "dataset.json")
    assert splits_of(tmp_path) == {
        "train": {"case_1": ("imagesTr/case_1_0000.png", "labelsTr/case_1.png")},
        "test": {"case_2": ("imagesTs/case_2_0000.png", "labelsTs/case_2.png")},
    }
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == str(tmp_path / "dataset.json")
    touch(tmp_path, "imagesTr/case_1_0001.png")
    with pytest.raises(ValueError, match=r"case_1_0001\.png: a second channel of nnU-Net's; one file an image is read"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_nnunet_with_several_channels_of_volumes_names_the_globs_of_one(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/case_1_0000.nii.gz", "imagesTr/case_1_0001.nii.gz", "labelsTr/case_1.nii.gz")
    with pytest.raises(ValueError) as raised:
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert str(raised.value).endswith(
        'choose one of the channels, "datasets.images=imagesTr/*_0000.nii.gz" "datasets.masks=labelsTr/*.nii.gz"; '
        "splits are made then"
    )


def test_two_folders_that_could_be_the_masks_are_not_guessed(tmp_path: Path) -> None:
    """DRIVE as it is distributed: the truth, and the field of view."""
    touch(tmp_path, "training/images/21.tif", "training/1st_manual/21.gif", "training/mask/21.gif")
    message = (
        r"training/1st_manual and training/mask could all be the masks of train; say which, for instance "
        r"datasets\.images='\{train: training/images/\*\}' datasets\.masks='\{train: training/1st_manual/\*\}'"
    )
    with pytest.raises(ValueError, match=message):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_pairs_of_no_split(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg", "masks/b.png", "overlays/a.png")
    datasets = DatasetsConfig(root=str(tmp_path))
    for split in SPLITS:
        with pytest.raises(UnsplitError, match=rf"split {split}: images/ with masks/ of .* knows no splits"):
            find_pairs(datasets, split)
    assert [pair.name for pair in find_pool(datasets).pairs] == ["a", "b"]


def test_lists_beside_the_folders_are_the_splits(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg", "masks/b.png")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "val.txt").write_text("images/b.jpg\n")
    assert {split: list(pairs) for split, pairs in splits_of(tmp_path).items()} == {"train": ["a"], "val": ["b"]}


@pytest.mark.parametrize("wrapper", ["ADEChallengeData2016", "unpacked/set", "."])
def test_what_lies_beside_wrapped_folders_counts(wrapper: str, tmp_path: Path) -> None:
    """An archive unpacks to a folder; its tables and lists lie in there."""
    base = tmp_path / wrapper
    touch(
        base,
        *(
            f"{kind}/{name}"
            for kind, end in (("images", "jpg"), ("annotations", "png"))
            for name in (f"a.{end}", f"b.{end}")
        ),
    )
    datasets = DatasetsConfig(root=str(tmp_path))
    assert layout_of(datasets).classes == ""
    touch(base, "objectInfo150.txt")
    assert layout_of(datasets).classes == "ade20k"
    touch(base, "classes.csv")
    assert layout_of(datasets).classes == str(base / "classes.csv")
    (base / "train.txt").write_text("a\n")
    (base / "val.txt").write_text("images/b.jpg\n")
    assert {split: list(pairs) for split, pairs in splits_of(tmp_path).items()} == {"train": ["a"], "val": ["b"]}


def test_a_split_that_is_the_only_folder_is_no_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.jpg", "train/labels/a.png", "train/classes.csv")
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == ""


def test_a_folder_named_by_the_user_is_no_other_word_for_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg", "masks/val/b.png")
    with pytest.raises(MissingSplitError, match="split val: no folder"):
        find_pairs(DatasetsConfig(root=str(tmp_path), val="holdout"), "val")


@pytest.mark.parametrize(
    ("name", "kind", "split"),
    [
        ("imagesTr", "images", "train"),
        ("labelsTs", "masks", "test"),
        ("JPEGImages", "images", None),
        ("1st_manual", "masks", None),
        ("image_masks", "masks", None),
        ("val2017", None, "val"),
        ("patient_12", None, None),
        ("trainval", None, None),
        ("contest", None, None),
    ],
)
def test_words_in_names(name: str, kind: str | None, split: str | None) -> None:
    words = read_folder_name(name)
    assert (words.kind, words.split) == (kind, split)


def test_validation_without_masks_is_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg", "images/test/c.jpg")
    datasets = DatasetsConfig(root=str(tmp_path))
    assert len(find_pairs(datasets, "train").pairs) == 1
    with pytest.raises(
        ValueError, match=r"split val: .*images/val has no masks, or no images, beside it; add them"
    ) as found:
        find_pairs(datasets, "val")
    assert not isinstance(found.value, MissingSplitError)
    with pytest.raises(MissingSplitError, match=r"split test: .*images/test has no masks"):
        find_pairs(datasets, "test")
