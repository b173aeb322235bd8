"""``dinoseg suggest`` on a tiny run: the list, the contact sheet, and what is left out."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, train_tiny_run
from PIL import Image

import dinoseg


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a finished run on it."""
    return train_tiny_run(tmp_path_factory, {"train": 3, "val": 2, "test": 2})


@pytest.fixture
def pictures(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A folder of five pictures without labels, and one that the run was trained on."""
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    trained = sorted((finished[0] / "train" / "images").iterdir())[0]
    (folder / "linked.png").symlink_to(trained)
    return folder


def test_a_list_and_a_contact_sheet_of_what_to_label(
    finished: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run_cli(["suggest", finished[1], pictures, "--n", "3", "--out", out], monkeypatch) == 0
    counted = "3 of 5 images (1 have labels and are left out); unlike each other, and unlike 7 with labels"
    said = f"{counted}; see {out / 'suggestions.csv'}"
    assert said in capsys.readouterr().out
    rows = list(csv.DictReader((out / "suggestions.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and len({row["image"] for row in rows}) == 3
    predictor = dinoseg.load(finished[1])
    for row in rows:
        expected = predictor.predict(row["image"], confidence=True).uncertainty
        assert expected is not None and float(row["uncertainty"]) == pytest.approx(expected.mean(), abs=1e-4)
        assert 0 < float(row["distance"]) < 2
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width >= 3 * 48 and sheet.height > 40
    # Its own sheet is no image to label, and a list of its own may be replaced.
    shutil.copytree(out, pictures / "before")
    assert run_cli(["suggest", finished[1], pictures, "--n", "3", "--out", out], monkeypatch) == 0
    assert said in capsys.readouterr().out
    (out / "suggestions.csv").write_text("mine")
    assert run_cli(["suggest", finished[1], pictures, "--n", "3", "--out", out], monkeypatch) == 1
    assert "suggestions.csv: is there and of something else; give another --out folder" in capsys.readouterr().err
    assert (out / "suggestions.csv").read_text() == "mine"


def test_a_damaged_picture_is_named_and_the_others_are_ranked(
    finished: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (pictures / "bad.png").write_text("no picture")
    assert run_cli(["suggest", finished[1], pictures, "--n", "9", "--out", tmp_path / "out"], monkeypatch) == 1
    said = capsys.readouterr()
    assert "5 of 5 images" in said.out and f"error: {pictures / 'bad.png'}: " in said.err


def test_blank_pictures_are_named(
    finished: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (48, 40), (7, 8, 9)).save(pictures / "covered.png")
    Image.new("L", (48, 40)).save(pictures / "black.png")
    assert run_cli(["suggest", finished[1], pictures, "--n", "2", "--out", tmp_path / "out"], monkeypatch) == 0
    said = "note: 2 of 7 images are blank (one colour all over), with nothing to label: black.png, covered.png; leave"
    assert said in capsys.readouterr().out


def test_a_run_whose_data_is_gone_says_so(
    finished: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [pictures, f"datasets.root={tmp_path / 'gone'}"]
    assert run_cli(["suggest", finished[1], *given, "--n", "2", "--out", tmp_path / "out"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: images with labels are not known, and may be suggested:" in said and "2 of 6 images" in said
    assert "no effect" not in said


def test_rows_of_the_runs_own_tables_are_known(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    from helpers.image_tables import squares, write_table

    own, new = tmp_path / "own", tmp_path / "new.parquet"
    trained = write_table(own / "train-00000-of-00001.parquet", squares(3, seed=1))
    write_table(own / "validation-00000-of-00001.parquet", squares(2, seed=2))
    write_table(new, squares(2, seed=3))
    (tmp_path / "linked.parquet").symlink_to(trained)
    given = [tmp_path / "linked.parquet", new, f"datasets.root={own}"]
    assert run_cli(["suggest", finished[1], *given, "--n", "2", "--out", tmp_path / "out"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "2 of 2 images (3 have labels and are left out); unlike each other, and unlike 5 with labels" in said
    assert "cannot be read" not in said


def test_images_with_labels_that_cannot_be_read_are_counted(
    finished: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = shutil.copytree(finished[0], tmp_path / "data")
    damaged = data / "val" / "images" / "val_0.png"
    damaged.write_text("no picture")
    given = [pictures, f"datasets.root={data}"]
    assert run_cli(["suggest", finished[1], *given, "--n", "2", "--out", tmp_path / "out"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert f"note: 1 of 7 images with labels cannot be read; the first: {damaged}: " in said
    assert "and unlike 6 with labels" in said


def test_mistakes_are_told(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    for arguments, message in (
        ((data / "test" / "images", "--n", "0"), "--n 0: give 1 or more"),
        ((data / "test" / "images",), "all 2 images have labels: they are in the run's own splits; give others"),
        ((tmp_path / "nowhere",), "nowhere"),
    ):
        assert run_cli(["suggest", run, *arguments, "--out", tmp_path / "out"], monkeypatch) == 1
        assert message in capsys.readouterr().err
