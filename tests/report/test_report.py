"""The report: what the page says, which images it shows, and what it refuses."""

import io
import json
import math
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.report_run import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

import dinoseg
from dinoseg.console.policy_words import policy_in_words
from dinoseg.evaluation.bootstrap import bootstrap_intervals
from dinoseg.evaluation.metrics import image_iou
from dinoseg.labels.palette import DISTINCT_COLOURS
from dinoseg.report.curves import chart_svg, linear_ticks, log_ticks, training_charts
from dinoseg.report.html import build_report
from dinoseg.report.learning import learned_images
from dinoseg.report.pictures import VIEWS, Picture, choose_images, data_uris
from dinoseg.run_folder.calibration_file import CalibrationFile, CalibrationRecord, Figures, FittedOn
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.metrics_schema import Window
from dinoseg.run_folder.training_records import read_training_records

QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report."""
    run = make_run(tmp_path_factory.mktemp("report"))
    build_report(run, "val", QUIET)
    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same run, free to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


class Page(HTMLParser):
    """Tags with their attributes, and the text between."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


def test_the_page_is_one_file_that_refers_to_nothing_outside(finished: Path) -> None:
    path = finished / "report.html"
    assert path.stat().st_size < 10_000_000
    assert not list(finished.glob(".*new*"))
    page = Page(path)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    source = path.read_text(encoding="utf-8")
    assert "@import" not in source and "url(" not in source and "fetch(" not in source
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "default-src" in (a.get("content") or ""))
    assert policy is not None and "default-src 'none'" in policy and "http" not in policy


def test_the_head_names_figure_interval_policy_model_data_and_commands(finished: Path) -> None:
    text = Page(finished / "report.html").text
    metrics = json.loads((finished / "eval/val/metrics.json").read_text())
    counts = np.load(finished / "eval/val/per_image.npz")["counts"]
    low, high = bootstrap_intervals(counts).miou or (math.nan, math.nan)
    assert f"{metrics['mIoU']:.2f}" in text
    assert f"95 % interval {low:.2f} to {high:.2f}" in text
    assert "5 images, each counted once." in text and "left out of the means (skip_empty)" in text
    assert "Pixels of label id 3, 255 count nowhere" in text
    assert "tiny_vit8 (frozen), linear head" in text and "checkpoint best, step" in text
    assert str(finished.parent / "data") in text
    assert f"dinoseg eval {finished} --split val" in text and f"dinoseg report {finished} --split val" in text


def test_whatever_else_was_measured_is_shown(copied: Path) -> None:
    path = copied / "eval/val/metrics.json"
    metrics = json.loads(path.read_text())
    metrics |= {"mBoundaryIoU": 12.345, "per_image": {"mIoU": 23.456, "images": 5, "worst": []}}
    for number, row in enumerate(metrics["per_class"]):
        row["BoundaryIoU"] = 61.28 + number if number < 3 else None
    metrics["policy"] |= {"images": 5, "images_available": 9}
    path.write_text(json.dumps(metrics))
    build_report(copied, "val", QUIET, max_images=1, overrides=["eval.mode=whole"])
    text = Page(copied / "report.html").text
    for part in ("mBoundaryIoU 12.3", "mIoU, mean over images 23.46", "BoundaryIoU", "61.28", "63.28"):
        assert part in text
    assert f"dinoseg eval {copied} --split val eval.max_val_samples=5 eval.mode=whole" in text


def test_tables_hold_every_class_escaped_and_absent_ones_as_not_available(finished: Path) -> None:
    page = Page(finished / "report.html")
    metrics = json.loads((finished / "eval/val/metrics.json").read_text())
    for row in metrics["per_class"]:
        assert row["name"] in page.text and f"{row['truth']:,}" in page.text
    assert metrics["per_class"][3]["recall"] is None and "n/a" in page.text
    # A class name is data, never markup.
    assert "<b>never</b>" in page.text and "<b>never" not in (finished / "report.html").read_text()
    assert "3, 255 none ignored: counts nowhere" in page.text


