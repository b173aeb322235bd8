"""What is found in the labels of a data set: one test for each finding."""

from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import IDS, only, rewrite_masks, run, save, text_of, write_data_set, write_pair
from PIL import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data")


def test_label_id_outside_the_label_space(root: Path) -> None:
    write_pair(root, "val", "a", np.array([[0, 1, 9, 9]], dtype=np.uint8))
    write_pair(root, "val", "b", np.array([[0, 2, 3, 9]], dtype=np.uint8))
    finding = only(run(root, classes=["background", "artery", "vein", "crossing"]), "unknown_label")
    assert finding.severity == "error"
    assert finding.message == "label id 9 outside the label space: 3 pixels in 2 masks, most in a.png (2)"
    assert "datasets.classes ({9: name})" in finding.advice
    assert finding.files == (str(root / "val/masks/a.png"), str(root / "val/masks/b.png"))


def test_many_unknown_ids_are_summed_up(root: Path) -> None:
    write_pair(root, "val", "a", np.arange(20, dtype=np.uint8).reshape(4, 5))
    finding = only(run(root, classes=["background", "artery", "vein", "crossing"]), "unknown_label")
    assert "16 label ids outside the label space in 1 mask" in finding.message


@pytest.mark.parametrize(("reduce", "count"), [(False, 3), (True, 4)])
def test_num_classes_mismatch(reduce: bool, count: int, root: Path) -> None:
    report = run(root, count, reduce_zero_label=reduce)
    message = only(report, "num_classes").message
    assert "decoder_head.num_classes=4 datasets.reduce_zero_label=false" in message
    assert "decoder_head.num_classes=3 datasets.reduce_zero_label=true" in message
    assert (report.label_space, report.ok) == (None, False)


def test_contradictory_settings_are_a_finding(root: Path) -> None:
    finding = only(run(root, classes={0: "a", 1: "b"}, ignore=[1]), "label_settings")
    assert "datasets.classes ('b') and in datasets.ignore" in finding.message


def test_binary_mask(root: Path) -> None:
    rewrite_masks(root, lambda _: np.array([[0, 255]], dtype=np.uint8))
    message = only(run(root), "binary_mask").message
    assert '"datasets.classes={0: background, 255: object}" "datasets.ignore=[]"' in message
    report = run(root, 2, classes={0: "background", 255: "object"}, ignore=[])
    assert (report.ok, report.class_pixels("train")) == (True, [2, 2])


def test_binary_mask_with_blurred_edges(root: Path) -> None:
    rewrite_masks(
        root, lambda _: np.concatenate([np.repeat([0, 255], 300), np.arange(4, 244, 8)]).astype(np.uint8)[None]
    )
    finding = only(run(root), "binary_mask")
    assert "95.2 % of the pixels and 30 values between them" in finding.message
    assert ">= 128" in finding.advice


def test_a_few_label_ids_and_void_are_no_blurred_edges(root: Path) -> None:
    rewrite_masks(root, lambda _: np.concatenate([np.repeat([0, 255], 300), np.arange(8)]).astype(np.uint8)[None])
    report = run(root)
    assert report.ok and report.label_space is not None and report.label_space.num_classes == 8


@pytest.mark.parametrize(
    ("values", "why"),
    [([0, 128, 255], "33.3 % of the pixels have it: the others are greys"), ([0, 1, 255, 255, 255], "that is most")],
)
def test_255_that_may_be_a_class_is_not_ignored_without_a_word(values: list[int], why: str, root: Path) -> None:
    rewrite_masks(root, lambda _: np.array([values], dtype=np.uint8))
    finding = only(run(root), "ignored_255")
    assert finding.severity == "warning" and why in finding.message
    named = ", ".join(f"{label_id}: name" for label_id in sorted(set(values)))
    assert f'"datasets.classes={{{named}}}" "datasets.ignore=[]"' in finding.advice
    # Who says so is not asked.
    assert "ignored_255" not in [finding.code for finding in run(root, ignore=[255]).findings]


