"""Tiny EoMT models of transformers with random weights, and segmenters of ours with the same sizes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)

from dinoseg.backbone import Backbone, BackboneSpec
from dinoseg.models.eomt_head import EomtHead, EomtOptions
from dinoseg.models.segmenter import Segmenter

DIM, DEPTH, HEADS, QUERIES, BLOCKS, CLASSES = 48, 4, 3, 5, 2, 3


@dataclass(frozen=True)
class TinyEomt:
    """Sizes of one tiny model."""

    family: str
    patch: int
    registers: int
    grid: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        return self.grid[0] * self.patch, self.grid[1] * self.patch

    def image(self, batch: int = 2) -> Tensor:
        return torch.randn(batch, 3, *self.size, generator=torch.Generator().manual_seed(1))

    def reference(self) -> Any:
        """transformers' model in evaluation mode, every tensor random."""
        shared: dict[str, Any] = {
            "hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "patch_size": self.patch,
            "num_blocks": BLOCKS, "num_queries": QUERIES, "num_labels": CLASSES, "num_register_tokens": self.registers,
            "num_upscale_blocks": 1 if self.patch < 16 else 2,
        }  # fmt: skip
        if self.family == "dinov3":
            config = EomtDinov3Config(image_size=64, intermediate_size=96, layer_norm_eps=1e-5, **shared)
            model = EomtDinov3ForUniversalSegmentation(config)
        else:
            # Its positions are those of a square; the same number of patches in another shape has as many.
            side = round((self.grid[0] * self.grid[1]) ** 0.5)
            model = EomtForUniversalSegmentation(EomtConfig(image_size=side * self.patch, **shared))
        model.grid_size = self.grid
        randomise(model)
        return model.eval()

    def vit(self) -> nn.Module:
        if self.family == "dinov3":
            return Eva(
                img_size=64, patch_size=self.patch, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, num_classes=0,
                mlp_ratio=96 / DIM, init_values=0.1,
                rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_rot_pos_emb=True,
                use_abs_pos_emb=False, use_fc_norm=False, num_reg_tokens=self.registers, dynamic_img_size=True,
                norm_layer=partial(nn.LayerNorm, eps=1e-5),
            )  # fmt: skip
        return VisionTransformer(
            img_size=self.size, patch_size=self.patch, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, num_classes=0,
            init_values=0.1, reg_tokens=self.registers, no_embed_class=self.registers > 0, dynamic_img_size=True,
        )  # fmt: skip

    def spec(self) -> BackboneSpec:
        return BackboneSpec("tiny", "", "vit", self.patch, DIM, DEPTH, 0.1, "none", "none")

    def segmenter(self, **options: Any) -> Segmenter:
        torch.manual_seed(0)
        given = {"model": self.vit(), "spec": self.spec(), "layers": (DEPTH - 1,), "mode": "full"} | options
        backbone = Backbone(**given)
        head = EomtHead(backbone, num_classes=CLASSES, options=EomtOptions(num_queries=QUERIES, decoder_layers=BLOCKS))
        return Segmenter(backbone, head, CLASSES)


DINOV3 = TinyEomt("dinov3", 16, 2, (3, 5))
MODELS = {
    "DINOv3, patch 16, registers": DINOV3,
    "DINOv2, patch 14, registers": TinyEomt("dinov2", 14, 2, (2, 8)),
    "DINOv2, patch 16": TinyEomt("dinov2", 16, 0, (4, 4)),
}


def randomise(model: nn.Module) -> None:
    """Random values, large enough that all of them show in the output and masks are neither empty nor full."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_scale = "norm" in name and name.endswith("weight")
        parameter.data = 1 + 0.1 * noise if is_scale else 0.3 + 0.05 * noise if "lambda1" in name else 0.15 * noise


def authors_state(reference: Any) -> dict[str, Tensor]:
    """The state dict of a model as EoMT's authors write it."""
    state = {}
    for name, tensor in reference.state_dict().items():
        for ours, theirs in (
            ("query.", "q."),
            ("class_predictor.", "class_head."),
            ("mask_head.fc1.", "mask_head.0."),
            ("mask_head.fc2.", "mask_head.2."),
            ("mask_head.fc3.", "mask_head.4."),
            ("upscale_block.block.", "upscale."),
            ("layernorm2d.", "norm."),
            ("layernorm.", "encoder.backbone.norm."),
            ("embeddings.", "encoder.backbone.patch_embed."),
            ("layers.", "encoder.backbone.blocks."),
        ):
            if ours == "embeddings." and name.startswith("embeddings."):
                name = theirs + name.removeprefix(ours)
            elif name.startswith(ours) or ours == "layernorm2d.":
                name = name.replace(ours, theirs, 1)
        state[name if name.startswith("criterion.") else f"network.{name}"] = tensor.clone()
    return state | {"network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1)}