def test_the_page_says_what_a_constant_scores_and_whether_it_is_beaten(copied: Path) -> None:
    path = copied / "eval/val/metrics.json"
    metrics = json.loads(path.read_text())
    build_report(copied, "val", QUIET, max_images=0)
    constant = metrics["constant"]
    assert f"always back: mIoU {constant['mIoU']:.2f} aAcc {constant['aAcc']:.2f}" in Page(copied / "report.html").text
    path.write_text(json.dumps(metrics | {"mIoU": constant["mIoU"]}))
    build_report(copied, "val", QUIET, max_images=0)
    page = Page(copied / "report.html")
    assert "<- not beaten in mIoU" in page.text
    assert ("p", {"class": "warning small", "id": "constant"}) in [
        (tag, {name: value for name, value in attributes.items() if name != "title"}) for tag, attributes in page.tags
    ]
    del metrics["constant"]
    path.write_text(json.dumps(metrics))
    build_report(copied, "val", QUIET, max_images=0)
    assert "always back" not in Page(copied / "report.html").text


def test_the_table_has_the_share_of_each_class_and_hides_the_undefined_on_request(copied: Path) -> None:
    metrics = json.loads((copied / "eval/val/metrics.json").read_text())
    metrics["per_class"][3]["IoU"] = None
    (copied / "eval/val/metrics.json").write_text(json.dumps(metrics))
    build_report(copied, "val", QUIET, max_images=0)
    page = Page(copied / "report.html")
    total = sum(row["truth"] for row in metrics["per_class"])
    for row in metrics["per_class"]:
        assert f"{row['truth']:,} {100 * row['truth'] / total:.2f} %" in page.text
    assert "hide 1 of 4 classes, whose IoU is n/a" in page.text
    assert sum(attributes.get("class") == "undefined" for tag, attributes in page.tags if tag == "tr") == 1
    metrics["per_class"][3]["IoU"] = 0.0
    (copied / "eval/val/metrics.json").write_text(json.dumps(metrics))
    build_report(copied, "val", QUIET, max_images=0)
    assert "whose IoU is n/a" not in Page(copied / "report.html").text


def test_pictures_kept_of_each_evaluation_are_shown_in_their_order(copied: Path) -> None:
    assert "at 3 evaluations" not in Page(copied / "report.html").text
    for step in (200, 1200, 1_000_000):
        folder = copied / f"overlays/val/step_{step:06}"
        folder.mkdir(parents=True)
        Image.new("RGB", (2000, 100)).save(folder / "a.png")
        Image.new("RGB", (200, 100)).save(folder / "b.png")
    (copied / "overlays/val/step_001200/b.png").write_bytes(b"cut")
    (copied / "overlays/val/step_other").mkdir()
    build_report(copied, "val", QUIET, max_images=0)
    text = Page(copied / "report.html").text
    assert "a at 3 evaluations after step 200 after step 1,200 after step 1,000,000" in text
    assert "b at 2 evaluations after step 200 after step 1,000,000" in text
    build_report(copied, "val", QUIET, max_images=2)
    shown = learned_images(RunFolder(copied))
    assert [image.name for image in shown] == ["a", "b"]


def test_of_many_evaluations_a_few_are_shown_with_the_first_and_the_last(tmp_path: Path) -> None:
    for step in range(100, 2500, 100):
        folder = tmp_path / f"overlays/val/step_{step:06}"
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(folder / "a.png")
    (shown,) = learned_images(RunFolder(tmp_path))
    assert [step for step, _ in shown.strips] == [100, 400, 800, 1100, 1400, 1700, 2100, 2400]


