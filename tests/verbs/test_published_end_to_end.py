"""Published heads through the command line: predicted with, evaluated, exported, averaged, trained from, listed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.published import HEAD, decoder_state, head_config, tiny_head, use_hub, write_decoder, write_hub_cache
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from helpers.weight_files import Trap
from PIL import Image
from safetensors.torch import load_file

from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import build_segmenter
from dinoseg.training.load_published import load_published
from dinoseg.zoo.address import Address
from dinoseg.zoo.catalogue import list_heads

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")
CLASSES = "datasets.classes={0: rest, 1: artery, 2: vein}"
DESCRIBED = ["model.dino_hub=tiny_vit8", CLASSES, "eval.crop_size=32", "eval.stride=24", "device=cpu"]
SMALL = "tue-mps/coco_panoptic_pmt_small_640_dinov3"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 2})


@pytest.fixture
def head(tmp_path: Path) -> str:
    return f"hf:{tiny_head(tmp_path / 'head')}"


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "labels").glob("*.png"))}


def test_predict_evaluate_and_export(
    data: Path, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, first, second = data / "val" / "images", tmp_path / "first", tmp_path / "second"
    assert run_cli(["predict", head, images, "--out", first, *DESCRIBED], monkeypatch) == 0
    assert run_cli(["predict", head, images, "--out", first, *DESCRIBED], monkeypatch) == 0
    said = capsys.readouterr()
    assert "0 predicted, 2 already there" in said.out and "no effect" not in said.err
    assert run_cli(["export", head, tmp_path / "whole", *DESCRIBED], monkeypatch) == 0
    said = capsys.readouterr()
    assert f"the whole model of {head} (checkpoint published)" in said.out
    # What says what the head is was used.
    assert "no effect" not in said.err
    # What was exported is a run folder that needs neither head nor backbone.
    (tmp_path / "head").rename(tmp_path / "gone")
    assert run_cli(["predict", tmp_path / "whole", images, "--out", second], monkeypatch) == 0
    maps, exported = label_maps(first), label_maps(second)
    assert maps.keys() == exported.keys() and len(maps) == 2
    assert all(np.array_equal(maps[name], exported[name]) for name in maps)
    (tmp_path / "gone").rename(tmp_path / "head")
    root = f"datasets.root={data}"
    assert run_cli(["eval", head, root, *DESCRIBED], monkeypatch) == 1
    said = capsys.readouterr().err
    assert f"{head} has no folder of its own for figures; give one with --out" in said and "--out head/val" in said
    assert run_cli(["eval", head, root, *DESCRIBED, "--out", tmp_path / "figures"], monkeypatch) == 0
    assert run_cli(["eval", tmp_path / "whole", root], monkeypatch) == 0
    figures = [
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "figures", tmp_path / "whole/eval/val")
    ]
    assert figures[0]["mIoU"] == figures[1]["mIoU"] and figures[0]["checkpoint"] == "published"
    assert figures[0]["policy"]["window"]["crop"] == [32, 32]


def test_shards_of_a_published_head_are_one_evaluation(
    data: Path, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["eval", head, f"datasets.root={data}", *DESCRIBED]
    for part in (["--shard", "1/2"], ["--shard", "2/2"], ["--merge"]):
        assert run_cli([*asked, "--out", tmp_path / "parts", *part], monkeypatch) == 0
    assert run_cli([*asked, "--out", tmp_path / "whole"], monkeypatch) == 0
    merged, whole = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("parts", "whole"))
    assert merged["mIoU"] == whole["mIoU"] and merged["policy"] == whole["policy"]


def test_heads_are_averaged_with_each_other_and_with_runs_of_the_same_classes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = SMALL.partition("/")[2]
    for number in (0, 1):
        write_decoder(tmp_path / str(number) / name / "pytorch_model.bin", "dinov3_vits16", 133, seed=number)
    first, second = (f"hf:{tmp_path / str(number) / name}" for number in (0, 1))
    small = ["transforms.eval.img_size=32", "eval.crop_size=32", "eval.stride=32", "model.weights=none", "device=cpu"]
    image, run = data / "val" / "images" / "val_0.png", tmp_path / "run"
    assert run_cli(["predict", first, second, image, "--out", tmp_path / "both", *small], monkeypatch) == 0
    members = json.loads((tmp_path / "both" / "predictions.json").read_text())["members"]
    assert [(member["run"], member["checkpoint"]) for member in members] == [
        (first, "published"),
        (second, "published"),
    ]
    assert run_cli(["export", second, run, *small], monkeypatch) == 0
    assert run_cli(["export", first, run, tmp_path / "pair", *small], monkeypatch) == 0
    assert run_cli(["predict", tmp_path / "pair", image, "--out", tmp_path / "pairs"], monkeypatch) == 0
    assert len(json.loads((tmp_path / "pairs" / "predictions.json").read_text())["members"]) == 2
    capsys.readouterr()
    assert run_cli(["eval", first, run, f"datasets.root={data}", *small], monkeypatch) == 1
    assert f"--out {name}+run/val" in capsys.readouterr().err
    other = write_tiny_dataset(tmp_path / "other", {"train": 1, "val": 1})
    assert run_cli(["train", *tiny_settings(other, tmp_path / "three", "scheduler.total_iter=1")], monkeypatch) == 0
    assert run_cli(["predict", first, tmp_path / "three", image, "--out", tmp_path / "none", *small], monkeypatch) == 1
    assert "class" in capsys.readouterr().err


def test_a_training_begins_with_it(
    data: Path, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    backbone = f"model.weights={tmp_path / 'head' / 'backbone.safetensors'}"
    asked = [*tiny_settings(data, run, CLASSES, "scheduler.total_iter=0"), f"load_from={head}", backbone]
    assert run_cli(["train", *asked], monkeypatch) == 1
    assert f"load_from={head}: a head of other sizes than the one that is trained; add {' '.join(HEAD)}" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    assert run_cli(["train", *asked, *HEAD], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "5 queries among them; all 3 classes kept by position (a state dict has no names)" in said
    weights = load_file(run / "checkpoints" / "best" / "model.safetensors")
    published = torch.load(tmp_path / "head" / "pytorch_model.bin", weights_only=True)["state_dict"]
    for name, tensor in weights.items():
        if not name.endswith(("attn_mask_probs", "num_batches_tracked")):
            assert torch.equal(tensor, published[name.replace("head.", "network.", 1)]), name


def test_classes_of_a_known_head_are_kept_by_name_and_others_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    small = write_decoder(tmp_path / "pytorch_model.bin", "dinov3_vits16", 133)
    write_hub_cache(tmp_path / "hub", SMALL, {"pytorch_model.bin": small})
    space = LabelSpace.build({0: "drusen", 1: "car", 2: "person"}, None, None, ())
    segmenter = build_segmenter(head_config("dinov3_vits16"), 3)
    fresh = segmenter.head.state_dict()["decoder.class_head.weight"].clone()
    text = load_published(segmenter, Address.parse(f"hf:{SMALL}"), space)
    assert "2 of 3 kept by name (car, person); the class layer STARTS ANEW for 1: drusen" in text
    other = build_segmenter(head_config("tiny_vit8", "decoder_head.num_queries=4"), 3)
    with pytest.raises(ValueError, match=r"add model\.dino_hub=dinov3_vits16 decoder_head\.num_queries=5"):
        load_published(other, Address.parse(f"hf:{SMALL}"), space)
    theirs = decoder_state("dinov3_vits16", 133)
    layer = segmenter.head.state_dict()["decoder.class_head.weight"]
    rows = theirs["network.decoder.class_head.weight"]
    # COCO: person, bicycle, car; the last row is "no object".
    assert torch.equal(layer, torch.stack([fresh[0], rows[2], rows[0], rows[-1]]))
    assert torch.equal(segmenter.head.state_dict()["decoder.q.weight"], theirs["network.decoder.q.weight"])


@pytest.mark.parametrize("verb", ["predict", "eval", "export", "train"])
def test_code_in_a_file_is_not_run(
    verb: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    torch.save({"state_dict": {"network.decoder.q.weight": torch.ones(2, 2)}, "x": Trap()}, "bad/pytorch_model.bin")
    out = tmp_path / "out"
    arguments = {
        "predict": ["hf:bad", data / "val/images", "--out", out, *DESCRIBED],
        "eval": ["hf:bad", f"datasets.root={data}", "--out", out, *DESCRIBED],
        "export": ["hf:bad", out, *DESCRIBED],
        "train": [*tiny_settings(data, out), "load_from=hf:bad"],
    }
    assert run_cli([verb, *arguments[verb]], monkeypatch) == 1
    said = capsys.readouterr().err
    assert "hf:bad: refused, it holds more than tensors" in said and "code in it is not run" in said
    assert not (tmp_path / "trapped").exists() and not (out / "labels").exists()


def test_a_misspelt_start_is_said_before_the_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_settings(tmp_path / "nowhere", tmp_path / "run", "load_from=hf:coco_panoptic_pmt_small_640")
    assert run_cli(["train", *settings], monkeypatch) == 1
    assert f"did you mean hf:{SMALL}?" in capsys.readouterr().err


def test_the_list_of_heads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["zoo"], monkeypatch) == 0
    said = capsys.readouterr().out
    for head in list_heads():
        assert head.name in said and head.backbone in said and head.page in said
    assert "mIoU 58.5" in said and "mIoU not stated, PQ 45.3" in said and "DINOv3 License" in said
    assert run_cli(["zoo", "--json"], monkeypatch) == 0
    heads = json.loads(capsys.readouterr().out)["heads"]
    assert [head["name"] for head in heads] == [head.name for head in list_heads()]
    assert heads[0]["mIoU"] == 58.5 and heads[1]["mIoU"] is None and heads[1]["figure"] == {"name": "PQ", "value": 45.3}


def test_a_name_that_is_none_ends_in_words(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for address in ("hf:somebody/else", "hf:nothing", "hf:/nowhere"):
        assert run_cli(["predict", address, data / "val" / "images"], monkeypatch) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {address}: ") and "Traceback" not in said
