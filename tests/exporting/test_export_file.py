"""Exported files: what they predict is what the run predicts, and a file that does not is never there."""

import io
import json
import logging
import re
import resource
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_tables import squares, write_table
from helpers.tiny import WINDOWS, run_cli, train_tiny_run
from PIL import Image

import dinoseg
import dinoseg.onnx
from dinoseg.exporting import parity
from dinoseg.models.deformable_sampling import plain_samples, sample_levels
from dinoseg.models.mask_output import MaskOutput, semantic_map

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*random initialisation.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
HEADS = {
    "linear": [],
    "dense": ["decoder_head.stem_widths=[8,8,8,8]", "decoder_head.context_widths=[16]", "model.backbone_scale=1.5"],
    "pmt": ["decoder_head.decoder_layers=1", "decoder_head.num_queries=4"],
    "eomt": ["decoder_head.decoder_layers=1", "decoder_head.num_queries=4"],
    "m2f": [
        "decoder_head.decoder_layers=1",
        "decoder_head.encoder_layers=1",
        "decoder_head.num_queries=4",
        "decoder_head.hidden_dim=32",
    ],
}


@pytest.fixture(scope="module", params=sorted(HEADS))
def run_of_head(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    head = request.param
    return train_tiny_run(tmp_path_factory, {"train": 2, "val": 2}, f"decoder_head.type={head}", *HEADS[head], *WINDOWS)


def test_a_file_predicts_the_label_ids_of_its_run(
    run_of_head: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, folder = run_of_head
    file = tmp_path / "model.onnx"
    assert run_cli(["export", folder, file], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "windows of 32 x 32 px, fp32" in printed and "proved on 2 pictures" in printed
    assert f"next: import dinoseg.onnx; dinoseg.onnx.load({str(file)!r}).predict(IMAGE).labels" in printed
    beside = json.loads((tmp_path / "model.onnx.json").read_text())
    assert (beside["file"], beside["checkpoint"], beside["precision"]) == ("model.onnx", "best", "fp32")
    assert beside["window"] == [32, 32]
    assert beside["share_of_range"] < 1e-4 and beside["pixels"] == 2 * 40 * 56
    assert "CastLike" not in {node.op_type for node in onnx.load(file).graph.node}
    picture = next((data / "val" / "images").iterdir())
    found, expected = dinoseg.onnx.load(file).predict(picture), dinoseg.load(folder, device="cpu").predict(picture)
    assert found.labels.dtype == expected.labels.dtype
    assert (found.labels != expected.labels).mean() < 1e-3
    assert found.label_space == expected.label_space and found.class_names == expected.class_names


def test_a_file_tells_no_place_of_the_machine_that_wrote_it(
    run: tuple[Path, Path], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "model.pt2"
    assert run_cli(["export", run[1], program], monkeypatch) == 0
    with zipfile.ZipFile(program) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert any(b"aten.conv2d" in content for content in contents)
    for place in (Path(dinoseg.__file__).parent, Path(torch.__file__).parent, run[0].parent):
        assert not any(str(place).encode() in content for content in (exported.read_bytes(), *contents))
    assert not any(node.metadata_props for node in onnx.load(exported).graph.node)


@pytest.mark.parametrize("run_of_head", ["linear", "pmt"], indirect=True)
def test_label_ids_and_probabilities_are_those_of_the_run(
    run_of_head: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = run_of_head
    assert run_cli(["calibrate", folder, "device=cpu"], monkeypatch) == 0
    file = tmp_path / "model.onnx"
    assert run_cli(["export", folder, file, "--labels", f"datasets.root={data}"], monkeypatch) == 0
    opened = dinoseg.onnx.load(file)
    calibrated = json.loads((folder / "calibration.json").read_text())["temperature"]
    assert opened.description.temperature == calibrated != 1.0
    picture = next((data / "val" / "images").iterdir())
    expected = dinoseg.load(folder, device="cpu").predict(picture, probabilities=True).probabilities
    np.testing.assert_allclose(opened.probabilities(picture), expected, atol=2e-4)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    windows = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    assert [value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())] == ["batch"] * 3
    logits, labels = session.run(["logits", "labels"], {"images": windows})
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.array([0, 1, 2])[logits.argmax(axis=1)])
    assert run_cli(["export", folder, tmp_path / "model.pt2", "--labels"], monkeypatch) == 0


def test_pytorch_is_not_needed_to_predict(run: tuple[Path, Path], exported: Path) -> None:
    picture = next((run[0] / "val" / "images").iterdir())
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from dinoseg import onnx\n"
        f"print(onnx.predict({str(exported)!r}, {str(picture)!r}).labels.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("(40, 56)", 0), done.stderr


def test_a_run_that_sees_images_in_one_piece_gets_a_window_of_their_size(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = run
    file = tmp_path / "model.onnx"
    assert run_cli(["export", folder, file, "eval.mode=whole"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "windows of 40 x 56 px: label maps of images of another size differ from those of `dinoseg predict`" in said
    opened = dinoseg.onnx.load(file)
    assert opened.description.window.size == [40, 56]
    # Of any other size it is cut, and padded where it is smaller.
    for size in ((90, 33), (20, 30), (41, 57)):
        image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        assert opened.predict(image).labels.shape == size


def test_settings_that_decide_predictions_are_kept_or_refused(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["eval.crop_size=40", "eval.blend=hann", f"datasets.root={run[0]}"]
    assert run_cli(["export", run[1], tmp_path / "folder", *given], monkeypatch) == 0
    assert run_cli(["export", run[1], tmp_path / "a.onnx", "eval.use_tta=true", *given], monkeypatch) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no effect" not in said and "predicts without test-time augmentation (eval.use_tta=true)" in said
    picture = next((run[0] / "val" / "images").iterdir())
    file, folder = dinoseg.onnx.load(tmp_path / "a.onnx"), dinoseg.load(tmp_path / "folder", device="cpu")
    assert file.description.window.size == [40, 40]
    assert (file.predict(picture).labels != folder.predict(picture).labels).mean() < 1e-3
    assert run_cli(["export", run[1], tmp_path / "b.onnx", "eval.tuned=true"], monkeypatch) == 1
    assert "a file decides by its scores, without weights of classes" in " ".join(capsys.readouterr().err.split())


def test_half_precision_and_programs_are_proved_too(
    run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, folder = run
    assert run_cli(["export", folder, tmp_path / "half.onnx", "--fp16"], monkeypatch) == 0
    assert "fp16" in capsys.readouterr().out
    half = dinoseg.onnx.load(tmp_path / "half.onnx")
    assert half.scores(next((data / "val" / "images").iterdir())).dtype == np.float32
    assert run_cli(["export", folder, tmp_path / "model.PT2"], monkeypatch) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    said = {"dinoseg": ""}
    program = torch.export.load(io.BytesIO((tmp_path / "model.PT2").read_bytes()), extra_files=said)
    assert json.loads(said["dinoseg"])["labels"]["num_classes"] == 3
    # The batch is of any size, as docs/onnx.md says.
    for batch in (1, 3, 257):
        assert program.module()(torch.zeros(batch, 3, 32, 32)).shape == (batch, 3, 32, 32)
    # What the page gives to coremltools is of a dialect that it takes: it refuses "TRAINING".
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    (decomposed,) = re.findall(r"coremltools\.convert\(torch\.export\.load\(\"vessels\.pt2\"\)(.*?)\)`", page)
    assert decomposed == ".run_decompositions({})"
    assert program.run_decompositions({}).dialect in ("ATEN", "EDGE")


def test_a_file_that_differs_from_its_run_is_not_there(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = dinoseg.onnx.OnnxSegmenter.scores
    monkeypatch.setattr(dinoseg.onnx.OnnxSegmenter, "scores", lambda self, image: honest(self, image) * 1.5)
    assert run_cli(["export", run[1], tmp_path / "model.onnx"], monkeypatch) == 1
    printed = capsys.readouterr().err
    assert "not written. Its scores differ from the run's by up to" in printed and "0.001 is allowed" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_no_number_is_far_away() -> None:
    class Broken:
        def scores(self, image: Path) -> np.ndarray:
            return np.full((2, 3, 3), np.nan, np.float32)

    found = parity.compare([np.zeros((2, 3, 3), np.float32)], Broken(), [Path("a.png")])
    assert found.largest_difference == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{run}", "{out}"], "is given twice"),
        (["{run}", "{out}", "--tolerance", "0"], "--tolerance 0: give a share above 0 and at most 1"),
        (["{run}", "{folder}", "--fp16"], "--fp16 is of files:"),
        (["{run}", "{folder}", "--labels"], "--labels is of files:"),
        (["{run}", "{typo}"], "a.onn: did you mean"),
        (["{run}", "{folder}.trt"], ".trt files are made by their own tools, of FILE.onnx or FILE.pt2"),
        (["{run}", "{there}"], "exists, and is kept; give a new name, or remove it"),
        (["{run}", "{out}", "datasets.root=/nowhere"], "give some with --images FOLDER"),
        (["{run}", "{out}", "--images", "{table}"], "rows of tables are no files of their own"),
    ],
)
def test_mistakes_are_named(
    run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    there = tmp_path / "there.onnx"
    there.write_text("mine")
    places = {
        "run": run[1],
        "out": tmp_path / "a.onnx",
        "folder": tmp_path / "folder",
        "typo": tmp_path / "a.onn",
        "there": there,
        "table": write_table(tmp_path / "table.parquet", squares(1, seed=0)),
    }
    assert run_cli(["export", *(argument.format(**places) for argument in arguments)], monkeypatch) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert there.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".json", ".data"])
def test_what_lies_beside_is_kept_too(
    run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
) -> None:
    there = tmp_path / f"model.onnx{suffix}"
    there.write_text("mine")
    assert run_cli(["export", run[1], tmp_path / "model.onnx"], monkeypatch) == 1
    assert f"{there}: exists, and is kept" in "".join(capsys.readouterr().err.split("\n"))
    assert there.read_text() == "mine" and list(tmp_path.iterdir()) == [there]


def test_missing_folders_are_made_and_what_a_killed_export_left_is_removed(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made" / "for_it"
    assert run_cli(["export", run[1], folder / "model.onnx"], monkeypatch) == 0
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / f".other.onnx.{ended.pid}-00.new").mkdir()
    assert run_cli(["export", run[1], folder / "other.onnx"], monkeypatch) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "model.onnx.json", "other.onnx", "other.onnx.json"}


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_a_full_disk_is_one_message_and_nothing_is_left(
    run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert run_cli(["export", run[1], tmp_path / name], monkeypatch) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and name in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert run_cli(["export", run[1], tmp_path / "a.onnx"], monkeypatch) == 1
    assert "pip install 'dinoseg[onnx]'" in capsys.readouterr().err


def test_deformable_samples_in_gathers_alone_equal_the_fused_ones() -> None:
    torch.manual_seed(0)
    shapes = ((3, 5), (6, 9))
    values, references = torch.randn(2, 69, 4, 8, dtype=torch.float64), torch.rand(11, 2, dtype=torch.float64)
    steering = torch.randn(2, 11, 4, 3, 2, 4, dtype=torch.float64) * 4
    fused = sample_levels(values, shapes, references, steering)
    torch.testing.assert_close(plain_samples(values, shapes, references, steering), fused, rtol=0, atol=1e-12)


def test_the_semantic_map_of_a_graph_equals_that_of_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    output = MaskOutput(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 6), torch.randn(1, 2, 5), torch.randn(2, 6, 7, 9))
    striped = semantic_map(output, (30, 41))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(semantic_map(output, (30, 41)), striped)


def test_pictures_of_other_bands_are_read_as_the_run_reads_them(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = train_tiny_run(
        tmp_path_factory,
        {"train": 2, "val": 1},
        "decoder_head.type=linear",
        "datasets.bands=[3,1]",
        "transforms.mean=[0.5,0.4]",
        "transforms.std=[0.2,0.3]",
        *WINDOWS,
    )
    assert run_cli(["export", folder, tmp_path / "model.onnx"], monkeypatch) == 0
    picture = next((data / "val" / "images").iterdir())
    values = np.asarray(Image.open(picture))
    opened = dinoseg.onnx.load(tmp_path / "model.onnx")
    assert opened.description.picture.bands == [3, 1]
    np.testing.assert_array_equal(
        opened.predict(values).labels, dinoseg.load(folder, device="cpu").predict(picture).labels
    )


def _example() -> str:
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def predict" in block)
    return example


def test_the_example_that_needs_no_dinoseg_predicts_the_same(
    run: tuple[Path, Path], exported: Path, tmp_path: Path
) -> None:
    example = _example()
    assert "dinoseg" not in [line.split()[1] for line in example.splitlines() if line.startswith(("import", "from"))]
    (tmp_path / "example.py").write_text(example)
    picture = next((run[0] / "val" / "images").iterdir())
    out = tmp_path / "labels.png"
    subprocess.run([sys.executable, "example.py", exported, picture, out], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(Image.open(out), dinoseg.onnx.predict(exported, picture).labels)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("picture", {"ranges": [[0.0, 4000.0]]}),
        ("picture", {"bands": [3, 2, 1]}),
        ("labels", {"classes": [{"label_ids": [0]}, {"label_ids": [0xFF0000]}]}),
    ],
)
def test_the_example_stops_where_it_would_predict_something_else(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, change: dict[str, Any]
) -> None:
    model = onnx.load(exported)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "dinoseg")
    said = json.loads(entry.value)
    said[section].update(change)
    entry.value = json.dumps(said)
    onnx.save(model, tmp_path / "changed.onnx")
    (tmp_path / "example.py").write_text(_example())
    monkeypatch.setattr(sys, "argv", ["example.py", str(tmp_path / "changed.onnx"), "none.png", "labels.png"])
    with pytest.raises(AssertionError):
        runpy.run_path(str(tmp_path / "example.py"), run_name="__main__")