def test_the_data_of_the_page_is_that_of_the_evaluation(finished: Path) -> None:
    data = Page(finished / "report.html").data
    matrix = [line.split(",")[1:] for line in (finished / "eval/val/confusion.csv").read_text().splitlines()[1:]]
    assert data["matrix"] == [[int(value) for value in row] for row in matrix]
    ious = [image["iou"] for image in data["images"]]
    assert len(ious) == 5 and ious == sorted(ious)
    recorded = np.load(finished / "eval/val/per_image.npz")
    by_name = dict(zip(recorded["names"].tolist(), recorded["counts"], strict=True))
    for image in data["images"]:
        for entry in image["classes"]:
            intersection, prediction, truth = by_name[image["name"]][:, entry["index"]].tolist()
            assert (entry["prediction"], entry["truth"]) == (prediction, truth)
            assert entry["iou"] == pytest.approx(100 * intersection / (prediction + truth - intersection))
        assert image["ignored"] == pytest.approx(6 * 20 / (40 * 56))


def test_full_pictures_lie_beside_the_page(finished: Path) -> None:
    for image in Page(finished / "report.html").data["images"]:
        assert set(image["full"]) == set(VIEWS)
        for view, link in image["full"].items():
            with Image.open(finished / link) as picture:
                assert picture.width >= 56 and picture.height >= 40
                assert view in ("truth", "prediction") or picture.size == (56, 40)


def test_another_split_has_a_page_of_its_own(copied: Path) -> None:
    shutil.copytree(copied / "eval/val", copied / "eval/test")
    names = np.array(["test_0", "test_1"])
    counts = np.load(copied / "eval/val/per_image.npz")["counts"][:2]
    np.savez(copied / "eval/test/per_image.npz", names=names, counts=counts)
    metrics = copied / "eval/test/metrics.json"
    metrics.write_text(metrics.read_text().replace('"images": 5', '"images": 2'))
    printed = io.StringIO()
    assert build_report(copied, "test", Console(file=printed, width=400)) == copied / "report-test.html"
    # These figures were not computed from these images, which the page must not hide.
    assert "pictures are not what was scored" in printed.getvalue()
    assert "pictures are not what was scored" in Page(copied / "report-test.html").text
    assert "not what was scored" not in Page(copied / "report.html").text


def test_without_pictures_neither_data_nor_checkpoint_is_needed(copied: Path) -> None:
    shutil.rmtree(copied / "checkpoints")
    (copied / "metrics.jsonl").unlink()
    build_report(copied, "val", QUIET, max_images=0, overrides=["datasets.root=gone"])
    text = Page(copied / "report.html").text
    assert "written without pictures" in text and "no metrics.jsonl" in text
    with pytest.raises(ValueError, match=r"datasets\.root=gone.*--max-images 0"):
        build_report(copied, "val", QUIET, overrides=["datasets.root=gone"])


EDITS: dict[str, tuple[str, str, str]] = {
    "label ids": ("labels.json", '"label_ids": [7]', '"label_ids": [7, 9]'),
    "ignored": ("labels.json", '"ignored_ids": [3, 255]', '"ignored_ids": [3, 77, 255]'),
    "config": ("config.yaml", "backbone_scale: 1.0", "backbone_scale: 2.0"),
}


@pytest.mark.parametrize("most", [0, 1])
@pytest.mark.parametrize("edit", EDITS)
def test_what_the_checkpoint_was_not_trained_with_is_named_with_and_without_pictures(
    edit: str, most: int, copied: Path
) -> None:
    file, old, new = EDITS[edit]
    path, page = copied / file, copied / "report.html"
    text = path.read_text() if file == "config.yaml" else json.dumps(json.loads(path.read_text()))
    assert old in text
    path.write_text(text.replace(old, new))
    before = page.read_bytes()
    with pytest.raises(ValueError, match=rf"{file}: not the \w+ that the checkpoint was trained with"):
        build_report(copied, "val", QUIET, max_images=most)
    assert page.read_bytes() == before


def _printed_report(run: Path, split: str = "val", overrides: Sequence[str] = ()) -> str:
    printed = io.StringIO()
    build_report(run, split, Console(file=printed, width=400), overrides=overrides)
    return printed.getvalue()


