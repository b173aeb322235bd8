"""A training that starts from another head: classes keep their rows by name, and code in a file is never run."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from safetensors.torch import load_file, save_file
from torch import nn

from dinoseg.backbone import backbone_hash
from dinoseg.config.loading import load_config, save_config
from dinoseg.labels import LabelSpace
from dinoseg.models.dinov3_state import dinov3_state
from dinoseg.models.linear_head import LinearHead
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.run_folder.checkpoint import model_state, write_checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.load_from import load_from

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")

SMALL_M2F = [
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=1",
]


def _segmenter(num_classes: int, *more: str) -> Segmenter:
    return build_segmenter(load_config(["model.dino_hub=tiny_vit8", "model.weights=none", *more]), num_classes)


def _space(*names: str) -> LabelSpace:
    return LabelSpace.build(dict(enumerate(names)), None, None, found_ids=range(len(names)))


def _own_run(segmenter: Segmenter, space: LabelSpace, folder: Path, *more: str) -> Path:
    """A run folder as a training leaves it."""
    run = RunFolder(folder)
    config = load_config(["model.dino_hub=tiny_vit8", "model.weights=none", *more])
    sha256 = backbone_hash(segmenter.backbone.frozen_state())
    metadata = {"backbone_saved": "true", "backbone_sha256": sha256}
    write_checkpoint(run.checkpoint("best"), model_state(segmenter, whole=True), metadata, None, {})
    save_config(config, run.config)
    space.save(run.labels)
    return folder


def _class_layer(segmenter: Segmenter) -> nn.Module:
    return segmenter.head.conv if isinstance(segmenter.head, LinearHead) else segmenter.head.predictor.class_embed


def _fill_class_layer(segmenter: Segmenter) -> None:
    """Row r holds r + 1 throughout: its origin can be read off it."""
    for parameter in _class_layer(segmenter).parameters():
        with torch.no_grad():
            rows = torch.arange(1.0, len(parameter) + 1)
            parameter.copy_(rows.reshape(-1, *[1] * (parameter.ndim - 1)).expand_as(parameter))


def _row_origins(segmenter: Segmenter) -> list[float | None]:
    """For each row the number that fills it, None where it is as initialised."""
    layer = _class_layer(segmenter)
    assert isinstance(layer.weight, torch.Tensor) and isinstance(layer.bias, torch.Tensor)
    rows = [torch.cat([weight.flatten(), bias[None]]) for weight, bias in zip(layer.weight, layer.bias, strict=True)]
    return [row[0].item() if bool((row == row[0]).all()) else None for row in rows]


@pytest.mark.parametrize("head", ["linear", "m2f"])
@pytest.mark.parametrize(
    ("theirs", "ours", "origins", "said"),
    [
        ("back artery vein", "back artery vein", [1, 2, 3], ["all 3 classes kept"]),
        ("back artery vein", "vein back artery", [3, 1, 2], ["all 3 classes kept, matched by name", "another order"]),
        (
            "back artery vein",
            "back vein drusen crossing",
            [1, 3, None, None],
            ["2 of 4 kept by name (back, vein)", "STARTS ANEW for 2: drusen, crossing", "left behind: artery"],
        ),
        ("back artery vein", "back artery", [1, 2], ["2 of 2 kept by name (back, artery); left behind: vein"]),
        ("back artery vein", "back artery fovea", [1, 2, None], ["STARTS ANEW for 1: fovea; left behind: vein"]),
        ("back artery", "sky road", [None, None], ["OTHER CLASSES: 0 of 2 kept by name; the class layer STARTS ANEW"]),
    ],
)
def test_classes_keep_their_rows_by_name(
    head: str, theirs: str, ours: str, origins: list[float | None], said: list[str], tmp_path: Path
) -> None:
    options = SMALL_M2F if head == "m2f" else []
    before, after = _space(*theirs.split()), _space(*ours.split())
    source = _segmenter(before.num_classes, *options)
    _fill_class_layer(source)
    run = _own_run(source, before, tmp_path / "run", *options)
    target = _segmenter(after.num_classes, *options)
    text = load_from(target, run, after)
    # "No object", the row after the last class, means the same whatever the classes.
    assert _row_origins(target) == [*origins, *([before.num_classes + 1] if head == "m2f" else [])]
    for part in said:
        assert part in text
    states = [segmenter.head.state_dict() for segmenter in (source, target)]
    for name in states[0]:
        if not name.startswith(("conv.", "predictor.class_embed.")):
            assert torch.equal(states[0][name], states[1][name]), name


def test_the_start_is_said_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three = write_tiny_dataset(tmp_path / "three", {"train": 2, "val": 1})
    four = write_tiny_dataset(tmp_path / "four", {"train": 2, "val": 1}, classes=4)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_cli(["train", *tiny_settings(three, first, "scheduler.total_iter=1")], monkeypatch) == 0
    assert run_cli(["train", *tiny_settings(four, second, f"load_from={first}", "optimizer.lr=0")], monkeypatch) == 0
    assert "OTHER CLASSES: 3 of 4 kept by name" in " ".join(capsys.readouterr().out.split())
    before, after = (load_file(run / "checkpoints" / "best" / "model.safetensors") for run in (first, second))
    assert torch.equal(after["head.conv.weight"][:3], before["head.conv.weight"])


@pytest.mark.parametrize(
    "more",
    [
        ["model.mode=freeze"],
        ["model.mode=lora", "lora.rank=2", "lora.bias=all"],
        ["model.mode=full"],
        ["datasets.bands=[1,2,3]", "model.train_bands=true"],
    ],
)
def test_a_head_of_another_frozen_backbone_is_said_to_be_whatever_is_trained_here(
    more: list[str], tmp_path: Path
) -> None:
    space = _space("back", "artery")
    torch.manual_seed(0)
    run = _own_run(_segmenter(2), space, tmp_path / "run")
    torch.manual_seed(0)
    assert "ANOTHER" not in load_from(_segmenter(2, *more), run, space)
    torch.manual_seed(1)
    assert "; its backbone was ANOTHER one, or took other bands" in load_from(_segmenter(2, *more), run, space)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_trained_backbone_comes_along_where_the_same_is_trained(mode: str, tmp_path: Path) -> None:
    space, more = _space("back", "artery"), (f"model.mode={mode}", "lora.rank=2")
    torch.manual_seed(0)
    source = _segmenter(2, *more)
    base = source.backbone.frozen_state()
    for parameter in source.backbone.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    run = _own_run(source, space, tmp_path / "run", *more)
    torch.manual_seed(0)
    target = _segmenter(2, *more)
    assert "trained tensors of the backbone loaded too" in load_from(target, run, space)
    trained = [name for name, parameter in target.backbone.named_parameters() if parameter.requires_grad]
    states = [segmenter.backbone.state_dict() for segmenter in (source, target)]
    assert trained and all(torch.equal(states[0][name], states[1][name]) for name in trained)
    assert base.keys() == target.backbone.frozen_state().keys()


def test_a_trained_backbone_that_stays_behind_is_said(tmp_path: Path) -> None:
    space, lora = _space("back", "artery"), "model.mode=lora"
    run = _own_run(_segmenter(2, lora), space, tmp_path / "run", lora)
    # Frozen here; other adapters; adapters beside another base.
    for more in ([], [lora, "lora.rank=3"], [lora]):
        target = _segmenter(2, *more)
        before = {name: value.clone() for name, value in target.backbone.state_dict().items()}
        text = load_from(target, run, space)
        assert "was TRAINED (model.mode=lora) and STAYS BEHIND" in text
        assert all(torch.equal(value, before[name]) for name, value in target.backbone.state_dict().items())


@pytest.mark.parametrize("other", ["lora.alpha=64", "lora.use_rslora=true", "lora.layers=[0]", "lora.bias=all"])
def test_adapters_that_would_count_otherwise_stay_behind(other: str, tmp_path: Path) -> None:
    space, lora = _space("back", "artery"), "model.mode=lora"
    torch.manual_seed(0)
    run = _own_run(_segmenter(2, lora), space, tmp_path / "run", lora)
    torch.manual_seed(0)
    assert "STAYS BEHIND" in load_from(_segmenter(2, lora, other), run, space)


def test_state_dicts_of_dinov3_load_by_position(tmp_path: Path) -> None:
    source = _segmenter(3, *SMALL_M2F)
    assert isinstance(source.head, Mask2FormerHead)
    torch.save({"model": dinov3_state(source.head)}, tmp_path / "model_final.pth")
    target = _segmenter(3, *SMALL_M2F)
    assert "all 3 classes kept by position" in load_from(target, tmp_path / "model_final.pth", _space("a", "b", "c"))
    assert all(torch.equal(a, b) for a, b in zip(source.head.parameters(), target.head.parameters(), strict=True))

    options = ["decoder_head.type=pmt", "decoder_head.num_queries=6", "decoder_head.decoder_layers=1"]
    masks = _segmenter(3, *options)
    published = masks.head.state_dict(prefix="network.") | {"network.encoder.backbone.norm.weight": torch.ones(3)}
    torch.save({"state_dict": published}, tmp_path / "pmt.bin")
    target = _segmenter(3, *options)
    assert "all 3 classes kept by position" in load_from(target, tmp_path / "pmt.bin", _space("a", "b", "c"))
    assert all(torch.equal(a, b) for a, b in zip(masks.head.parameters(), target.head.parameters(), strict=True))
    fewer = _segmenter(2, *options)
    assert "OTHER CLASSES: 3 there and 2 here" in load_from(fewer, tmp_path / "pmt.bin", _space("a", "b"))

    linear = _segmenter(3)
    names = {f"segmentation_model.1.{name}": tensor for name, tensor in linear.head.state_dict().items()}
    torch.save({"model": names}, tmp_path / "linear.pth")
    other = _segmenter(3)
    assert "all 3 classes kept by position" in load_from(other, tmp_path / "linear.pth", _space("a", "b", "c"))
    assert torch.equal(linear.head.conv.weight, other.head.conv.weight)
    wider = _segmenter(4)
    text = load_from(wider, tmp_path / "linear.pth", _space("a", "b", "c", "d"))
    assert "OTHER CLASSES: 3 there and 4 here, without names" in text and "STARTS ANEW for 4: a, b, c, d" in text
    assert torch.equal(wider.head.batchnorm_layer.running_var, linear.head.batchnorm_layer.running_var)


def test_a_state_dict_of_dinov3_evaluates_without_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 2})
    # A training, its head saved as DINOv3's linear training saves one, and its backbone as a file.
    assert run_cli(["train", *tiny_settings(data, tmp_path / "first")], monkeypatch) == 0
    state = load_file(tmp_path / "first" / "checkpoints" / "best" / "model.safetensors")
    head = {name.replace("head.", "segmentation_model.1.", 1): state[name] for name in state if "head.conv" in name}
    norm = {name.replace("head.", "segmentation_model.1.", 1): state[name] for name in state if "head.batch" in name}
    torch.save({"model": head | norm}, tmp_path / "model_final.pth")
    backbone = {n.removeprefix("backbone.model."): v for n, v in state.items() if n.startswith("backbone.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    settings = [
        *(f"load_from={tmp_path / 'model_final.pth'}", f"model.weights={tmp_path / 'backbone.safetensors'}"),
        *("scheduler.total_iter=0", "scheduler.constructor_kwargs={warmup_iters: 1500}"),
    ]
    assert run_cli(["train", *tiny_settings(data, tmp_path / "zero", *settings)], monkeypatch) == 0
    figures = [
        json.loads((tmp_path / run / "eval" / "val" / "metrics.json").read_text())["mIoU"] for run in ("first", "zero")
    ]
    assert figures[0] == figures[1]
    for name in ("last", "best"):
        after = load_file(tmp_path / "zero" / "checkpoints" / name / "model.safetensors")
        assert after.keys() == {name for name in state if name.startswith("head.")}
        assert all(torch.equal(state[key], after[key]) for key in after if not key.endswith("num_batches_tracked"))
    assert run_cli(["eval", tmp_path / "zero"], monkeypatch) == 0
    assert run_cli(["predict", tmp_path / "zero", data / "val/images", "--out", tmp_path / "out"], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["train", *tiny_settings(data, tmp_path / "none", "scheduler.total_iter=0")], monkeypatch) == 1
    assert "scheduler.total_iter=0 trains nothing: give load_from" in capsys.readouterr().err


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('trapped', 'w').close()",)


def test_what_does_not_fit_or_holds_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    segmenter, space = _segmenter(3), _space("a", "b", "c")
    with pytest.raises(ValueError, match="no such file"):
        load_from(segmenter, tmp_path / "missing.pth", space)
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"model": _Trap()}))
    with pytest.raises(ValueError, match="code in it is not run"):
        load_from(segmenter, tmp_path / "trap.pth", space)
    assert not (tmp_path / "trapped").exists()
    torch.save({"segmentation_model.1.conv.weight": torch.zeros(3, 7, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit: missing"):
        load_from(segmenter, tmp_path / "other.pth", space)


def test_a_head_that_does_not_fit_is_refused_with_the_settings_of_its_run(tmp_path: Path) -> None:
    space, settings = _space("a", "b"), ["decoder_head.type=pmt", "decoder_head.num_queries=7"]
    few = _own_run(_segmenter(2, *settings), space, tmp_path / "few", *settings)
    said = r"decoder_head\.type=pmt \S+ decoder_head\.num_queries=7( \S+)* model\.dino_hub=tiny_vit8$"
    for other in (_segmenter(2), _segmenter(2, "decoder_head.type=pmt")):
        with pytest.raises(ValueError, match=r"does not fit: .*; give the same .* trained with: " + said):
            load_from(other, few, space)
    linear = _own_run(_segmenter(2), space, tmp_path / "linear")
    with pytest.raises(ValueError, match=r"trained with: decoder_head\.type=linear .*model\.dino_hub=tiny_vit8$"):
        load_from(_segmenter(2, "decoder_head.type=dense"), linear, space)


def _spoil_labels(run: Path) -> None:
    (run / "labels.json").unlink()


def _spoil_weights(run: Path) -> None:
    (run / "checkpoints/best/model.safetensors").write_bytes(b"x" * 40)


@pytest.mark.parametrize(
    ("place", "spoil", "said"),
    [
        (
            "void",
            None,
            "not a run folder (no config.yaml in it); give a run folder (the output_dir of a training), or a",
        ),
        ("runs", None, "not a run folder (no config.yaml in it); give one of the runs in it: first, second"),
        ("runs/first/checkpoints/best", None, "it lies in a run: give load_from=RUNS/first"),
        ("runs/first/eval", None, "it lies in a run: give load_from=RUNS/first"),
        ("runs/second", None, "a run without checkpoints/best, which its first evaluation writes; give a run that got"),
        ("lone", None, "it is a checkpoint without its run: give the run folder that it is of"),
        ("runs/first", _spoil_labels, "labels.json is missing; copy the whole run folder"),
        ("runs/first", _spoil_weights, "RUNS/first/checkpoints/best/model.safetensors: damaged"),
    ],
)
def test_a_folder_that_is_no_run_is_named_with_its_key(
    place: str, spoil: Callable[[Path], None] | None, said: str, tmp_path: Path
) -> None:
    space, runs = _space("back", "artery"), tmp_path / "runs"
    run = _own_run(_segmenter(2), space, runs / "first")
    save_config(load_config([]), runs / "second" / "config.yaml")
    shutil.copytree(run / "checkpoints" / "best", tmp_path / "lone")
    for folder in (tmp_path / "void", run / "eval"):
        folder.mkdir()
    if spoil is not None:
        spoil(run)
    with pytest.raises(ValueError) as met:
        load_from(_segmenter(2), tmp_path / place, space)
    error = str(met.value)
    assert error.startswith(f"load_from={tmp_path / place}: ")
    assert said.replace("RUNS", str(runs)) in error and "--checkpoint" not in error
