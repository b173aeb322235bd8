"""Weight files of every wrong kind, given to the command line: exit code 1, one message with file and remedy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from helpers.weight_files import BAD_FILES, BadFile, State, write_index
from safetensors.torch import save_file

from dinoseg.backbone import build_backbone
from dinoseg.config.loading import load_config
from dinoseg.labels import LabelSpace
from dinoseg.models.dinov3_state import dinov3_state
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.training.load_from import load_from

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")

M2F = ["hidden_dim=32", "encoder_layers=1", "decoder_layers=1"]
SPACE = LabelSpace.build({0: "a", 1: "b", 2: "c"}, None, None, found_ids=range(3))
WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod._orig_mod."]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"), {"train": 2, "val": 1})


@pytest.fixture(scope="module")
def backbone_state() -> State:
    return dict(build_backbone("tiny_vit8", "none").model.state_dict())


def _segmenter(*more: str) -> Segmenter:
    return build_segmenter(load_config(["model.dino_hub=tiny_vit8", "model.weights=none", *more]), 3)


def _head_state(segmenter: Segmenter) -> State:
    """As DINOv3's code saves it."""
    if isinstance(segmenter.head, Mask2FormerHead):
        return dinov3_state(segmenter.head)
    return {f"segmentation_model.1.{name}": tensor for name, tensor in segmenter.head.state_dict().items()}