# Of a random tiny model each of these changes what is predicted.
AS_EVALUATED: dict[str, dict[str, Any]] = {
    "mean": {"transforms.mean": [0.9, 0.1, 0.5]},
    "size": {"transforms.eval.img_size": 16},
    "both": {"eval.mode": "slide", "eval.crop_size": 16, "eval.stride": 8, "transforms": {"std": [0.9, 0.9, 0.9]}},
}


@pytest.mark.parametrize("changes", AS_EVALUATED)
@pytest.mark.parametrize("split", ["val", "test"])
def test_pictures_are_predicted_as_the_recorded_figures_were(changes: str, split: str, copied: Path) -> None:
    dinoseg.evaluate(copied, split, overrides=AS_EVALUATED[changes] | {"device": "cpu"}, write=True)
    assert "not what was scored" not in _printed_report(copied, split)
    page = Page(copied / ("report.html" if split == "val" else "report-test.html"))
    key = next(iter(AS_EVALUATED[changes]))
    command = next(line for line in page.text.split("dinoseg ") if line.startswith("eval "))
    assert f"{key}=" in command and "device=" not in command


def test_settings_given_to_the_report_win_over_the_recorded_ones(copied: Path) -> None:
    dinoseg.evaluate(copied, "val", overrides={"transforms.mean": [0.9, 0.1, 0.5]}, write=True)
    assert "pictures are not what was scored" in _printed_report(copied, overrides=["transforms.mean=[0.1, 0.9, 0.5]"])


def test_recorded_settings_that_cannot_be_read_are_named(copied: Path) -> None:
    path = copied / "eval/val/metrics.json"
    metrics = json.loads(path.read_text())
    for overrides, said in (
        (
            ["config=gone.yaml"],
            r"metrics\.json: overrides: config=gone\.yaml: cannot be read .*; run `dinoseg eval` again",
        ),
        (["bss=4"], r"metrics\.json: overrides: bss=4: unknown key 'bss'"),
        (["datasets.classes={0: a}"], r"metrics\.json: overrides: datasets\.classes=.*label space of a run is fixed"),
        ("bs=4", r"metrics\.json: overrides: .* a list expected"),
    ):
        path.write_text(json.dumps(metrics | {"overrides": overrides}))
        with pytest.raises(ValueError, match=said):
            build_report(copied, "val", QUIET, max_images=0)
    # Of label maps that were scored without a checkpoint.
    del metrics["checkpoint"]
    path.write_text(json.dumps(metrics | {"overrides": ["datasets.classes={0: a}"]}))
    build_report(copied, "val", QUIET, max_images=0)


def test_figures_from_before_the_calibration_are_said(copied: Path) -> None:
    assert "calibrated after" not in _printed_report(copied)
    path = copied / "eval/val/metrics.json"
    metrics = json.loads(path.read_text())
    digest = RunFolder(copied).open_checkpoint("best").weights_sha256
    figures = Figures(ECE=1.0, NLL=1.0)
    CalibrationFile(copied / "calibration.json").write(
        CalibrationRecord(
            temperature=1.5,
            checkpoint="best",
            weights_sha256=digest,
            fitted_on=FittedOn(split="val", images=1, pixels=1, seed=0),
            resolution="native",
            window=Window.model_validate(metrics["policy"]["window"]),
            before=figures,
            after=figures,
        )
    )
    of_training = {key: value for key, value in metrics.items() if key != "weights_sha256"}
    tempered = {"policy": metrics["policy"] | {"temperature": 1.5}}
    # Written later than calibration.json, as a copy may have it.
    for contents, is_said in (
        (of_training, True),
        (metrics | {"weights_sha256": digest}, True),
        (metrics | {"weights_sha256": digest} | tempered, False),
        (metrics | {"weights_sha256": "0" * 64}, False),
    ):
        path.write_text(json.dumps(contents))
        said = f"dinoseg eval {copied} --split val measures its probabilities"
        printed = io.StringIO()
        build_report(copied, "val", Console(file=printed, width=400), max_images=0)
        assert (said in printed.getvalue()) == is_said


