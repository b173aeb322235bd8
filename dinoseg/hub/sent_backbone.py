"""What is sent of a run's backbone: of one that is published, and was left as it is, nothing but its name and hash."""

from contextlib import suppress

from huggingface_hub import try_to_load_from_cache

from dinoseg.backbone import backbone_hash
from dinoseg.backbone.timm_models import find_or_describe
from dinoseg.config import Config, with_changes
from dinoseg.config.defaults import trains_bands
from dinoseg.hub.layout import MODEL_FILE, BackboneRecord
from dinoseg.models.segmenter import build_segmenter
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.zoo.asking import HUB


def backbone_of(checkpoint: Checkpoint, config: Config, num_classes: int) -> BackboneRecord:
    """Which backbone a checkpoint was trained on, and where whoever loads it has its weights from.

    Args:
        config: of the run.

    Raises:
        ValueError: the checkpoint is damaged, or does not say which backbone it was trained on.
    """
    digest = checkpoint.metadata.get("backbone_sha256")
    if digest is None:
        raise ValueError(
            f"{checkpoint.folder}: does not say which backbone it was trained on (of an older version); push it with "
            "--with-backbone"
        )
    name = config.model.dino_hub
    if checkpoint.holds_backbone and not _is_published_as_trained(checkpoint, config):
        return BackboneRecord(name=name, sha256=digest, weights="included")
    published = config.model.weights == "hub" or _is_published(config, num_classes, digest)
    return BackboneRecord(name=name, sha256=digest, weights="hub" if published else "file")


def published_name(backbone: str) -> str | None:
    """``owner/name`` on the Hub of a backbone's weights; None where none are published.

    Raises:
        ValueError: no such backbone.
    """
    origin = find_or_describe(backbone).origin
    return origin.removeprefix(HUB) if origin.startswith(HUB) else None


def _is_published_as_trained(checkpoint: Checkpoint, config: Config) -> bool:
    """Whether a checkpoint that holds its backbone was trained on the published one, and left it as it was."""
    frozen = (config.model.mode or "freeze") == "freeze" and not trains_bands(config)
    # Resampled patches differ a little by machine; bands are widened alike everywhere.
    if not frozen or config.model.weights != "hub" or config.model.patch_size is not None:
        return False
    with suppress(ValueError):
        # An export, whose weights may be merged, has no progress.
        return "step" in checkpoint.progress
    return False


def _is_published(config: Config, num_classes: int, digest: str) -> bool:
    """Whether a file holds what is published: known where the Hub's cache has that; nothing is fetched."""
    repository = published_name(config.model.dino_hub)
    if repository is None or not isinstance(try_to_load_from_cache(repository, MODEL_FILE), str):
        return False
    segmenter = build_segmenter(with_changes(config, {"model.weights": "hub"}), num_classes)
    return backbone_hash(segmenter.backbone.frozen_state()) == digest
