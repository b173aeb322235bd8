"""Why the tensors of a file do not fit a backbone: the aspects by which backbones differ, read off their tensors."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from dinoseg.backbone_catalogue import BackboneSpec, list_backbones


@dataclass(frozen=True)
class _Anatomy:
    family: str
    width: int
    blocks: int
    patch_size: int
    registers: int
    position_grid: int  # side, in patches; 0 with rotary positions and for a ConvNeXt


def likely_reason(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """The likely reason for a mismatch between a file's tensors and a model's, both under timm's names."""
    theirs, ours = _anatomy(state), _anatomy(target)
    aspects = [field.name for field in fields(_Anatomy) if getattr(theirs, field.name) != getattr(ours, field.name)]
    if "family" in aspects:  # of which the rest follows
        aspects = ["family"]
    differences = [
        f"{aspect.replace('_', ' ')} {getattr(theirs, aspect)} in the file, {getattr(ours, aspect)} in the model"
        for aspect in aspects
    ]
    if not differences:
        return "the file is incomplete or altered"
    fitting = [spec.name for spec in list_backbones() if _fits(spec, theirs)]
    return "; ".join(differences) + (f" (the file looks like {' or '.join(fitting)})" if fitting else "")


def _anatomy(state: Mapping[str, Tensor]) -> _Anatomy:
    if "stem.0.weight" in state:
        norm, stem = state.get("head.norm.weight"), state["stem.0.weight"]
        blocks = sum(1 for name in state if re.fullmatch(r"stages\.\d+\.blocks\.\d+\.conv_dw\.weight", name))
        return _Anatomy("ConvNeXt", 0 if norm is None else len(norm), blocks, stem.shape[-1], 0, 0)
    patch, registers, positions = (state.get(key) for key in ("patch_embed.proj.weight", "reg_token", "pos_embed"))
    return _Anatomy(
        family="ViT with rotary positions (DINOv3)" if positions is None else "ViT with learned positions (DINOv2)",
        width=0 if patch is None else patch.shape[0],
        blocks=_count_blocks(state),
        patch_size=0 if patch is None else patch.shape[-1],
        registers=0 if registers is None else registers.shape[1],
        position_grid=0 if positions is None else math.isqrt(positions.shape[1]),
    )


def _count_blocks(names: Iterable[str]) -> int:
    found = (re.match(r"blocks\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _fits(spec: BackboneSpec, anatomy: _Anatomy) -> bool:
    if spec.kind == "convnext" or (spec.embed_dim, spec.depth) != (anatomy.width, anatomy.blocks):
        return False
    learned_positions = not spec.name.startswith("dinov3_")
    if spec.patch_size != anatomy.patch_size or learned_positions != (anatomy.position_grid > 0):
        return False
    return not learned_positions or spec.name.endswith("_reg") == (anatomy.registers > 0)