def _refused(
    settings: list[str], data: Path, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one message of a training that does not start, and leaves nothing behind."""
    capsys.readouterr()
    assert run_cli(["train", *tiny_settings(data, folder / "run", *settings)], patch) == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "Traceback" not in error
    message = error[error.index("error: ") :].strip()
    assert "\n" not in message and len(message) < 1500
    assert not (folder / "run").exists() and not (folder / "trapped").exists()
    return message


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
@pytest.mark.parametrize("key", ["model.weights", "load_from"])
def test_a_bad_file_is_one_message(
    key: str,
    bad: BadFile,
    data: Path,
    backbone_state: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / bad.name
    bad.write(file, backbone_state if key == "model.weights" else _head_state(_segmenter()))
    message = _refused([f"{key}={file}"], data, tmp_path, monkeypatch, capsys)
    assert f"error: {key}={file}: " in message or f"error: {file}: " in message
    assert bad.reason in message
    assert any(word in message for word in ("give ", "name the file", "are known")), message


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"metadata": {}}, "weight_map: missing"),
        ({"weight_map": {}}, "weight_map is empty"),
        ({"weight_map": {"a": "b.safetensors"}}, "names b.safetensors, which is not there"),
        ({"weight_map": {"a": "../outside.safetensors"}}, "no file of this folder"),
        ({"weight_map": {"a": "a.safetensors", "b": "/dev/zero"}}, "no file of this folder"),
        ({"weight_map": {"a": ".."}}, "names .., which is not there"),
        ({"weight_map": {"a": ""}}, "names , which is not there"),
        ({"weight_map": {"a": "x\n\x1b[31m"}}, r"names x\n\x1b[31m, which is not there"),
        ({"weight_map": {"a": 3}}, "weight_map.a: 3 found, a text expected"),
        ({"weight_map": ["a.safetensors"]}, "weight_map: a list of 1 found, an object expected"),
        ([], "a list of 0 found, an object expected"),
        ("", "it is empty"),
        ("[" * 10_000, "nested more than 64 deep"),
    ],
)
def test_an_index_of_shards_that_leads_nowhere(
    index: object,
    reason: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_index(tmp_path / "folder", index)
    message = _refused([f"model.weights={folder}"], data, tmp_path, monkeypatch, capsys)
    assert reason in message and "model.safetensors.index.json" in message
    assert "give another" in message


def test_shards_load(backbone_state: State, tmp_path: Path) -> None:
    names = list(backbone_state)
    shards = {name: f"{number % 2}.safetensors" for number, name in enumerate(names)}
    folder = write_index(tmp_path / "folder", {"weight_map": shards})
    for shard in set(shards.values()):
        save_file({name: backbone_state[name] for name in names if shards[name] == shard}, folder / shard)
    loaded = build_backbone("tiny_vit8", str(folder)).model.state_dict()
    assert all(torch.equal(loaded[name], backbone_state[name]) for name in names)


@pytest.mark.parametrize("inner", ["", "backbone.", "backbone.module."])
@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrapped_backbones_load(prefix: str, inner: str, backbone_state: State, tmp_path: Path) -> None:
    torch.save({"model": {f"{prefix}{inner}{name}": t for name, t in backbone_state.items()}}, tmp_path / "a.pth")
    loaded = build_backbone("tiny_vit8", str(tmp_path / "a.pth")).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone_state.items())


def _wrapped(state: State, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """A part of a model is wrapped, too: in the midst of a name."""
    for name, tensor in state.items():
        yield f"{prefix}{name}".replace("segmentation_model.1.", f"segmentation_model.{prefix}1.{prefix}"), tensor


@pytest.mark.parametrize("head", ["linear", "m2f"])
@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrapped_heads_load(prefix: str, head: str, tmp_path: Path) -> None:
    more = [f"decoder_head.type={head}", *(f"decoder_head.{option}" for option in M2F if head == "m2f")]
    source, target = _segmenter(*more), _segmenter(*more)
    torch.save({"state_dict": dict(_wrapped(_head_state(source), prefix))}, tmp_path / "head.pth")
    assert "all 3 classes kept" in load_from(target, tmp_path / "head.pth", SPACE)
    pairs = zip(source.head.parameters(), target.head.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_placeholders_that_are_not_loaded_do_not_matter(backbone_state: State, tmp_path: Path) -> None:
    # DINOv3's code fills its masks of biases with NaN; a segmentation checkpoint holds them, too.
    mask = {"segmentation_model.0.backbone.blocks.0.attn.qkv.bias_mask": torch.full((3,), float("nan"))}
    torch.save({**_head_state(_segmenter()), **mask}, tmp_path / "head.pth")
    assert "all 3 classes kept" in load_from(_segmenter(), tmp_path / "head.pth", SPACE)
    torch.save({**backbone_state, "head.weight": torch.full((3,), float("nan"))}, tmp_path / "backbone.pth")
    assert build_backbone("tiny_vit8", str(tmp_path / "backbone.pth")).weights_report is not None


SHAPES: list[tuple[int, ...]] = [(), (1,), (2, 2), (1, 1, 1), (1, 1, 1, 1), (0,)]


@pytest.mark.parametrize("dialect", ["timm", "meta", "transformers"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_known_names_with_other_shapes(dialect: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    names = {
        "timm": ["patch_embed.proj.weight", "pos_embed", "reg_token", "blocks.0.attn.qkv.bias"],
        "meta": ["patch_embed.proj.weight", "register_tokens", "pos_embed", "blocks.0.attn.qkv.bias", "mask_token"],
        "transformers": [
            "embeddings.patch_embeddings.projection.weight",
            "embeddings.register_tokens",
            "encoder.layer.0.attention.attention.query.weight",
            "encoder.layer.0.attention.attention.key.weight",
            "encoder.layer.0.attention.attention.query.bias",
        ],
    }
    for left_out in (None, *names[dialect]):
        state = {name: torch.ones(shape) for name in names[dialect] if name != left_out}
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=r"model\.weights=.*a\.pth: .*[Gg]ive the weights of tiny_vit8") as met:
            build_backbone("tiny_vit8", str(tmp_path / "a.pth"))
        assert "\n" not in str(met.value)


@pytest.mark.parametrize("stem", [(), (3,), (4, 3, 4, 4)])
def test_a_convnext_of_other_shapes(stem: tuple[int, ...], tmp_path: Path) -> None:
    torch.save({"stem.0.weight": torch.ones(stem), "head.norm.weight": torch.ones(())}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="family ConvNeXt in the file"):
        build_backbone("tiny_vit8", str(tmp_path / "a.pth"))


def test_whole_numbers_are_no_weights(backbone_state: State, tmp_path: Path) -> None:
    name = "blocks.0.attn.qkv.weight"
    torch.save({**backbone_state, name: backbone_state[name].to(torch.int8)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"whole numbers in place of weights: {name}"):
        build_backbone("tiny_vit8", str(tmp_path / "a.pth"))


@pytest.mark.parametrize("head", ["linear", "m2f"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_heads_of_other_shapes(head: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    more = [f"decoder_head.type={head}", *(f"decoder_head.{option}" for option in M2F if head == "m2f")]
    segmenter = _segmenter(*more)
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    state = _head_state(segmenter)
    for name in [name for name in state if "conv.weight" in name or "conv.bias" in name or "class_embed" in name]:
        torch.save({**state, name: torch.ones(shape)}, tmp_path / "head.pth")
        with pytest.raises(ValueError, match=rf"load_from={tmp_path}/head\.pth: .*"):
            load_from(segmenter, tmp_path / "head.pth", SPACE)
    assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.state_dict().items())


def test_an_index_given_as_the_file_loads(backbone_state: State, tmp_path: Path) -> None:
    folder = write_index(tmp_path / "folder", {"weight_map": dict.fromkeys(backbone_state, "b.safetensors")})
    save_file(dict(backbone_state), folder / "b.safetensors")
    loaded = build_backbone("tiny_vit8", str(folder / "model.safetensors.index.json")).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone_state.items())


@pytest.mark.parametrize("prefix", ["backbone.model.", "model.", "model.backbone.", "module.backbone._orig_mod.model."])
def test_backbones_within_another_model_load(prefix: str, backbone_state: State, tmp_path: Path) -> None:
    # The first is how a run's own checkpoint names them; its head is passed over.
    state = {f"{prefix}{name}": tensor for name, tensor in backbone_state.items()}
    other = {"head.conv.weight": torch.zeros(2)} if "backbone." in prefix else {}
    save_file(state | other, tmp_path / "a.safetensors")
    loaded = build_backbone("tiny_vit8", str(tmp_path / "a.safetensors")).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone_state.items())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_whole_model_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.save(build_backbone("tiny_vit8", "none").model, tmp_path / "model.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pth")
    for name, reason in (
        ("model.pth", "code in it is not run (it asks for timm.models.vision_transformer.VisionTransformer); give a"),
        ("program.pth", "not a readable checkpoint, but a TorchScript program, which is not run; give a file with"),
    ):
        with pytest.raises(ValueError) as met:
            build_backbone("tiny_vit8", str(tmp_path / name))
        assert reason in str(met.value) and "weights_only" not in str(met.value)


@pytest.mark.parametrize("name", ["x\n\x1b[31m", "x" * 100_000])
def test_names_of_tensors_stay_on_one_line(name: str, backbone_state: State, tmp_path: Path) -> None:
    for state in ({name: torch.zeros(2)}, {**backbone_state, name: torch.zeros(2)}):
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(ValueError) as met:
            build_backbone("tiny_vit8", str(tmp_path / "a.pth"))
        assert len(str(met.value)) < 1500 and str(met.value).isprintable()


@pytest.mark.parametrize("head", ["linear", "m2f"])
def test_whole_numbers_are_no_head(head: str, tmp_path: Path) -> None:
    more = [f"decoder_head.type={head}", *(f"decoder_head.{option}" for option in M2F if head == "m2f")]
    segmenter = _segmenter(*more)
    state = dict(_head_state(segmenter))
    name = next(name for name in state if name.endswith(("1.conv.weight", "class_embed.weight")))
    torch.save({**state, name: state[name].to(torch.int8)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match=r"load_from=.*head\.pth: .*(not fitting|whole numbers in place of weights)"):
        load_from(segmenter, tmp_path / "head.pth", SPACE)


def test_weights_of_a_backbone_are_no_head(backbone_state: State, tmp_path: Path) -> None:
    torch.save(backbone_state, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"load_from=.*a\.pth: holds no head of DINOv3's code .*, but cls_token, .*give a"
    ):
        load_from(_segmenter(), tmp_path / "a.pth", SPACE)
