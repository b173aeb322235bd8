"""Backbones as timm models: built from a spec, described when timm alone knows them, weights from the hub."""

from typing import Any

import timm
import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dinoseg.backbone.catalogue import TIMM_PREFIX, BackboneSpec, check_timm_name, find_backbone
from dinoseg.backbone.weights import WeightsReport

_HUB_FILE = "model.safetensors"
_HUB_TIMEOUT_SECONDS = 10.0


def find_or_describe(name: str) -> BackboneSpec:
    """The spec of a catalogue name, an alias, or ``timm:<model name>`` (read off the model, built without memory).

    Raises:
        ValueError: unknown name, or a timm model that is neither ViT nor ConvNeXt.
    """
    if not name.startswith(TIMM_PREFIX):
        return find_backbone(name)
    timm_name = name.removeprefix(TIMM_PREFIX)
    check_timm_name(timm_name)
    with torch.device("meta"):
        model = _create_timm_model(timm_name, 0.0, {})
    if not isinstance(model, (VisionTransformer, Eva, ConvNeXt)):
        raise ValueError(
            f"model.dino_hub: timm model {timm_name!r} is a {type(model).__name__}; "
            "a ViT (VisionTransformer, Eva) or a ConvNeXt is needed"
        )
    return _describe(name, timm_name, model)


def _describe(name: str, timm_name: str, model: Any) -> BackboneSpec:
    is_convnext = isinstance(model, ConvNeXt)
    configuration = model.pretrained_cfg
    repository = configuration.get("hf_hub_id")
    return BackboneSpec(
        name=name,
        timm_name=timm_name,
        kind="convnext" if is_convnext else "vit",
        patch_size=model.feature_info[-1]["reduction"] if is_convnext else model.patch_embed.patch_size[0],
        embed_dim=model.num_features,
        depth=len(model.stages if is_convnext else model.blocks),
        parameters=round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 3),
        licence=configuration.get("license") or "not stated by timm",
        origin=f"https://huggingface.co/{repository}" if repository else "none published",
        files=(f"the {_HUB_FILE} of https://huggingface.co/{repository}",) if repository else (),
    )


def create_model(spec: BackboneSpec, drop_path: float) -> nn.Module:
    """The model of a spec without classifier, randomly initialised."""
    if spec.timm_name:
        return _create_timm_model(spec.timm_name, drop_path, {})
    return VisionTransformer(
        img_size=16 * spec.patch_size,
        patch_size=spec.patch_size,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=3,
        num_classes=0,
        dynamic_img_size=True,
        drop_path_rate=drop_path,
    )


def _create_timm_model(timm_name: str, drop_path: float, pretrained: dict[str, Any]) -> nn.Module:
    # A ConvNeXt takes any size by nature and knows no such argument. A ViT keeps the position grid of its weights
    # and resamples it for every input size.
    options: dict[str, Any] = {} if timm_name.startswith("convnext") else {"dynamic_img_size": True}
    try:
        return timm.create_model(timm_name, num_classes=0, drop_path_rate=drop_path, **options, **pretrained)
    except TypeError as error:
        raise ValueError(f"model.dino_hub: timm model {timm_name!r} is not a ViT of variable size ({error})") from error


def model_from_hub(spec: BackboneSpec, drop_path: float) -> tuple[nn.Module, WeightsReport]:
    """The model of a spec with the weights timm publishes for it: from the local cache, else downloaded.

    Raises:
        ValueError: nothing published, or the download failed; the message names the files that do as well.
    """
    if spec.origin.startswith("none published"):
        raise ValueError(
            f"model.weights=hub: there are no published weights for {spec.name!r}; give model.weights=none "
            "(random initialisation) or model.weights=/path/to/file with weights you trained"
        )
    repository = spec.origin.removeprefix("https://huggingface.co/")
    try:
        pretrained: dict[str, Any] = {"pretrained": True}
        cached = try_to_load_from_cache(repository, _HUB_FILE)
        if isinstance(cached, str):
            pretrained["pretrained_cfg_overlay"] = {"file": cached}
        else:
            # Fails at once without network, where the download would go on trying for a minute.
            HfApi().model_info(repository, timeout=_HUB_TIMEOUT_SECONDS)
        model = _create_timm_model(spec.timm_name, drop_path, pretrained)
    # Whatever a download can raise (each of several HTTP libraries has its own classes) has the same remedy.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"model.weights=hub: the weights of {spec.name!r} could not be fetched from {spec.origin} ({reason}). "
            f"Without network, give a file as model.weights=/path/to/file; these would do: {'; '.join(spec.files)}."
        ) from error
    total = len(model.state_dict())
    return model, WeightsReport(matched=total, total=total, dialect="timm", path=spec.origin, sha256=None)
