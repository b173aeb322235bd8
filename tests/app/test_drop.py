"""Pictures through runs, without a server: label maps as ``dinoseg predict`` writes them, failures in one line."""

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli
from PIL import Image

from dinoseg.app import judging
from dinoseg.app.answers import Answer, Answers
from dinoseg.app.drop import Progress, predict_dropped
from dinoseg.app.fragments import Fragments, percent
from dinoseg.app.gallery import Gallery
from dinoseg.app.memory import ControlGroup, free_bytes, refuse_beyond_memory
from dinoseg.app.shown_run import ShownRun, open_runs
from dinoseg.inference.chosen_runs import choose_runs


@pytest.fixture(scope="module")
def runs(tiny_run: tuple[Path, Path]) -> tuple[ShownRun, ...]:
    return open_runs([choose_runs([tiny_run[1]], device="cpu")])


def drop(runs: Sequence[ShownRun], gallery: Gallery, *files: Path) -> list[Progress]:
    return list(predict_dropped(runs, gallery, files))


def odd_pictures(folder: Path) -> list[Path]:
    """Sixteen bits, four bands, CMYK, a palette with alpha, turned by EXIF."""
    folder.mkdir()
    generator = np.random.default_rng(3)
    deep = generator.integers(0, 65536, (40, 48)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.tif")
    colours = generator.integers(0, 256, (40, 48, 4)).astype(np.uint8)
    Image.fromarray(colours).save(folder / "four.tif")
    Image.fromarray(colours, "CMYK").save(folder / "print.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours[..., :3].copy()).save(folder / "turned.jpg", exif=exif)
    return sorted(folder.iterdir())


def test_label_maps_are_the_bytes_that_predict_writes(
    runs: tuple[ShownRun, ...], tiny_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = tiny_run
    files = [*sorted((data / "test" / "images").iterdir()), *odd_pictures(tmp_path / "odd")]
    assert run_cli(["predict", run, *files, "--out", tmp_path / "out", "--device", "cpu"], monkeypatch) == 0
    gallery = Gallery(tmp_path / "pictures")
    told = drop(runs, gallery, *files)
    pictures = [progress.finished for progress in told if progress.finished is not None]
    assert [picture.file_name for picture in pictures] == [file.name for file in files]
    assert gallery.judged(pictures[0].key, 0).notes == ()
    answers = Answers(gallery)
    for picture in pictures:
        expected = tmp_path / "out" / "labels" / f"{picture.name}.png"
        answer = answers.labels(picture.key, 0)
        assert (answer.body, answer.name) == (expected.read_bytes(), expected.name)
        drawn = Image.open(BytesIO(answers.overlay(picture.key, 0, "classes", 50.0, "").body))
        assert np.array_equal(drawn, Image.open(tmp_path / "out" / "overlays" / expected.name))
    packed = zipfile.ZipFile(BytesIO(answers.all_labels(",".join(picture.key for picture in pictures)).body))
    assert sorted(packed.namelist()) == sorted(f"{file.stem}.png" for file in files)
    assert packed.read("deep.png") == (tmp_path / "out" / "labels" / "deep.png").read_bytes()


def test_a_file_is_saved_by_its_name() -> None:
    assert Answer(b"", name="a b\u00e4\udcff.png").headers == {
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment; filename*=UTF-8''a%20b%C3%A4%FF.png",
    }
    assert Answer(b"").headers == {"Cache-Control": "no-store"}


def test_shares_and_confidence_are_those_of_the_prediction(
    runs: tuple[ShownRun, ...], tiny_run: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tiny_run[0] / "test" / "images" / "test_0.png"
    gallery = Gallery(tmp_path / "pictures")
    judged = gallery.judged(drop(runs, gallery, file)[-2].finished.key, 0)
    expected = runs[0].predictor.predict(file, confidence=True)
    assert expected.confidence is not None
    assert judged.size == (56, 40)
    assert [line.share for line in judged.legend] == [float((expected.class_map == i).mean()) for i in range(3)]
    assert judged.confidence == pytest.approx(float(expected.confidence.mean()), abs=1 / 500)
    page = Fragments(runs, "").result(gallery.get(judged.seen.parent.parent.name))
    assert page.count('type="checkbox"') == 3 and page.count(" disabled") == 1  # a background is never drawn
    assert all(f"<b>{percent(line.share)}</b>".replace("<b><", "<b>&lt;") in page for line in judged.legend)


def test_progress_tells_pictures_and_stripes(
    tiny_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of several stripes through two runs: the bar never goes back."""
    windows = ["eval.crop_size=128", "eval.stride=128"]
    runs = open_runs([choose_runs([tiny_run[1]], device="cpu", overrides=windows)])
    Image.new("RGB", (1100, 500), (220, 60, 40)).save(tmp_path / "wide.png")
    monkeypatch.setattr("dinoseg.app.told._SECONDS", 0.001)
    told = drop([*runs, *runs], Gallery(tmp_path / "pictures"), tmp_path / "wide.png")
    where = [progress.done + progress.share for progress in told]
    assert where == sorted(where) and where[0] == 0 and where[-1] == 1
    assert any(0 < at < 0.5 for at in where) and any(0.5 < at < 1 for at in where)
    first, last = (Fragments(runs, "").status(progress, []) for progress in (told[0], told[-1]))
    assert "<progress" in first and "<progress" not in last


def test_what_cannot_be_predicted_is_one_line_and_the_others_go_on(
    runs: tuple[ShownRun, ...], tiny_run: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    (tmp_path / "nothing.png").write_bytes(b"")
    np.save(tmp_path / "empty.npy", np.zeros((0, 5, 3), np.uint8))
    (tmp_path / "a brain.nii.gz").write_bytes(b"\x1f\x8b")
    good = tiny_run[0] / "test" / "images" / "test_0.png"
    bad = [tmp_path / name for name in ("notes.png", "nothing.png", "empty.npy", "a brain.nii.gz", "gone.png")]
    gallery = Gallery(tmp_path / "pictures")
    told = drop(runs, gallery, *bad[:3], good, *bad[3:])
    failed = told[-1].failed
    assert failed[0] == "notes.png: not an image that can be read; replace or remove the file"
    assert failed[1].startswith("nothing.png: ") and failed[2].startswith("empty.npy: ")
    assert failed[3].startswith("a brain.nii.gz: a volume; dinoseg predict ")
    assert " 'a brain.nii.gz' predicts it slice by slice" in failed[3]
    assert "gone.png" in failed[4] and len(failed) == 5
    assert not any("\n" in message or "pictures/" in message for message in failed)
    assert [progress.finished.file_name for progress in told if progress.finished] == ["test_0.png"]
    # Nothing is left of the others.
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    words = Fragments(runs, "").status(told[-1], [])
    assert "6 pictures done; 5 of them could not be predicted." in words and words.count("<li>") == 5


def test_a_picture_beyond_the_memory_is_refused_by_its_header(
    runs: tuple[ShownRun, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    monkeypatch.setattr(judging, "free_bytes", lambda: 3_000_000_000)
    told = drop(runs, Gallery(tmp_path / "pictures"), tmp_path / "huge.png")
    assert told[-1].failed == (
        "huge.png: 10,000 x 10,000 pixels (100 megapixels) take about 4.8 GB to predict, and 3.0 GB are free; cut it "
        "into tiles, or close what else runs (dinoseg predict takes a GeoTIFF of any size, block by block)",
    )


def test_scores_of_a_picture_in_one_piece_take_memory_too(tmp_path: Path) -> None:
    Image.new("1", (1000, 1000)).save(tmp_path / "large.png")
    refuse_beyond_memory(tmp_path / "large.png", 100_000_000, scores=0)
    with pytest.raises(ValueError, match=r"take about 1\.2 GB to predict, and 1\.0 GB are free"):
        refuse_beyond_memory(tmp_path / "large.png", 1_000_000_000, scores=150)


def test_free_memory_is_that_of_the_container_where_it_has_less(tmp_path: Path) -> None:
    group = ControlGroup(tmp_path / "max", tmp_path / "current", tmp_path / "stat", "total_")
    assert group.free() is None
    (tmp_path / "current").write_text("700\n")
    (tmp_path / "stat").write_text("total_active_file 30\ntotal_inactive_file 170\nactive_file 5\n")
    (tmp_path / "max").write_text("max\n")
    assert group.free() is None
    (tmp_path / "max").write_text("1000\n")
    assert group.free() == 1000 - 700 + 200
    assert free_bytes([group]) == 500 and free_bytes([]) > 1_000_000


def test_the_eldest_picture_leaves_with_its_files(
    runs: tuple[ShownRun, ...], tiny_run: tuple[Path, Path], tmp_path: Path
) -> None:
    files = sorted((tiny_run[0] / "test" / "images").iterdir())
    gallery = Gallery(tmp_path / "pictures", most=2)
    told = drop(runs, gallery, *files)
    keys = [progress.finished.key for progress in told if progress.finished]
    assert len(gallery) == 2 and {path.name for path in (tmp_path / "pictures").iterdir()} == set(keys[1:])
    answers = Answers(gallery)
    gone = answers.drawn(keys[0], 0, "classes", 50.0, "")
    assert (gone.status, gone.body) == (404, b"this picture is not kept any more: drop it again")
    assert answers.drawn(keys[1], 0, "classes", 50.0, "").status == 200
    assert answers.drawn(keys[1], 1, "classes", 50.0, "").status == 404
    assert answers.drawn(keys[1], 0, "depth", 50.0, "").status == 400
    assert zipfile.ZipFile(BytesIO(answers.all_labels(",".join(keys)).body)).namelist() == ["test_1.png", "test_2.png"]


def test_several_runs_are_columns_and_one_is_not_given_twice(
    tiny_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run[1]
    assert run_cli(["export", run, tmp_path / "other" / "run"], monkeypatch) == 0
    # A run that learned from volumes says so, and one that reads values as well.
    (run / "eval" / "val").mkdir(parents=True, exist_ok=True)
    metrics = run / "eval" / "val" / "metrics.json"
    before = metrics.read_text() if metrics.exists() else None
    metrics.write_text(json.dumps({"policy": {"volumes": 3}}))
    shown = open_runs([choose_runs([run], device="cpu"), choose_runs([tmp_path / "other" / "run"], device="cpu")])
    if before is None:
        metrics.unlink()
    else:
        metrics.write_text(before)
    assert [column.title for column in shown] == [f"{run.parent.name}/run", "other/run"]
    assert "It learned from slices of volumes" in shown[0].notes[0] and shown[1].notes == ()
    gallery = Gallery(tmp_path / "pictures")
    picture = drop(shown, gallery, tiny_run[0] / "test" / "images" / "test_0.png")[-2].finished
    assert picture is not None
    first, second = (gallery.judged(picture.key, index).labels.read_bytes() for index in (0, 1))
    assert np.array_equal(Image.open(BytesIO(first)), Image.open(BytesIO(second)))
    assert {name for name, _ in gallery.label_maps([picture.key])} == {
        f"{run.parent.name}_run/test_0.png",
        "other_run/test_0.png",
    }
    assert "compared, not averaged" in Fragments(shown, "").head()
    with pytest.raises(ValueError, match="is given twice; each run has one column: leave one out"):
        open_runs([choose_runs([run])] * 2)
    with pytest.raises(ValueError, match=f"^{run} and {run}/../run are one folder; each run has one column"):
        open_runs([choose_runs([str(run)]), choose_runs([f"{run}/../run"])])


def test_a_run_of_bands_says_what_to_drop(tiny_run: tuple[Path, Path]) -> None:
    (shown,) = open_runs([choose_runs([tiny_run[1]], device="cpu", overrides=["datasets.range=-10,300"])])
    assert shown.notes == (
        "It reads values of -10 to 300 (datasets.range): drop TIFF or .npy files that hold such, no screenshots.",
    )


def test_a_dark_picture_and_a_map_are_told(
    runs: tuple[ShownRun, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((20, 24), 900, np.uint16)).save(tmp_path / "dark.tif")
    monkeypatch.setattr(judging, "is_map", lambda source: True)
    gallery = Gallery(tmp_path / "pictures")
    picture = drop(runs, gallery, tmp_path / "dark.tif")[-2].finished
    assert picture is not None
    dark, placed = gallery.judged(picture.key, 0).notes
    assert dark.startswith("dark.tif: the brightest value of this picture with 16 bits is 900")
    assert placed.endswith(f"dinoseg predict {runs[0].words} dark.tif keeps it.")


def test_small_shares_are_not_nothing() -> None:
    assert [percent(share) for share in (0.0, 0.0001, 0.123, 0.99999, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "12.3 %",
        "99.9 %",
        "100.0 %",
    ]
