"""Every layout that the pages name, from check to predict: counts of pixels are those of the mask files, by numpy."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.annotated import IMPORTS, write_and_import
from helpers.layouts import LAYOUTS, LaidOut, read_ids, write_layout
from helpers.tiny import run_cli, tiny_settings

ROOT, RUN, OUT = Path("data"), Path("run"), Path("out")
CHEAPEST = (
    "scheduler.total_iter=2",
    "bs=1",
    "transforms.train.crop_size=16",
    "eval.num_visualizations=0",
    "trackers=[]",
    "train.cache_features=false",
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_checked_trained_on_evaluated_and_predicted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = LAYOUTS[name]
    laid = write_layout(ROOT, layout)
    _run_all_verbs(monkeypatch, *layout.settings)
    _assert_counts(laid, dict(layout.names), set(layout.ignored), monkeypatch)


@pytest.mark.parametrize("name", IMPORTS)
def test_what_is_imported_is_checked_trained_on_evaluated_and_predicted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    laid, settings = write_and_import(IMPORTS[name], ROOT, monkeypatch)
    for image, mask in laid.mask_files.items():
        np.testing.assert_array_equal(read_ids(mask), laid.truth[image], err_msg=str(mask))
    _run_all_verbs(monkeypatch, *settings)
    _assert_counts(laid, {0: "background", 1: "artery", 2: "vein"}, set(), monkeypatch)


def _run_all_verbs(patch: pytest.MonkeyPatch, *settings: str) -> None:
    assert run_cli(["check", f"datasets.root={ROOT}", *settings], patch) == 0
    assert run_cli(["train", *tiny_settings(ROOT, RUN, *CHEAPEST, *settings)], patch) == 0
    assert run_cli(["eval", RUN], patch) == 0


def _evaluated(laid: LaidOut) -> list[Path]:
    """The images of the split val: as laid out, listed, or recorded where the program made the splits."""
    if "val" in laid.splits:
        return laid.splits["val"]
    if (RUN / "splits.json").exists():
        return [ROOT / name for name in json.loads((RUN / "splits.json").read_text())["val"]]
    stems = {str(name).rpartition("/")[2] for name in np.load(RUN / "eval/val/per_image.npz")["names"]}
    return [image for image in laid.truth if image.stem in stems]


def _assert_counts(laid: LaidOut, names: dict[int, str], ignored: set[int], patch: pytest.MonkeyPatch) -> None:
    images = _evaluated(laid)
    assert run_cli(["predict", RUN, *images, "--out", OUT], patch) == 0
    figures = json.loads((RUN / "eval/val/metrics.json").read_text())
    assert images and figures["policy"]["images"] == len(images)
    rows = {_number(row["label_id"]): row for row in figures["per_class"]}
    assert {label_id: rows[label_id]["name"] for label_id in names} == names
    written = json.loads((OUT / "predictions.json").read_text())["labels"]
    predicted = np.stack([read_ids(OUT / written[str(image)]) for image in images])
    truth = np.stack([np.where(laid.truth[i] < 0, -1, read_ids(laid.mask_files[i])) for i in images])
    assert set(np.unique(predicted)) <= set(rows)
    # Every label id occurs in every mask; -1 is outside a region.
    assert set(np.unique(truth)) - {-1} == set(names) | ignored and not ignored & set(rows)
    known = np.isin(truth, list(rows))
    for label_id, row in rows.items():
        of_truth, of_prediction = truth == label_id, known & (predicted == label_id)
        counts = [int(pixels.sum()) for pixels in (of_truth & of_prediction, of_prediction, of_truth)]
        assert counts == [row["intersection"], row["prediction"], row["truth"]], row["name"]


def _number(label_id: int | str) -> int:
    return int(label_id[1:], 16) if isinstance(label_id, str) else label_id