def test_a_damaged_calibration_is_said_and_not_needed(copied: Path) -> None:
    (copied / "calibration.json").write_text("{")
    said = _printed_report(copied)
    assert f"note: {copied / 'calibration.json'}: damaged (cut short or not JSON" in said and "written: " in said
    with pytest.raises(ValueError, match=r"calibration\.json: damaged"):
        build_report(copied, "val", QUIET, overrides=["eval.tuned=true"])


def test_a_run_without_evaluation_says_what_to_do(copied: Path) -> None:
    before = (copied / "report.html").read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"run `dinoseg eval {copied} --split test` first")):
        build_report(copied, "test", QUIET)
    with pytest.raises(ValueError, match="--split all: choose train, val, test"):
        build_report(copied, "all", QUIET)
    with pytest.raises(ValueError, match="not a run folder"):
        build_report(copied / "eval", "val", QUIET)
    said = "hf:user/x: as on the Hub, without curves and .* dinoseg export hf:user/x FOLDER, then dinoseg eval FOLDER"
    with pytest.raises(ValueError, match=said):
        build_report(Path("hf:user/x"), "val", QUIET)
    assert (copied / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("metrics.json", b'{"mIoU": 3', "Expecting"),
        ("metrics.json", b"[]", "a list of 0 found, an object expected"),
        ("metrics.json", b'{"mIoU": 3}', "mDice: missing"),
        ("metrics.json", b"\xff\xfe", "not UTF-8"),
        ("confusion.csv", b"truth,a\na,1\n", "where 4 x 4 are expected"),
        ("confusion.csv", b"truth,a\na,x\n", "invalid literal"),
        ("per_image.npz", b"PK", "damaged"),
        ("per_image.npz", None, "missing"),
    ],
)
def test_a_damaged_file_is_named(copied: Path, file: str, content: bytes | None, reason: str) -> None:
    path = copied / "eval/val" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError) as raised:
        build_report(copied, "val", QUIET)
    message = str(raised.value)
    assert str(path) in message and reason in message and "dinoseg eval" in message


def test_classes_of_another_label_space_are_refused(copied: Path) -> None:
    path = copied / "eval/val/metrics.json"
    path.write_text(path.read_text().replace('"red"', '"crimson"'))
    with pytest.raises(ValueError, match=r"crimson.*are not those of labels\.json"):
        build_report(copied, "val", QUIET)


COUNTS = st.integers(1, 9).flatmap(
    lambda images: st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=3),
        min_size=images,
        max_size=images,
    )
)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 10))
def test_images_are_chosen_once_each_worst_first(drawn: list[list[tuple[int, int, int]]], most: int) -> None:
    both, only_prediction, only_truth = np.moveaxis(np.array(drawn, dtype=np.int64), -1, 0)
    counts = np.stack([both, both + only_prediction, both + only_truth], axis=1)
    chosen = choose_images(counts, most)
    assert len(chosen) == len(set(chosen)) == min(most, len(counts))
    scores = np.nan_to_num(image_iou(counts)[chosen], nan=2)
    assert (np.diff(scores) >= 0).all()
    if most:
        worst = np.nan_to_num(image_iou(counts), nan=2).min()
        assert scores[0] == worst


def test_each_class_shows_its_worst_image_when_not_all_fit() -> None:
    # Ten images of class 0, the first worst; class 1 occurs in the best image alone.
    counts = np.array([[[10 + i, 0], [20, 0], [20, 0]] for i in range(10)])
    counts[9] = [[20, 5], [20, 5], [20, 5]]
    assert choose_images(counts, 4) == [0, 1, 2, 9]
    assert image_iou(np.zeros((1, 3, 2), dtype=np.int64)).tolist() == pytest.approx([math.nan], nan_ok=True)


def test_pictures_shrink_until_they_fit_and_are_refused_when_they_cannot() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
    views = dict.fromkeys(VIEWS, noise)
    picture = Picture("a", 0, (640, 480), views, {}, 0.0, np.zeros((3, 2), dtype=np.int64))
    for most in (10_000_000, 400_000):
        uris = data_uris([picture], most)
        assert sum(len(uri) for uri in uris[0].values()) <= most
    with pytest.raises(ValueError, match="show fewer with --max-images"):
        data_uris([picture], 1000)


