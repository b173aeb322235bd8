"""Volumes from check to predict and export: files compared by nibabel, figures by numpy."""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings
from helpers.volume_files import affine_of, ball, write_volume
from PIL import Image

CHEAP = (
    "scheduler.total_iter=2",
    "eval.crop_size=32",
    "eval.num_visualizations=0",
    "trackers=[]",
    "train.cache_features=false",
)
CASES = {
    "Tr/case_1": ((20, 17, 3), (0.7, 0.7, 5.0), False),
    "Tr/case_2": ((15, 24, 4), (0.9, 0.8, 3.0), True),
    "Tr/case_3": ((3, 22, 19), (4.0, 0.8, 0.8), False),
    "Ts/case_4": ((21, 16, 3), (0.7, 0.7, 5.0), True),
    "Ts/case_5": ((18, 18, 2), (0.8, 0.8, 4.0), False),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on nnU-Net's folders: ``data`` and ``run``."""
    base = tmp_path_factory.mktemp("volumes")
    for number, (name, (shape, spacing, flipped)) in enumerate(CASES.items()):
        values, labels = ball(shape, seed=number)
        split, case = name.split("/")
        for folder, stem, stored in (("images", f"{case}_0000", values), ("labels", case, labels)):
            write_volume(base / "data" / f"{folder}{split}" / f"{stem}.nii.gz", stored, affine_of(spacing, flipped))
    names = {"background": 0, "organ": 1, "stone": 2}
    (base / "data" / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        assert run_cli(["train", *tiny_settings(base / "data", base / "run", *CHEAP)], patch) == 0
        assert run_cli(["eval", base / "run", "--split", "test"], patch) == 0
    return base


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_the_splits_are_of_volumes(run: Path) -> None:
    made = json.loads((run / "run" / "splits.json").read_text())
    assert sorted(made["train"] + made["val"]) == [f"imagesTr/case_{number}_0000.nii.gz" for number in (1, 2, 3)]


def test_predictions_are_what_was_evaluated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the evaluation, slice by slice, are those of the written volumes, by numpy alone."""
    command = ["predict", run / "run", run / "data" / "imagesTs", "--out", tmp_path / "out"]
    assert run_cli(command, monkeypatch) == 0
    metrics = json.loads((run / "run" / "eval" / "test" / "metrics.json").read_text())
    assert metrics["policy"]["slices"] == 5 and metrics["policy"]["volumes"] == 2
    for figures in metrics["per_volume"]["figures"]:
        source = nibabel.load(run / "data" / "imagesTs" / f"{figures['name']}_0000.nii.gz")
        written = nibabel.load(tmp_path / "out" / "labels" / f"{figures['name']}_0000.nii.gz")
        assert written.shape == source.shape and written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.header.get_zooms() == source.header.get_zooms()
        for code in ("sform_code", "qform_code", "xyzt_units"):
            assert written.header[code] == source.header[code]
        found, truth = np.asarray(written.dataobj), read(run / "data" / "labelsTs" / f"{figures['name']}.nii.gz")
        both = [((found == c) & (truth == c)).sum() for c in range(3)]
        sizes = [(found == c).sum() + (truth == c).sum() for c in range(3)]
        assert figures["Dice"] == pytest.approx([200 * b / s for b, s in zip(both, sizes, strict=True)])
        assert figures["IoU"] == pytest.approx([100 * b / (s - b) for b, s in zip(both, sizes, strict=True)])
        with Image.open(tmp_path / "out" / "overlays" / f"{figures['name']}_0000.png") as overlay:
            assert overlay.width >= source.shape[0]
    recorded = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert sorted(recorded["labels"].values()) == ["labels/case_4_0000.nii.gz", "labels/case_5_0000.nii.gz"]
    capsys.readouterr()
    assert run_cli(command, monkeypatch) == 0
    assert "0 predicted, 2 already there" in capsys.readouterr().out


def test_label_volumes_are_scored_as_the_run_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert run_cli(["predict", run / "run", run / "data" / "imagesTs", "--out", out], monkeypatch) == 0
    arguments = ["--predictions", out, "--masks", run / "data" / "labelsTs", "--out", tmp_path / "scored"]
    classes = "datasets.classes={0: background, 1: organ, 2: stone}"
    assert run_cli(["eval", *arguments, classes], monkeypatch) == 0
    scored, own = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "scored", run / "run" / "eval" / "test")
    )
    assert scored["per_class"] == own["per_class"] and scored["confidence"] == own["confidence"]
    assert [row["Dice"] for row in scored["per_volume"]["figures"]] == [
        row["Dice"] for row in own["per_volume"]["figures"]
    ]


def test_an_exported_run_predicts_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The label volume of a single slice has two axes, as its image has."""
    values, _ = ball((12, 10, 1), seed=3)
    image = write_volume(tmp_path / "in" / "flat.nii", values[..., 0])
    assert run_cli(["export", run / "run", tmp_path / "exported"], monkeypatch) == 0
    for name in ("exported", "again"):
        source = run / "run" if name == "again" else tmp_path / name
        assert run_cli(["predict", source, image, "--out", tmp_path / f"of_{name}"], monkeypatch) == 0
    exported, again = (read(tmp_path / f"of_{name}" / "labels" / "flat.nii.gz") for name in ("exported", "again"))
    assert exported.shape == (12, 10)
    np.testing.assert_array_equal(exported, again)


def test_what_cannot_be_predicted_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = write_volume(tmp_path / "in" / "cut.nii.gz", ball((12, 10, 3))[0])
    cut.write_bytes(cut.read_bytes()[:300])
    write_volume(tmp_path / "in" / "time.nii.gz", np.ones((4, 5, 3, 2), np.int16))
    write_volume(tmp_path / "in" / "good.nii.gz", ball((12, 10, 3))[0])
    foreign = tmp_path / "out" / "labels" / "good.nii.gz"
    write_volume(foreign, ball((12, 10, 3))[1])
    assert run_cli(["predict", run / "run", tmp_path / "in", "--out", tmp_path / "out"], monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "cut.nii.gz: truncated or damaged" in said
    assert "time.nii.gz: has 4 axes (4 x 5 x 3 x 2): several volumes" in said
    assert "good.nii.gz is there and is no prediction of dinoseg's, and would be overwritten" in said
    regions = tmp_path / "fov"
    write_volume(regions / "good.nii.gz", ball((12, 10, 3))[1])
    inputs = ["predict", run / "run", tmp_path / "in" / "good.nii.gz", "--regions", regions, "--out", tmp_path / "o"]
    assert run_cli(inputs, monkeypatch) == 1
    assert "a volume, and --regions and --mask-ignored are of others" in " ".join(capsys.readouterr().err.split())
    with gzip.open(foreign) as kept:
        assert kept.read(4) == b"\x5c\x01\0\0"  # still that of nibabel
