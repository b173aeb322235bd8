"""The backbone: a DINO ViT or ConvNeXt by name, its weights, the layers that are tapped, and what of it is trained."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from dinoseg.backbone.attention import quick_attention
from dinoseg.backbone.catalogue import BackboneSpec
from dinoseg.backbone.feature_map import FeatureMap
from dinoseg.backbone.fitting import fit_to_patches, fitted_size
from dinoseg.backbone.input_bands import RGB, PictureBands, embedding_name, picture_bands, widen
from dinoseg.backbone.layer_sets import layer_indices
from dinoseg.backbone.lora import (
    adapted_layers,
    add_lora,
    is_adapter,
    is_trained_bias,
    merge_lora,
    train_adapters,
    without_adapters,
)
from dinoseg.backbone.open_blocks import OpenBlocks
from dinoseg.backbone.patch_size import positions_of_one_grid, set_patch_size
from dinoseg.backbone.timm_models import create_model, find_or_describe, model_from_hub
from dinoseg.backbone.weights import WeightsReport, load_weights
from dinoseg.config import LoraConfig, settled_lora

MODES = ("freeze", "lora", "full")
# Of a ViT, what only its own classifier comes to, after the last block.
_POOLING = ("attn_pool", "fc_norm", "head")


class Backbone(nn.Module):
    """A feature extractor for images of any size.

    ``layers`` are indices of blocks (ViT) or stages (ConvNeXt), ``out_channels`` and ``strides`` (pixels of the
    resized image per cell) have one entry per tapped layer. Mode "freeze": no gradients, always in eval mode,
    forward without autograd graph. Mode "lora": adapters beside the attention projections are trained, with the biases
    that ``lora.bias`` names; all else stays frozen and in eval mode. Mode "full": every parameter that the tapped
    layers depend on is trained. ``bands.trained``: the patch embedding is trained in every mode.

    With ``use_norm`` the model's final norm is applied to each tapped layer. A ConvNeXt's final norm fits the
    last stage only: earlier stages come without. A ViT that averages its patches before the norm has none of patches:
    all layers come without.

    ``scale``: how much larger than it is given the model sees an image, so that what is thinner than a patch is not.

    ``open_blocks``: how many of the last blocks a head runs itself (``open_last_blocks``); none for most heads.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: BackboneSpec,
        layers: Sequence[int],
        *,
        use_norm: bool = True,
        mode: str = "freeze",
        weights_report: WeightsReport | None = None,
        lora: LoraConfig | None = None,
        gradient_checkpointing: bool = False,
        scale: float = 1.0,
        bands: PictureBands = RGB,
    ) -> None:
        super().__init__()
        if bands.count != picture_bands(model):
            widen(model, bands.count, bands.weights)
        self.model: Any = model
        self.bands = bands.count
        self.trains_bands = bands.trained
        self.spec = spec
        self.layers = tuple(layers)
        self.use_norm = use_norm
        self.weights_report = weights_report
        self.gradient_checkpointing = gradient_checkpointing
        self.scale = scale
        self.open_blocks = 0
        if isinstance(model, ConvNeXt):
            stages: Any = model.feature_info
            self.out_channels = tuple(int(stages[layer]["num_chs"]) for layer in self.layers)
            self.strides = tuple(int(stages[layer]["reduction"]) for layer in self.layers)
        else:
            self.out_channels = (spec.embed_dim,) * len(self.layers)
            self.strides = (spec.patch_size,) * len(self.layers)
        self.lora = settled_lora(lora or LoraConfig())
        if mode == "lora":
            add_lora(model, spec, self.layers[-1], self.lora)
        self.set_mode(mode)

    def set_mode(self, mode: str) -> None:
        """Decide what is trained: "freeze" nothing, "lora" adapters, "full" all that the output depends on.

        Raises:
            ValueError: another mode, or "lora" for a backbone that was built without adapters.
        """
        if mode not in MODES:
            raise ValueError(f"model.mode: {mode!r} is not one of {', '.join(MODES)}")
        if mode == "lora" and not any(is_adapter(name) for name, _ in self.model.named_parameters()):
            raise ValueError("model.mode=lora: this backbone was built without adapters; build it in that mode")
        self.mode = mode
        adapted = adapted_layers(self.model)
        embedding = f"{embedding_name(self.model)}.weight"
        for name, parameter in self.model.named_parameters():
            if mode == "lora":
                trained = is_adapter(name) or is_trained_bias(name, self.lora.bias, adapted)
            else:
                trained = mode == "full"
            trained = trained or (self.trains_bands and name == embedding)
            parameter.requires_grad_(trained and self._reaches_output(name))
        self.train(self.training)

    @property
    def num_heads(self) -> int | None:
        """Attention heads of each block of a ViT; None for a ConvNeXt."""
        return int(self.model.blocks[0].attn.num_heads) if self.spec.kind == "vit" else None

    def open_last_blocks(self, count: int) -> OpenBlocks:
        """Leaves its last blocks to a head that runs them itself, among tokens of its own.

        From now on ``forward`` gives what goes into them, without the final norm. What is trained stays the same: the
        blocks are the backbone's.

        Raises:
            ValueError: several tapped layers, or fewer blocks than asked for.
        """
        if len(self.layers) != 1 or not 0 < count <= self.layers[0]:
            raise ValueError(
                f"{count} last blocks of layers {list(self.layers)} cannot be left to the head: it takes one layer, "
                f"and at least one block before them; give decoder_head.decoder_layers between 1 and {self.layers[-1]}"
                ", and decoder_head.backbone_out_layers=LAST"
            )
        self.open_blocks = count
        return OpenBlocks(self.model, self.layers[0] - count + 1, self.layers[0], use_norm=self.use_norm)

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """The layers whose features ``forward`` gives: those that are tapped, before the blocks of the head's."""
        return tuple(layer - self.open_blocks for layer in self.layers)

    def merge_adapters(self) -> None:
        """Makes one weight of every projection and its adapter: a frozen backbone of the same features."""
        merge_lora(self.model)
        self.set_mode("freeze")

    def frozen_state(self) -> dict[str, Tensor]:
        """The state dict that the backbone would have without adapters, under the names it would have then; without
        what is trained beside them: biases, and the patch embedding."""
        trained = {name for name, value in self.named_parameters() if value.requires_grad and self.mode != "full"}
        return {without_adapters(name): value for name, value in self.state_dict().items() if name not in trained}

    def plain_state(self) -> dict[str, Tensor]:
        """The state dict of the model without adapters, under the names of its own weight files."""
        state = self.model.state_dict()
        return {without_adapters(name): value for name, value in state.items() if not is_adapter(name)}

    def layer_of(self, parameter_name: str) -> int:
        """The layer that a parameter belongs to: -1 before the first block (embeddings), the number of layers that
        the output depends on after the last (final norm). ``parameter_name`` is one of ``named_parameters``."""
        parts = parameter_name.removeprefix("model.").split(".")
        if parts[0] in ("blocks", "stages"):
            return int(parts[1])
        # A norm before the blocks of a ViT has the name of a ConvNeXt's final one.
        final = ("norm", "head") if self.spec.kind == "vit" else ("norm_pre", "head")
        return self.layers[-1] + 1 if parts[0] in final else -1

    def _reaches_output(self, parameter_name: str) -> bool:
        # A parameter without gradient would stall DistributedDataParallel and gain nothing but weight decay.
        parts = parameter_name.split(".")
        if parts[0] in ("blocks", "stages"):
            return int(parts[1]) <= self.layers[-1]
        if self.spec.kind == "vit":
            return self.use_norm if parts[0] == "norm" else parts[0] not in _POOLING
        if parts[0] == "norm_pre" or parts[:2] == ["head", "norm"]:
            return self.use_norm and self.layers[-1] == self.spec.depth - 1
        return parts[0] != "head"

    def train(self, mode: bool = True) -> "Backbone":
        """What is frozen stays in eval mode whatever the parent does; the adapters' dropout follows."""
        super().train(mode and self.mode == "full")
        if self.mode == "lora":
            train_adapters(self.model, mode)
        if self.gradient_checkpointing:
            self.model.set_grad_checkpointing(mode and self._has_gradients)
        return self

    @property
    def _has_gradients(self) -> bool:
        return self.mode != "freeze" or self.trains_bands

    def at_size(self, size: tuple[int, int]) -> AbstractContextManager[None]:
        """Within, images have this height and width in pixels, and a traced graph has no resize of positions."""
        height, width = fitted_size(size, self.spec.patch_size, self.scale)
        return positions_of_one_grid(self.model, (height // self.spec.patch_size, width // self.spec.patch_size))

    def forward(self, image: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        """Features of a normalised image, one entry per tapped layer.

        Height and width may be anything: the image is resized bilinearly, by ``scale``, to the next multiple of the
        patch size, so a map covers exactly the extent of the image.
        """
        return self.forward_fitted(fit_to_patches(image, self.spec.patch_size, self.scale))

    def forward_fitted(self, image: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        """Features of an image that has the backbone's scale already, and sides that are multiples of the patch."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._has_gradients):
            if isinstance(self.model, ConvNeXt):
                return self._forward_convnext(self.model, image)
            with quick_attention(image):
                return self._forward_vit(self.model, image)

    def _forward_vit(self, model: Any, image: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        prefix_tokens = int(model.num_prefix_tokens)
        outputs = model.forward_intermediates(
            image,
            indices=list(self.feature_layers),
            return_prefix_tokens=prefix_tokens > 0,
            norm=self.use_norm and not self.open_blocks,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        grid = (image.shape[-2] // self.spec.patch_size, image.shape[-1] // self.spec.patch_size)
        features = []
        for output in outputs:
            patches, prefix = output if prefix_tokens else (output, None)
            cls = prefix[:, 0] if prefix is not None and model.cls_token is not None else None
            features.append(FeatureMap(map=patches.unflatten(1, grid).permute(0, 3, 1, 2), cls=cls, prefix=prefix))
        return features

    def _forward_convnext(self, model: Any, image: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        maps = model.forward_intermediates(
            image, indices=list(self.layers), norm=False, stop_early=True, intermediates_only=True
        )
        features = []
        for layer, stage in zip(self.layers, maps, strict=True):
            pooled = stage.mean(dim=(2, 3), keepdim=True)
            if self.use_norm and layer == self.spec.depth - 1:
                norm = model.head.norm if isinstance(model.norm_pre, nn.Identity) else model.norm_pre
                stage, pooled = norm(stage), norm(pooled)
            features.append(FeatureMap(map=stage, cls=pooled.flatten(1)))
        return features


def build_backbone(
    name: str,
    weights: str = "hub",
    layers: str | Sequence[int] = "LAST",
    *,
    use_norm: bool = True,
    mode: str = "freeze",
    drop_path: float = 0.0,
    lora: LoraConfig | None = None,
    gradient_checkpointing: bool = False,
    scale: float = 1.0,
    bands: PictureBands = RGB,
    patch_size: int | None = None,
) -> Backbone:
    """A backbone by catalogue name, alias or ``timm:<model name>``.

    ``weights``: "hub" (downloaded by timm), "none" (random initialisation, with a warning), or a local file or
    folder in any of the dialects of ``dinoseg.backbone.weights``. ``drop_path``: stochastic depth rate, which acts
    in mode "full" only. ``lora``: the adapters of mode "lora", defaults when left out. ``gradient_checkpointing``:
    the blocks are computed a second time in the backward pass, which saves memory; in training, where there is one.
    ``scale``: how much larger than it is given the model sees an image. ``bands``: of the pictures it takes.
    ``patch_size``: pixels a patch, where they are to be others than those of its weights.

    Raises:
        ValueError: unknown name, layers or mode; weights that cannot be had, read, or matched in full; adapters that
            this backbone cannot have.
    """
    spec = find_or_describe(name)
    tapped = layer_indices(layers, spec.depth)
    model, report = _model_with_weights(spec, weights, drop_path, patch_size)
    spec = set_patch_size(model, spec, patch_size)
    return Backbone(
        model,
        spec,
        tapped,
        use_norm=use_norm,
        mode=mode,
        weights_report=report,
        lora=lora,
        gradient_checkpointing=gradient_checkpointing,
        scale=scale,
        bands=bands,
    )


def _model_with_weights(
    spec: BackboneSpec, weights: str, drop_path: float, patch_size: int | None
) -> tuple[nn.Module, WeightsReport | None]:
    if weights == "hub":
        return model_from_hub(spec, drop_path)
    model = create_model(spec, drop_path)
    if weights != "none":
        return model, load_weights(model, weights, spec.name, patch_size)
    warnings.warn(
        f"backbone {spec.name}: random initialisation (model.weights=none), its features are not DINO features",
        stacklevel=3,
    )
    return model, None