def test_the_policy_in_words() -> None:
    policy = {
        "absent_classes": "zero",
        "resolution": "native",
        "window": {
            "mode": "slide",
            "crop": [512, 640],
            "stride": [341, 341],
            "blend": "hann",
            "tta": {"scales": [0.5, 1.0], "horizontal_flip": True, "right_angle_rotations": False},
        },
        "images": 10,
        "images_available": 40,
        "ignored_label_ids": [0xFF0000],
        "reduce_zero_label": False,
    }
    text = " ".join(policy_in_words(policy, "colours"))
    assert "10 of 40 images: an evenly spread, fixed subset" in text
    assert "Sliding windows of 512 × 640 px, stride 341 × 341 px, hann blend." in text
    assert "scales 0.5, 1, horizontal flip." in text
    assert "a figure without pixels is 0 (zero)" in text and "label id #ff0000 count nowhere" in text
    members = [{"run": "runs/a", "checkpoint": "best"}, {"run": "runs/b", "checkpoint": "best"}]
    said = "The mean of the class probabilities of 2 runs: runs/a (checkpoint best), runs/b (checkpoint best)."
    assert said in policy_in_words({"images": 1, "members": members})
    assert policy_in_words({"images": 1}) == ["1 image, each counted once.", "No label id is ignored."]


def test_curves_come_from_the_lines_that_are_whole(tmp_path: Path) -> None:
    lines = [{"kind": "train", "step": step, "loss": 1 / step, "learning_rate": 0.1} for step in range(1, 51)]
    lines += [{"kind": "val", "step": 50, "mIoU": 40.0, "mDice": None, "aAcc": 90.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "train", "st'
    (tmp_path / "metrics.jsonl").write_text(text)
    loss, val, rate = training_charts(read_training_records(tmp_path / "metrics.jsonl"))
    assert [series.name for series in loss.series] == ["loss", "loss, smoothed"] and loss.log_scale
    assert loss.series[0].values == tuple(1 / step for step in range(1, 51))
    assert [series.name for series in val.series] == ["mIoU", "aAcc"] and val.markers
    assert rate.title == "Learning rate"
    points = re.search(r'points="([^"]+)"', chart_svg(rate, 50))
    assert points
    across = [float(point.split(",")[0]) for point in points[1].split()]
    assert across == sorted(across) and across[-1] == 368 and len(across) == 50
    assert training_charts([]) == [] and read_training_records(tmp_path / "none") == []


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_cover_the_values_and_are_few(low: float, span: float) -> None:
    high = low + span
    ticks = linear_ticks(low, high)
    room = 1e-8 * max(1.0, abs(low), abs(high))
    assert ticks[0] <= low + room and ticks[-1] >= high - room and 2 <= len(ticks) <= 7
    assert (np.diff(ticks) > 0).all()


def test_ticks_by_hand() -> None:
    assert linear_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert linear_ticks(0, 300, 4) == [0, 100, 200, 300]
    assert log_ticks(0.02, 3) == [0.01, 0.1, 1, 10]
    assert log_ticks(10, 10) == [10, 100]


# Simulation of deuteranopia: Machado et al., A physiologically-based model for simulation of color vision deficiency
# (2009), table of severity 1.0; it applies to linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("sight", [np.eye(3), DEUTERANOPIA], ids=["normal", "deuteranope"])
def test_twelve_classes_are_distinct_to_every_eye(sight: np.ndarray) -> None:
    colours = np.array(DISTINCT_COLOURS) / 255
    assert len(colours) == 12
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lab = _lab(np.clip(linear @ sight.T, 0, 1))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(12, 1)]
    # About 2.3 is just noticeable; 20 is another colour at a glance, also in a thin line.
    assert distance.min() > 20
