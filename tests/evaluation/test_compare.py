"""Comparison of two evaluations: differences by hand, intervals that deserve their name, refusals with the reason."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import run_cli
from rich.console import Console

from dinoseg.console.comparison_table import comparison_table
from dinoseg.evaluation.compare import FEWEST_IMAGES, compare
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.evaluate import write_evaluation as write_files
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.metrics import AbsentPolicy, counts_from_confusion
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import LabelClass

SPACE = LabelSpace("ids", (LabelClass("back", (0,), (0, 0, 0)), LabelClass("vessel", (4,), (9, 9, 9))), (255,))
SLIDE = {"mode": "slide", "crop": [64, 64]}


def write_evaluation(
    folder: Path,
    matrices: np.ndarray,
    names: list[str] | None = None,
    space: LabelSpace = SPACE,
    absent: AbsentPolicy = "skip_empty",
    **policy: Any,
) -> Path:
    """A folder with a metrics.json from one confusion matrix (truth, prediction) an image."""
    names = names or [f"image_{number}" for number in range(len(matrices))]
    stated = {"images": len(names), "window": SLIDE, "ignored_label_ids": list(space.ignored_ids)} | policy
    stacked = torch.from_numpy(np.ascontiguousarray(matrices))
    counts = Counts(stacked.sum(dim=0), counts_from_confusion(stacked))
    write_files(Evaluation(counts, tuple(names), stated, space, Measures(absent)), folder, {})
    return folder


def matrices(vessel_found: list[int]) -> np.ndarray:
    """Images of 90 pixels of background, all found, and 10 of vessel, of which so many are found."""
    return np.array([[[90, 0], [10 - found, found]] for found in vessel_found])


def test_differences_are_those_of_the_pooled_figures(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", matrices([2, 4, 6, 4, 4, 4, 4, 4]))
    second = write_evaluation(tmp_path / "b", matrices([3, 5, 6, 6, 5, 5, 2, 5]))
    found = compare(first, second)
    # Vessel: 32 and 37 of 80 pixels found, nothing predicted beside it. Background: 720 of 720 + 48 or 43.
    vessel, back = found.classes[1][2], found.classes[0][2]
    assert (vessel.first, vessel.second) == (pytest.approx(100 * 32 / 80), pytest.approx(100 * 37 / 80))
    assert vessel.difference == pytest.approx(100 * 5 / 80)
    assert back.difference == pytest.approx(100 * (720 / 763 - 720 / 768))
    assert found.miou.difference == pytest.approx(50 * (5 / 80 + 720 / 763 - 720 / 768))
    assert found.better[0].name == "image_3" and "image_2" not in [entry.name for entry in found.better]
    assert [entry.name for entry in found.worse] == ["image_6"]
    worst = found.worse[0]
    # Image 6: vessel 4 / 10 and 2 / 10, background 90 / 96 and 90 / 98.
    assert worst.first == pytest.approx(50 * (4 / 10 + 90 / 96))
    assert worst.difference == pytest.approx(50 * (2 / 10 + 90 / 98 - 4 / 10 - 90 / 96))


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", matrices([2, 4, 6, 8, 1, 0, 7]))
    found = compare(first, first)
    assert found.miou.difference == 0 and found.miou.interval == (0.0, 0.0) and not found.miou.beyond_chance
    assert found.better == found.worse == found.unlike == found.remarks == ()


def test_only_a_difference_that_most_images_share_is_beyond_chance(tmp_path: Path) -> None:
    base = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    first = write_evaluation(tmp_path / "a", matrices(base))
    steady = write_evaluation(tmp_path / "steady", matrices([6, 5, 6, 5, 6, 5, 6, 5, 6, 5]))
    mixed = write_evaluation(tmp_path / "mixed", matrices([9, 1, 9, 1, 9, 1, 9, 3, 4, 4]))
    gained, back = compare(first, steady), compare(steady, first)
    assert gained.miou.beyond_chance and all(difference.beyond_chance for _, _, difference in gained.classes)
    lower, upper = gained.miou.interval or (0.0, 0.0)
    assert 0 < lower <= (gained.miou.difference or 0) <= upper
    assert back.miou.interval == (pytest.approx(-upper), pytest.approx(-lower)) and back.miou.beyond_chance
    assert (compare(first, mixed).miou.difference or 0) > 0 and not compare(first, mixed).miou.beyond_chance


def test_few_images_prove_nothing(tmp_path: Path) -> None:
    few = FEWEST_IMAGES - 1
    first = write_evaluation(tmp_path / "a", matrices([4] * few))
    second = write_evaluation(tmp_path / "b", matrices([8] * few))
    found = compare(first, second)
    assert not found.miou.beyond_chance and "too few" in found.remarks[0]
    # A class that is in five of many images: no resample of those five is without the difference.
    empty = np.array([[[100, 0], [0, 0]]] * 20)
    rare = [np.concatenate([matrices([value] * few), empty]) for value in (4, 8)]
    found = compare(write_evaluation(tmp_path / "c", rare[0]), write_evaluation(tmp_path / "d", rare[1]))
    vessel = found.classes[1][2]
    assert vessel.images == few and vessel.interval is not None and vessel.interval[0] > 0
    assert not vessel.beyond_chance and any("vessel" in remark for remark in found.remarks)


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(7)]
    first, second = matrices([1, 2, 3, 4, 5, 6, 7]), matrices([2, 2, 4, 4, 6, 6, 6])
    one = write_evaluation(tmp_path / "a", first, names)
    other = write_evaluation(tmp_path / "b", second, names)
    turned = write_evaluation(tmp_path / "c", second[::-1], names[::-1])
    straight, reordered = compare(one, other).to_dict(), compare(one, turned).to_dict()
    assert straight | {"second": ""} == reordered | {"second": ""}


def test_a_class_that_only_one_run_predicts_is_pointed_out(tmp_path: Path) -> None:
    clean, false = np.array([[[100, 0], [0, 0]]] * 8), np.array([[[90, 10], [0, 0]]] * 8)
    first, second = write_evaluation(tmp_path / "a", clean), write_evaluation(tmp_path / "b", false)
    found = compare(first, second)
    vessel = found.classes[1][2]
    assert (vessel.first, vessel.second, vessel.difference, vessel.interval) == (None, 0.0, None, None)
    assert any("vessel" in remark and "different classes" in remark for remark in found.remarks)


def test_what_only_one_policy_states_is_named_in_one_line(tmp_path: Path) -> None:
    values = matrices([4] * 6)
    first = write_evaluation(tmp_path / "a", values)
    second = write_evaluation(tmp_path / "b", values, window=None, source="label maps")
    assert compare(first, second).unlike == (
        "window: mode slide, crop [64, 64] | none",
        "source: none | label maps",
    )


def test_windows_may_differ_and_are_named(tmp_path: Path) -> None:
    values = matrices([4] * 6)
    first = write_evaluation(tmp_path / "a", values, resolution="native")
    second = write_evaluation(tmp_path / "b", values, window=SLIDE | {"crop": [32, 32]}, resolution="short side 99")
    found = compare(first, second)
    assert set(found.unlike) == {"window.crop: [64, 64] | [32, 32]", "resolution: native | short side 99"}
    out = io.StringIO()
    Console(file=out, width=100).print(comparison_table(found))
    assert "not measured alike" in out.getvalue() and "[64, 64] | [32, 32]" in out.getvalue()


def test_temperatures_of_several_runs_are_their_own(tmp_path: Path) -> None:
    values = matrices([4] * 6)
    told = {"checkpoint": "best", "temperature": 0.5}
    members = [told | {"run": run, "weights_sha256": digest * 64} for run, digest in (("runs/a", "a"), ("runs/b", "b"))]
    alone = write_evaluation(tmp_path / "a", values, temperature=0.5)
    both = write_evaluation(tmp_path / "b", values, window=None, members=members)
    assert compare(alone, both).unlike == ("members: one run | 2 runs as one",)
    refitted = [members[0], members[1] | {"temperature": 0.7}]
    anew = write_evaluation(tmp_path / "c", values, window=None, members=refitted)
    assert compare(both, anew).unlike == ("runs/b, temperature: 0.5 | 0.7",)


OTHER_NAME = LabelSpace("ids", (SPACE.classes[0], LabelClass("vein", (4,), (9, 9, 9))), (255,))
OTHER_IGNORED = LabelSpace("ids", SPACE.classes, (3, 255))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"names": ["x", "image_1"]}, ["2 and 2 images", "only", "image_0"]),
        ({"space": OTHER_NAME}, ["class index 1", "vessel (label id 4) and vein (label id 4)"]),
        ({"space": OTHER_IGNORED}, ["ignored label ids", "[255] and [3, 255]"]),
        ({"absent": "zero"}, ["absent classes", "skip_empty and zero"]),
        ({"matrices": np.array([[[90, 0], [5, 5]], [[80, 0], [5, 5]]])}, ["1 of 2", "100 and 90 pixels", "image_1"]),
        ({"matrices": np.array([[[90, 0], [5, 5]], [[80, 0], [5, 15]]])}, ["image_1 has 90 and 80 pixels of back"]),
    ],
)
def test_what_cannot_be_compared_is_refused_with_both_values(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    first = write_evaluation(tmp_path / "a", matrices([5, 5]))
    second = write_evaluation(tmp_path / "b", **({"matrices": matrices([5, 5])} | changes))
    with pytest.raises(ValueError, match="cannot be compared") as caught:
        compare(first, second)
    for part in parts:
        assert part in str(caught.value)


def test_figures_of_label_maps_in_a_run_do_not_stand_for_its_own(tmp_path: Path) -> None:
    """A run whose predictions were written into its folder, and scored there."""
    run = tmp_path / "run"
    own = write_evaluation(run / "eval" / "val", matrices([2, 4]))
    write_evaluation(run / "eval", matrices([9, 9]))
    (run / "config.yaml").write_text("")
    SPACE.save(run / "labels.json")
    assert compare(run, own).miou.difference == 0
    maps = tmp_path / "maps"
    scored = write_evaluation(maps / "eval", matrices([2, 4]))
    assert compare(maps, scored).miou.difference == 0


def test_what_is_not_there_is_named_with_the_command(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", matrices([5, 5]))
    with pytest.raises(ValueError, match="neither a run folder") as caught:
        compare(first, tmp_path)
    assert "dinoseg eval --predictions" in str(caught.value)
    with pytest.raises(ValueError, match="hf:user/x: what is on the Hub has no figures by image") as caught:
        compare(first, Path("hf:user/x"), "test")
    assert "`dinoseg eval hf:user/x datasets.root=DATA --split test --out FIGURES`" in str(caught.value)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    SPACE.save(tmp_path / "run" / "labels.json")
    with pytest.raises(ValueError, match=r"run `dinoseg eval .*run --split test` first"):
        compare(first, tmp_path / "run", "test")
    second = write_evaluation(tmp_path / "b", matrices([5, 5]))
    np.savez(second / "per_image.npz", names=["image_0", "image_1"], counts=np.ones((2, 3, 2), dtype=np.int64))
    with pytest.raises(ValueError, match="do not add up"):
        compare(first, second)


def test_the_verb_prints_a_table_or_json_and_writes_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_evaluation(tmp_path / "a", matrices([4] * 8))
    second = write_evaluation(tmp_path / "b", matrices([6, 7, 6, 7, 6, 7, 6, 7]))
    before = sorted(tmp_path.rglob("*"))
    assert run_cli(["compare", first, second], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "vessel" in printed and "+25.00" in printed and "beyond chance" in printed
    assert sorted(tmp_path.rglob("*")) == before
    assert run_cli(["compare", first, second, "--json", "--out", tmp_path / "c.json"], monkeypatch) == 0
    contents = json.loads(capsys.readouterr().out)
    assert contents == json.loads((tmp_path / "c.json").read_text())
    assert contents["per_class_IoU"][1]["difference"] == pytest.approx(25)
    assert contents["mIoU"]["beyond_chance"] is True
