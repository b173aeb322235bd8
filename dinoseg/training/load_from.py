"""``load_from``: a training that starts from the head of another run, or of a state dict of the head's own authors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dinoseg.backbone import Backbone, backbone_hash
from dinoseg.backbone.lora import is_adapter
from dinoseg.config import Config, LoraConfig, settled_lora
from dinoseg.config.defaults import trains_bands
from dinoseg.labels import LabelSpace
from dinoseg.models.dinov3_state import load_dinov3_state
from dinoseg.models.eomt_head import EomtHead
from dinoseg.models.head import Head
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.pmt_head import PmtHead
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.checkpoint import MODEL_FILE, Checkpoint
from dinoseg.run_folder.checkpoint_manifest import CONTENTS_FILE, REMEDY
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.messages import list_names
from dinoseg.system.state_dicts import named_tensors, read_state, refuse_not_finite, show_name
from dinoseg.training.class_rows import ClassRows
from dinoseg.training.head_state import classes_in, load_head
from dinoseg.training.load_eomt import load_eomt
from dinoseg.zoo.address import is_address
from dinoseg.zoo.pmt_state import PREFIX, decoder_tensors

# DINOv3's linear training saves the head as the second part of its model.
_DINOV3_HEAD = "segmentation_model.1."
_NAMES_SHOWN = 4
_BACKBONE = "adapter.backbone."
_REMEDY = "give a run folder, or a state dict with a head like the one that is trained"


def load_from(segmenter: Segmenter, source: Path, label_space: LabelSpace) -> str:
    """Loads the head from a run folder (its best checkpoint) or a state dict file; returns what was done, in words.

    A class keeps its row of the class layer where both label spaces have its name; for other classes the layer stays
    as it was initialised. A state dict has no names: the same number of classes is taken by position.
    What of the backbone the run trained is loaded too where the same part of the same backbone is trained here.

    Args:
        segmenter: freshly built; unchanged on error.
        source: a run folder or a file.
        label_space: of the training that starts.

    Raises:
        ValueError: nothing there, a folder that is no run, a damaged file, or a head of other sizes.
    """
    return f"load_from={source}: " + (
        _load_run(segmenter, source, label_space)
        if source.is_dir()
        else _load_file(segmenter, source, label_space.class_names)
    )


def refuse_missing(source: str) -> None:
    """Raises ValueError for a ``load_from`` that is a path with nothing there."""
    if not is_address(source) and not Path(source).exists():
        raise ValueError(f"load_from={source}: no such folder or file; {_REMEDY}")


def _load_run(segmenter: Segmenter, source: Path, label_space: LabelSpace) -> str:
    config, names, checkpoint, state = _read_run(source)
    head = {name.removeprefix("head."): tensor for name, tensor in state.items() if name.startswith("head.")}
    classes = ClassRows(names, label_space.class_names, len(names))
    try:
        text = load_head(segmenter.head, head, f"load_from={source}", classes)
    except ValueError as error:
        raise ValueError(f"{error}: {_head_in_words(config)}") from None
    frozen_sha256 = checkpoint.metadata.get("backbone_sha256")
    if config.model.mode == "freeze" and not trains_bands(config):
        return text + _other_backbone(segmenter.backbone, frozen_sha256)
    return text + "; " + _load_backbone(segmenter, state, config, frozen_sha256)


def _read_run(source: Path) -> tuple[Config, tuple[str, ...], Checkpoint, dict[str, Tensor]]:
    """The config of the run, its classes, its best checkpoint, and the weights in it."""
    run, said = RunFolder(source), f"load_from={source}"
    if not run.config.is_file():
        raise ValueError(f"{said}: not a run folder (no config.yaml in it); {_likely_run(source)}")
    checkpoint = Checkpoint.find(run.checkpoint("best"))
    if checkpoint is None:
        raise ValueError(
            f"{said}: a run without checkpoints/best, which its first evaluation writes; give a run that got as far"
        )
    try:
        config, names = run.read_config(), run.read_labels().class_names
        run.refuse_other_training(checkpoint)
        return config, names, checkpoint, checkpoint.weights()
    except ValueError as error:
        # Options of verbs on a run are none of a training that starts.
        text = str(error).removeprefix(f"{source}: ").replace(REMEDY, "copy the whole run again, or give another")
        raise ValueError(f"{said}: {text}") from None


def _head_in_words(config: Config) -> str:
    """What of a run's config decides the sizes of its head, as it would be typed."""
    head = config.decoder_head
    changed = {"type": head.type} | head.model_dump(exclude_defaults=True, exclude={"num_classes"})
    settings = [f"decoder_head.{key}={value}" for key, value in changed.items()]
    return " ".join([*settings, f"model.dino_hub={config.model.dino_hub}"]).replace(", ", ",")


