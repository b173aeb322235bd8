"""ONNX files that are opened: what is damaged, changed or not ours is told."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import run_cli

import dinoseg
import dinoseg.onnx
from dinoseg.exporting import graph
from dinoseg.onnx.segmenter import CPU

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*random initialisation.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_files_that_are_none_of_ours_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        dinoseg.onnx.load(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"text\.onnx: damaged, or no ONNX file \(it holds what no such file does\)"):
        dinoseg.onnx.load(tmp_path / "text.onnx")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(
        ValueError, match=r"cut\.onnx: damaged, or no ONNX file \(it ends in the middle\); copy it again"
    ):
        dinoseg.onnx.load(tmp_path / "cut.onnx")
    (tmp_path / "program.pt2").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"programs of PyTorch are for torch\.export\.load; export RUN FILE\.onnx"):
        dinoseg.onnx.load(tmp_path / "program.pt2")


def _described_otherwise(file: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy whose description was changed."""
    model = onnx.load(file, load_external_data=False)
    (said,) = (entry for entry in model.metadata_props if entry.key == "dinoseg")
    document = json.loads(said.value)
    change(document)
    said.value = json.dumps(document)
    onnx.save(model, place)
    return place


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.pop("temperature"), "temperature: missing; export the run anew"),
        (lambda said: said["window"].update(strides=said["window"].pop("stride")), "window.stride: missing"),
        (
            lambda said: said.update(format=1),
            r"of format 1, and this version of dinoseg \(.*\) reads 2: export the run",
        ),
        (lambda said: said.update(format="2"), '"2" found, 2 expected'),
        (lambda said: said.update(contents=None), "contents: null found"),
        (lambda said: said["contents"].update(sha256="ab"), 'contents.sha256: "ab" found, a text of the form'),
        (lambda said: said["labels"]["classes"][0].pop("name"), r"labels.classes\[0\].name: missing"),
        (lambda said: said["picture"].update(ranges=[[0, 1], [0, 1]]), "ranges: 2 found, 1 or 3 expected"),
    ],
)
def test_a_description_with_a_wrong_key_is_one_message(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        dinoseg.onnx.load(_described_otherwise(exported, tmp_path / "changed.onnx", change))
    assert "changed.onnx: " in str(refused.value) and "\n" not in str(refused.value)


def test_weights_that_were_changed_after_the_proof_are_told(exported: Path, tmp_path: Path) -> None:
    model, file = onnx.load(exported), tmp_path / "changed.onnx"
    onnx.save(model, file)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dinoseg.onnx.load(file)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = weights.raw_data[::-1]
    onnx.save(model, file)
    with pytest.warns(UserWarning, match=r"changed\.onnx: its graph or weights were changed after the export"):
        dinoseg.onnx.load(file)


def test_weights_beside_the_file_are_its_own(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_LARGEST_FILE", 0)
    file, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    assert run_cli(["export", run[1], file], monkeypatch) == 0
    picture = next((run[0] / "val" / "images").iterdir())
    assert dinoseg.onnx.predict(file, picture).labels.shape == (40, 56)
    whole = data.read_bytes()
    data.write_bytes(whole[::-1])
    with pytest.raises(ValueError, match=r"model\.onnx\.data: not the weights of model\.onnx"):
        dinoseg.onnx.load(file)
    data.unlink()
    with pytest.raises(ValueError, match=r"model\.onnx\.data: missing; the weights of model\.onnx lie in it"):
        dinoseg.onnx.load(file)


def test_a_description_that_is_not_of_its_graph_is_refused(
    run: tuple[Path, Path], exported: Path, tmp_path: Path
) -> None:
    def refused(section: str, change: dict[str, object], message: str) -> None:
        def described_so(said: dict[str, Any]) -> None:
            said[section].update(change)
            # As in files of earlier versions.
            del said["contents"]["description_sha256"]

        with pytest.raises(ValueError, match=message):
            dinoseg.onnx.load(_described_otherwise(exported, tmp_path / "changed.onnx", described_so))

    refused("window", {"size": [40, 40]}, r"graph has images of \[3, 32, 32\], and its description says \[3, 40, 40\]")
    refused("window", {"stride": [20, 33]}, r"stride: \[20, 33\] found, no more than size \[32, 32\] expected")
    refused("picture", {"mean": [0.5], "std": [0.5], "bands": [1]}, r"its description says \[1, 32, 32\]")
    refused("picture", {"mean": [0.5], "std": [0.5]}, "mean: 1 numbers found, 3 expected for red, green and blue")
    refused("picture", {"bands": [1, 2]}, "bands: 2 found, 3 expected")
    classes = json.loads((run[1] / "labels.json").read_text())["classes"]
    refused("labels", {"classes": classes[:2], "num_classes": 2}, r"logits of \[3, 32, 32\].*says \[2, 32, 32\]")


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(temperature=2.0),
        lambda said: said["window"].update(stride=[19, 19]),
        lambda said: said["picture"].update(mean=[0.5, 0.5, 0.5]),
        lambda said: said["labels"]["classes"][1].update(label_ids=[7]),
    ],
)
def test_a_description_that_was_changed_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    changed = _described_otherwise(exported, tmp_path / "changed.onnx", change)
    with pytest.raises(ValueError, match=r"changed\.onnx: its description .* was changed after the export"):
        dinoseg.onnx.load(changed)


def test_a_description_may_be_written_in_another_order_and_by_an_earlier_version(
    exported: Path, tmp_path: Path
) -> None:
    def reordered(said: dict[str, Any]) -> None:
        said["window"] = said.pop("window")

    def earlier(said: dict[str, Any]) -> None:
        del said["contents"]["description_sha256"]

    for change in (reordered, earlier):
        assert dinoseg.onnx.load(_described_otherwise(exported, tmp_path / "same.onnx", change)).class_names


@pytest.mark.parametrize("providers", ["CPUExecutionProvider", [("CPUExecutionProvider", {})]])
def test_a_provider_may_be_given_by_name_alone_or_with_options(exported: Path, providers: Any) -> None:
    assert dinoseg.onnx.load(exported, providers=providers).class_names


@pytest.mark.parametrize("providers", ["cuda", ["NoSuchProvider", "CPUExecutionProvider"], []])
def test_a_provider_that_is_not_there_is_refused_with_those_that_are(exported: Path, providers: Any) -> None:
    with pytest.raises(
        ValueError, match=r"providers='.*': the onnxruntime that is installed has .*CPUExecutionProvider"
    ):
        dinoseg.onnx.load(exported, providers=providers)


def test_a_provider_that_cannot_be_started_is_not_replaced_by_the_cpu(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    # As of a build for CUDA on a machine without: it lists the provider, and opens sessions on the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    opened, options = onnxruntime.InferenceSession, dict[str, Any]()

    def on_the_cpu(file: str, providers: Any, **given: Any) -> Any:
        options.update(given)
        return opened(file, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    for asked in ("CUDAExecutionProvider", [("CUDAExecutionProvider", {"device_id": 0}), CPU]):
        with pytest.raises(ValueError, match="providers='CUDAExecutionProvider': onnxruntime has it, and cannot start"):
            dinoseg.onnx.load(exported, providers=asked)
    assert options == {"enable_fallback": 0}