def test_palettes_that_were_made_file_by_file_are_told(root: Path) -> None:
    def save_with(colours: list[int], path: Path) -> None:
        image = Image.fromarray(IDS)
        image.putpalette(colours)
        image.save(path)

    black, red, green, blue = [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]
    masks = sorted(root.glob("*/masks/*.png"))
    for mask in masks:
        save_with([*black, *red, *green, *blue], mask)
    # Entries that are not used may differ.
    save_with([*black, *red, *green, *blue, *red], masks[0])
    assert "palettes_differ" not in [finding.code for finding in run(root).findings]
    save_with([*black, *green, *red, *blue], masks[0])
    report = run(root)
    found = [finding for finding in report.findings if finding.code == "palettes_differ"]
    assert [finding.message for finding in found] == [
        "label id 1 is #ff0000 in 5 masks and another colour, such as #00ff00, in 1",
        "label id 2 is #00ff00 in 5 masks and another colour, such as #ff0000, in 1",
    ]
    assert found[0].files == (str(masks[0]),) and report.ok
    # Read by colour, all of them mean the same.
    named = {"#000000": "back", "#ff0000": "artery", "#00ff00": "vein", "#0000ff": "crossing"}
    assert "palettes_differ" not in [finding.code for finding in run(root, classes=named).findings]


def test_many_undeclared_ids_are_doubted(root: Path) -> None:
    rewrite_masks(root, lambda _: np.arange(100, dtype=np.uint8).reshape(10, 10))
    finding = only(run(root), "many_ids")
    assert (finding.severity, finding.count) == ("warning", 100)


RED, BLACK = (255, 0, 0), (0, 0, 0)
COLOURS = {"#000000": "sky", "#ff0000": "road"}