def _likely_run(folder: Path) -> str:
    """What to give in place of a folder that is no run."""
    around = next((parent for parent in folder.absolute().parents if RunFolder(parent).config.is_file()), None)
    if around is not None:
        return f"it lies in a run: give load_from={around}"
    within = sorted(entry.name for entry in folder.iterdir() if RunFolder(entry).config.is_file())
    if within:
        return f"give one of the runs in it: {list_names(within)}"
    if (folder / CONTENTS_FILE).is_file():
        return "it is a checkpoint without its run: give the run folder that it is of"
    if (folder / MODEL_FILE).is_file():
        return f"for the state dict in it give load_from={folder / MODEL_FILE}"
    return "give a run folder (the output_dir of a training), or a file with a state dict"


def _other_backbone(backbone: Backbone, frozen_sha256: str | None) -> str:
    """What to know where a head was trained on another frozen backbone, or a patch embedding for other bands.

    That the backbone is trained here, beside the head, makes no other of it.
    """
    # Freshly built, so that what will be trained of it is as it was loaded.
    ours = {f"model.{name}": value for name, value in backbone.plain_state().items()}
    if frozen_sha256 in (None, "", backbone_hash(ours)):
        return ""
    return "; its backbone was ANOTHER one, or took other bands, so the head meets other features here"


def _load_backbone(segmenter: Segmenter, state: Mapping[str, Tensor], config: Config, frozen_sha256: str | None) -> str:
    backbone, mode = segmenter.backbone, config.model.mode
    trained = {f"backbone.{name}": value for name, value in backbone.named_parameters() if value.requires_grad}
    same = (backbone.mode, backbone.trains_bands) == (mode, trains_bands(config)) and all(
        name in state and state[name].shape == value.shape for name, value in trained.items()
    )
    if mode == "lora":
        same = same and _same_adapters(backbone, state, settled_lora(config.lora))
    # Adapters, and a patch embedding, mean something beside the weights they were trained with only.
    if same and mode != "full":
        same = backbone_hash(backbone.frozen_state()) == frozen_sha256
    if not same:
        trained_part = f"model.mode={mode}" + (", model.train_bands=true" if trains_bands(config) else "")
        return (
            f"its backbone was TRAINED ({trained_part}) and STAYS BEHIND, so the head meets other features here; "
            f"{trained_part} with the same model and lora options takes it along"
        )
    segmenter.load_state_dict({name: state[name] for name in trained}, strict=False)
    return f"{len(trained)} trained tensors of the backbone loaded too"


def _same_adapters(backbone: Backbone, state: Mapping[str, Tensor], lora: LoraConfig) -> bool:
    """Whether adapters of a state stand at the same layers, and count as much as they did there."""
    ours = {f"backbone.{name}" for name, _ in backbone.named_parameters() if is_adapter(name)}
    theirs = {name for name in state if name.startswith("backbone.") and is_adapter(name)}
    settings = [(options.alpha, options.use_rslora, options.bias) for options in (backbone.lora, lora)]
    return ours == theirs and settings[0] == settings[1]


def _load_file(segmenter: Segmenter, source: Path, names: tuple[str, ...]) -> str:
    said = f"load_from={source}"
    state = named_tensors(read_state(source, said, _REMEDY), said, _REMEDY)
    if isinstance(segmenter.head, Mask2FormerHead):
        # The backbone in the file is not read, and may hold placeholders.
        refuse_not_finite({name: tensor for name, tensor in state.items() if _BACKBONE not in name}, said, _REMEDY)
        try:
            report = load_dinov3_state(segmenter.head, state)
        except ValueError as error:
            raise ValueError(f"{said}: {error}") from None
        return f"{report}; {ClassRows(None, names, report.classes_in_state)}"
    if isinstance(segmenter.head, EomtHead):
        return load_eomt(segmenter, state, said, names)
    head = _published_head(segmenter.head, state)
    if not head:
        shown = list_names((show_name(name) for name in state), _NAMES_SHOWN)
        whose = f"PMT's code ({PREFIX}*)" if isinstance(segmenter.head, PmtHead) else f"DINOv3's code ({_DINOV3_HEAD}*)"
        raise ValueError(f"{said}: holds no head of {whose}, but {shown}; {_REMEDY}")
    refuse_not_finite(head, said, _REMEDY)
    return load_head(segmenter.head, head, said, ClassRows(None, names, classes_in(segmenter.head, head)))


def _published_head(head: Head[Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the head's own, under its names."""
    if isinstance(head, PmtHead):
        return decoder_tensors(state)
    named = {name.split(_DINOV3_HEAD, 1)[1]: value for name, value in state.items() if _DINOV3_HEAD in name}
    named.pop("batchnorm_layer.num_batches_tracked", None)
    return named
