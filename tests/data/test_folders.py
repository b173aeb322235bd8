"""Pairing images with masks: folders, globs, the ADE20K layout, and what is said when nothing fits."""

from pathlib import Path

import pytest
from helpers.small_data_set import touch

from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import MissingSplitError, find_pairs
from dinoseg.data.found_files import list_images
from dinoseg.data.pairs import SplitListing


def pairs_of(listing: SplitListing, root: Path) -> dict[str, tuple[str, str]]:
    return {
        pair.name: (
            pair.image.relative_to(root).as_posix(),
            pair.mask.relative_to(root).as_posix() if pair.mask else "",
        )
        for pair in listing.pairs
    }


def test_same_stem_with_mixed_suffixes_and_other_files_around(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/b.JPG", "train/images/a.tif", "train/images/notes.txt", "train/images/.a.png")
    touch(tmp_path, "train/masks/a.png", "train/masks/b.npy", "train/masks/.DS_Store", "train/masks/Thumbs.db")
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert pairs_of(listing, tmp_path) == {
        "a": ("train/images/a.tif", "train/masks/a.png"),
        "b": ("train/images/b.JPG", "train/masks/b.npy"),
    }
    assert (listing.images_without_mask, listing.masks_without_image) == ((), ())


def test_nested_folders_make_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/x/1.png", "train/images/y/1.png", "train/masks/x/1.png", "train/masks/y/1.png")
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert list(pairs_of(listing, tmp_path)) == ["x/1", "y/1"]


def test_files_without_a_partner_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/images/b.png", "train/masks/b.png", "train/masks/c.png")
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert [path.name for path in listing.images_without_mask] == ["a.png"]
    assert [path.name for path in listing.masks_without_image] == ["c.png"]
    assert [pair.name for pair in listing.pairs] == ["b"]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_stem_are_an_error(folder: str, tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", f"train/{folder}/a.tif")
    with pytest.raises(ValueError, match=rf"two {folder} share the name 'a': .*a\.png and .*a\.tif"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_a_split_may_have_another_folder_name(tmp_path: Path) -> None:
    touch(tmp_path, "valid/images/a.png", "valid/masks/a.png")
    assert len(find_pairs(DatasetsConfig(root=str(tmp_path), val="valid"), "val").pairs) == 1


def test_a_folder_may_be_called_like_a_list_or_a_glob(tmp_path: Path) -> None:
    touch(tmp_path, "v1.csv/images/a.png", "v1.csv/masks/a.png", "set[1]/images/b.png", "set[1]/masks/b.png")
    datasets = DatasetsConfig(root=str(tmp_path), train="v1.csv", val="set[1]")
    assert [find_pairs(datasets, split).pairs[0].name for split in ("train", "val")] == ["a", "b"]


def test_a_missing_split_names_the_folder_and_what_exists(tmp_path: Path) -> None:
    touch(tmp_path, "training/images/a.png", "README")
    with pytest.raises(MissingSplitError, match=r"no folder .*/train; .* holds README, training/; .*datasets\.train="):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_a_missing_masks_folder_names_what_exists(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/depth/a.png")
    with pytest.raises(ValueError, match=r"no folder .*train/masks; .* holds depth/, images/"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")


def test_a_missing_root_names_the_nearest_folder(tmp_path: Path) -> None:
    touch(tmp_path, "retina/train/images/a.png")
    with pytest.raises(ValueError, match=rf"no such folder; {tmp_path} holds retina/"):
        find_pairs(DatasetsConfig(root=str(tmp_path / "retnia")), "train")
    with pytest.raises(ValueError, match=r"datasets\.root is empty"):
        find_pairs(DatasetsConfig(), "train")


def test_a_shared_affix_of_the_masks_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a1.png", "train/images/b1.png", "train/masks/a1_L.png", "train/masks/b1_L.png")
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert pairs_of(listing, tmp_path)["b1"] == ("train/images/b1.png", "train/masks/b1_L.png")


def test_affixes_on_both_sides_with_globs_and_cities(tmp_path: Path) -> None:
    for name in ("ulm/ulm_1", "ulm/ulm_2", "bonn/bonn_1"):
        touch(tmp_path, f"left/train/{name}_left.png", f"fine/train/{name}_fine_ids.png")
    datasets = DatasetsConfig(root=str(tmp_path), images="left/{split}/*/*.png", masks="fine/{split}/*/*_ids.png")
    pairs = pairs_of(find_pairs(datasets, "train"), tmp_path)
    assert len(pairs) == 3
    assert pairs["ulm/ulm_2_left"][1] == "fine/train/ulm/ulm_2_fine_ids.png"


def test_a_prefix_is_passed_over_too(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/images/b.png", "train/masks/mask_a.png", "train/masks/mask_b.png")
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert pairs_of(listing, tmp_path)["a"][1] == "train/masks/mask_a.png"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1", "2"], ["11", "12"]),
        (["a", "b"], ["a_mask", "c_mask"]),
        (["a"], ["b_mask"]),
        (["a", "b", "c"], ["a_mask", "b_mask"]),
        ([f"frame_{k}" for k in range(10, 20)], [f"frame_{k}" for k in range(20, 30)]),
        (["IMG_0001", "IMG_0002"], ["IMG_1001", "IMG_1002"]),
        (["scan_1", "scan_2"], ["scan_11", "scan_12"]),
        (["patA_s1", "patA_s2"], ["patB_s1", "patB_s2"]),
        (["val0", "val1"], ["test0", "test1"]),
        (["1_day", "2_day"], ["1_night", "2_night"]),
        (["1"], ["11"]),
        (["img_1"], ["img_12"]),
        (["cat"], ["caterpillar"]),
        (["a"], ["a_mask", "a_seg"]),
    ],
)
def test_no_pairing_by_chance(images: list[str], masks: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/images/{name}.png" for name in images), *(f"train/masks/{name}.png" for name in masks))
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert listing.pairs == ()
    assert len(listing.images_without_mask) == len(images)
    assert len(listing.masks_without_image) == len(masks)


def test_globs_in_one_folder_do_not_take_masks_for_images(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.png", "all/b.png", "all/a_mask.png", "all/b_mask.png")
    datasets = DatasetsConfig(root=str(tmp_path), images={"train": "all/*.png"}, masks={"train": "all/*_mask.png"})
    pairs = pairs_of(find_pairs(datasets, "train"), tmp_path)
    assert pairs == {"a": ("all/a.png", "all/a_mask.png"), "b": ("all/b.png", "all/b_mask.png")}
    with pytest.raises(MissingSplitError, match=r"split val: datasets\.images has globs for train"):
        find_pairs(datasets, "val")


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("x/*.png", "y/{split}/*.png", r"datasets\.images='x/\*\.png' gives every split the same files"),
        ("x/{split}/*.png", None, r"datasets\.images is given alone"),
        ("x/{split}/*.png", "y/{split}/*.png", r"datasets\.images='x/train/\*\.png' matches nothing below"),
    ],
)
def test_bad_globs(images: str, masks: str | None, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "y/train/a.png")
    with pytest.raises(ValueError, match=message):
        find_pairs(DatasetsConfig(root=str(tmp_path), images=images, masks=masks), "train")


@pytest.mark.parametrize("top", ["", "ADEChallengeData2016/"])
def test_the_ade20k_layout(top: str, tmp_path: Path) -> None:
    for split in ("training", "validation"):
        touch(tmp_path, f"{top}images/{split}/ADE_1.jpg", f"{top}annotations/{split}/ADE_1.png")
    datasets = DatasetsConfig(root=str(tmp_path), train="ADE20K:split=TRAIN", val="ADE20K:split=VAL")
    assert pairs_of(find_pairs(datasets, "val"), tmp_path) == {
        "ADE_1": (f"{top}images/validation/ADE_1.jpg", f"{top}annotations/validation/ADE_1.png")
    }
    assert "training" in str(find_pairs(datasets, "train").pairs[0].image)


@pytest.mark.parametrize("descriptor", ["ADE20K", "ADE20K:split=TEST", "ADE20K:part=TRAIN", "ADE20K:split=TRAIN:x=1"])
def test_bad_descriptors(descriptor: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write ADE20K:split=TRAIN or ADE20K:split=VAL"):
        find_pairs(DatasetsConfig(root=str(tmp_path), train=descriptor), "train")


def test_a_missing_ade20k_layout_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"images,annotations}/training and .*ADEChallengeData2016/{images,annotations}"
    ):
        find_pairs(DatasetsConfig(root=str(tmp_path), train="ADE20K:split=TRAIN"), "train")


def test_list_images_is_sorted_and_passes_hidden_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "sub/a.JPEG", ".cache/c.png", "d.txt")
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == ["b.png", "sub/a.JPEG"]


@pytest.mark.parametrize(
    ("images", "masks", "rule"),
    [
        (
            ["21_training", "22_training"],
            ["21_manual1", "22_manual1"],
            "'training' of the images and 'manual1' of the masks",
        ),
        (["a_leftImg8bit", "b_leftImg8bit"], ["a_gtFine_ids", "b_gtFine_ids"], "leftImg8bit"),
        (["img_010", "img_011"], ["mask_010", "mask_011"], "'img' of the images and 'mask' of the masks"),
        (["0006R0", "0016E5"], ["0006R0_L", "0016E5_L"], "'_L' of the masks"),
        (["train_a", "train_b"], ["a", "b"], "'train_' of the images"),
        (["a"], ["a_mask", "b_mask"], "'_mask' of the masks"),
        (["x1", "x2"], ["x1Mask", "x2Mask"], "'Mask' of the masks"),
        (["scan.1", "scan.2"], ["scan.1_seg", "scan.2_seg"], "'_seg' of the masks"),
    ],
)
def test_affixes_that_are_constant_pair_and_are_named(
    images: list[str], masks: list[str], rule: str, tmp_path: Path
) -> None:
    touch(tmp_path, *(f"train/images/{name}.png" for name in images), *(f"train/masks/{name}.png" for name in masks))
    listing = find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    assert [pair.mask and pair.mask.stem for pair in listing.pairs] == masks[: len(images)]
    assert rule in listing.pairing_rule


def test_images_to_test_on_without_masks_are_no_test_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/b.png", "val/images/c.png")
    with pytest.raises(MissingSplitError, match=r"split test: .*test/images has no masks, or no images, beside it"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "test")
    with pytest.raises(
        ValueError, match=r"split val: .*val/images has no masks, or no images, beside it; add them"
    ) as found:
        find_pairs(DatasetsConfig(root=str(tmp_path)), "val")
    assert not isinstance(found.value, MissingSplitError)
