"""The files of a run that go to the Hub, written into a folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dinoseg.backbone import backbone_hash
from dinoseg.config import Config, with_changes
from dinoseg.hub.layout import (
    CALIBRATION_FILE,
    CARD_FILE,
    CONFIG_FILE,
    LABELS_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PICTURES,
    BackboneRecord,
    config_json,
)
from dinoseg.hub.local_keys import public_metadata, without_local
from dinoseg.hub.public_metrics import public_metrics
from dinoseg.hub.sent_backbone import backbone_of, published_name
from dinoseg.inference.opening import OpenedRun
from dinoseg.labels import LabelSpace
from dinoseg.report.model_card import CardFacts, model_card
from dinoseg.run_folder.calibration_file import CalibrationFile
from dinoseg.run_folder.checkpoint import Checkpoint, model_state
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.recorded_evaluation import read_evaluation
from dinoseg.run_folder.trained_with import describe_training
from dinoseg.system.files import file_sha256, replace_text
from dinoseg.system.tensor_files import save_tensors
from dinoseg.verbs.export import config_of_export

_MOST_PICTURES = 4


@dataclass(frozen=True)
class PushedParts:
    """What is sent of a run, beside what always is.

    Attributes:
        repository: ``owner/name``, for the card.
        whole: the backbone, adapters merged into its weights.
        pictures: a few of the validation.
    """

    repository: str
    whole: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class PushContents:
    """What was written.

    Attributes:
        files: names and bytes.
        facts: what the card says.
    """

    files: tuple[tuple[str, int], ...]
    facts: CardFacts


@dataclass(frozen=True)
class _Model:
    """What goes into the model file, and the config that it is of."""

    tensors: Mapping[str, Any]
    backbone: BackboneRecord
    config: Config


def write_push_contents(opened: OpenedRun, checkpoint: Checkpoint, folder: Path, parts: PushedParts) -> PushContents:
    """Writes the files.

    Args:
        opened: the run.
        checkpoint: of it.
        folder: an empty one.
        parts: which.

    Raises:
        ValueError: a damaged file of the run, or, for the whole model, weights that are not to be had.
    """
    run, space = RunFolder(checkpoint.folder.parent.parent), opened.label_space
    model = _whole_model(opened) if parts.whole else _trained_model(opened, checkpoint)
    save_tensors(dict(model.tensors), folder / MODEL_FILE, _metadata(model, space, checkpoint.metadata))
    space.save(folder / LABELS_FILE)
    if opened.calibration is not None:
        of_pushed = {"checkpoint": "best", "weights_sha256": file_sha256(folder / MODEL_FILE)}
        CalibrationFile(folder / CALIBRATION_FILE).write(opened.calibration.model_copy(update=of_pushed))
    replace_text(folder / CONFIG_FILE, config_json(model.config, model.backbone, folder))
    split, metrics = _evaluation(run, opened, checkpoint)
    pretrained = opened.config.model.weights != "none"
    if metrics is not None:
        replace_text(folder / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    facts = CardFacts(
        repository=parts.repository,
        config=model.config,
        label_space=space,
        backbone=model.backbone,
        base_model=published_name(model.backbone.name) if pretrained else None,
        metadata=checkpoint.metadata,
        split=split,
        metrics=metrics,
        pictures=_write_pictures(run, folder) if parts.pictures else (),
        pretrained=pretrained,
    )
    replace_text(folder / CARD_FILE, model_card(facts))
    return PushContents(_listed(folder), facts)


def _trained_model(opened: OpenedRun, checkpoint: Checkpoint) -> _Model:
    """What the checkpoint trained; of a backbone that is published nothing."""
    config = without_local(opened.config)
    backbone = backbone_of(checkpoint, opened.config, opened.label_space.num_classes)
    included = backbone.weights == "included"
    tensors = {
        name: tensor
        for name, tensor in checkpoint.weights().items()
        # Of a backbone that is published the checkpoint may hold all; what was trained of it is not frozen.
        if included or not checkpoint.holds_backbone or not name.startswith("backbone.")
    }
    return _Model(tensors, backbone, with_changes(config, {"model.save_backbone": included}))


def _whole_model(opened: OpenedRun) -> _Model:
    """As ``export`` writes it."""
    segmenter = opened.load_merged()
    digest = backbone_hash(segmenter.backbone.frozen_state())
    backbone = BackboneRecord(name=opened.config.model.dino_hub, sha256=digest, weights="included")
    return _Model(model_state(segmenter, whole=True), backbone, without_local(config_of_export(opened.config)))


def _metadata(model: _Model, space: LabelSpace, of_checkpoint: Mapping[str, str]) -> dict[str, str]:
    """That of the model file: what a checkpoint says, without paths and names."""
    return {
        **public_metadata(of_checkpoint),
        "backbone": model.backbone.name,
        "backbone_sha256": model.backbone.sha256,
        "backbone_saved": str(model.backbone.weights == "included").lower(),
        **describe_training(model.config, space),
    }


def _evaluation(run: RunFolder, opened: OpenedRun, checkpoint: Checkpoint) -> tuple[str, dict[str, Any] | None]:
    """The figures of test, else of val, of this checkpoint."""
    for split in ("test", "val"):
        if not (run.evaluation(split) / "metrics.json").is_file():
            continue
        recorded = read_evaluation(run, split, opened.label_space)
        if recorded.is_of(checkpoint):
            return split, public_metrics(recorded.metrics)
    return "", None


def _write_pictures(run: RunFolder, folder: Path) -> tuple[str, ...]:
    """A few of those that the last evaluation of the training drew, without their names."""
    names = []
    for number, file in enumerate(sorted((run.overlays / "val").glob("*.png"))[:_MOST_PICTURES], start=1):
        name = f"{PICTURES}/{number}.png"
        (folder / PICTURES).mkdir(exist_ok=True)
        with Image.open(file) as picture:
            # Pixels alone.
            picture.convert("RGB").save(folder / name)
        names.append(name)
    return tuple(names)


def _listed(folder: Path) -> tuple[tuple[str, int], ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