def colour_mask(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([colours], dtype=np.uint8)


@pytest.mark.parametrize("classes", [None, {0: "a", 1: "b"}])
def test_rgb_mask_where_ids_are_expected(classes: dict[int, str] | None, root: Path) -> None:
    rewrite_masks(root, lambda _: colour_mask(BLACK, BLACK, RED))
    finding = only(run(root, classes=classes), "mask_kind")
    assert "6 masks with RGB colours where" in finding.message
    assert "\"datasets.classes={'#000000': name_0, '#ff0000': name_1}\"" in finding.advice
    assert len(finding.files) == 6


def test_grey_saved_as_rgb_is_called_so(root: Path) -> None:
    rewrite_masks(root, lambda _: colour_mask(BLACK, (1, 1, 1)))
    finding = only(run(root), "mask_kind")
    assert "red = green = blue" in finding.message
    assert "save them with one channel" in finding.advice


def test_ids_where_colours_are_declared(root: Path) -> None:
    finding = only(run(root, classes=COLOURS), "mask_kind")
    assert "6 masks with label ids (0, 1, 2, 3) where datasets.classes declares colours" in finding.message


def test_label_ids_without_brackets_are_told_from_a_colour(root: Path) -> None:
    finding = only(run(root, ignore="0,3,255"), "mask_kind")
    assert "where datasets.ignore=0,3,255 names a colour" in finding.message
    expected = "several label ids stand in brackets, datasets.ignore=[0,3,255], and without are a colour"
    assert expected in finding.advice
    assert expected in only(run(root, classes={1: "a", 2: "b"}, ignore="0,3,255"), "label_settings").message
    assert run(root, ignore=[0, 3, 255]).ok


def test_colour_masks_as_declared(root: Path) -> None:
    rewrite_masks(root, lambda _: colour_mask(BLACK, BLACK, RED))
    report = run(root, classes=COLOURS)
    assert (report.findings, report.decision, report.class_pixels("val")) == ((), None, [4, 2])
    assert report.to_dict()["splits"][0]["labels"][1]["label_id"] == "#ff0000"


def test_anti_aliased_colours_name_the_nearest_and_the_tolerance(root: Path) -> None:
    edges = [(200 + i, 0, 0) for i in range(40)]
    rewrite_masks(root, lambda _: colour_mask(*[BLACK] * 30000, *[RED] * 30000, *edges))
    finding = only(run(root, classes=COLOURS), "antialiased_colours")
    assert finding.severity == "error"
    assert "40 colours outside the label space in 6 masks, 0.067 % of the pixels" in finding.message
    assert "#c80000 (6 pixels, 55 from #ff0000 road)" in finding.message
    assert "datasets.colour_tolerance=55 takes each as the nearest" in finding.advice
    report = run(root, classes=COLOURS, colour_tolerance=55)
    assert (report.findings, report.class_pixels("train")) == ((), [60000, 60080])
    assert not run(root, classes=COLOURS, colour_tolerance=54).ok
    assert "40 others 1 road" in " ".join(text_of(report).split())


def test_a_forgotten_colour_is_not_called_an_edge(root: Path) -> None:
    rewrite_masks(root, lambda _: colour_mask(BLACK, RED, (0, 0, 255)))
    finding = only(run(root, classes=COLOURS), "unknown_label")
    assert "#0000ff (6 pixels, 255 from" in finding.message
    assert "name them in datasets.classes" in finding.advice


def test_all_ignored_mask(root: Path) -> None:
    write_pair(root, "train", "a", np.full((2, 4), 255, np.uint8))
    finding = only(run(root), "all_ignored_mask")
    assert finding.message == "1 mask of train in which every pixel is ignored"
    assert finding.files == (str(root / "train/masks/a.png"),)


def test_class_that_never_occurs(root: Path) -> None:
    finding = only(run(root, classes=["background", "artery", "vein", "crossing", "lesion"]), "class_never_occurs")
    assert (finding.severity, finding.message) == ("warning", "class 'lesion': in no mask of any split")


@pytest.mark.parametrize(("split", "advice"), [("val", "n/a during training"), ("train", "cannot be learned")])
def test_class_absent_from_a_split(split: str, advice: str, root: Path) -> None:
    for name in ("a", "b"):
        write_pair(root, split, name, np.where(IDS == 3, 0, IDS).astype(np.uint8))
    finding = only(run(root), f"class_absent_from_{split}")
    assert finding.message == f"class 'class_3': absent from {split}"
    assert advice in finding.advice


def test_ade20k_declares_its_range_and_warns_when_zero_is_learned(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        save(tmp_path / "images" / split / "x.png", np.full((2, 4, 3), len(split), np.uint8))
        save(tmp_path / "annotations" / split / "x.png", IDS)
    names = {"train": "ADE20K:split=TRAIN", "val": "ADE20K:split=VAL"}
    report = run(tmp_path, 150, reduce_zero_label=True, **names)
    assert report.label_space is not None
    assert (report.ok, report.label_space.num_classes) == (True, 150)
    never = only(report, "class_never_occurs")
    assert (never.severity, never.count) == ("note", 147)
    assert "reduce_zero_label=true" in only(run(tmp_path, **names), "ade20k_zero").advice


@pytest.mark.parametrize("value", [-1, -9999, -300])
def test_a_negative_id_is_no_class_and_can_be_ignored(value: int, root: Path) -> None:
    for path in root.glob("*/masks/*.png"):
        np.save(path.with_suffix(".npy"), np.array([[0, 1, 2, value], [0, 0, 1, 2]]))
        path.unlink()
    finding = only(run(root), "negative_ids")
    assert f"label id {value} cannot be a class" in finding.message
    assert f"datasets.ignore=[{value}]" in finding.message
    report = run(root, ignore=[value])
    assert report.ok and report.label_space is not None and report.label_space.num_classes == 3
    unnamed = only(run(root, classes={0: "a", 1: "b", 2: "c"}), "unknown_label")
    assert unnamed.advice == f"add it to datasets.ignore ([{value}, ...])"


@pytest.mark.parametrize("value", [np.iinfo(np.int64).min, -(2**31) - 1, 2**31])
def test_ids_beyond_32_bits_name_file_and_value(value: int, root: Path) -> None:
    path = root / "train/masks/a.png"
    np.save(path.with_suffix(".npy"), np.array([[0, 1, 2, value], [0, 0, 1, 2]]))
    path.unlink()
    finding = only(run(root), "unreadable")
    assert f"label id {value} does not fit" in finding.message and finding.files == (str(path.with_suffix(".npy")),)


def test_masks_in_which_nothing_counts_are_an_error(root: Path) -> None:
    for path in (root / "train/masks").iterdir():
        save(path, np.full((2, 4), 255, np.uint8))
    assert only(run(root), "nothing_counts").severity == "error"
