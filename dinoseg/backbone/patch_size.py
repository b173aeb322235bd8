"""A ViT with patches of another size, or positions of another grid, than its weights were trained with."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dinoseg.backbone.catalogue import BackboneSpec
from dinoseg.backbone.dialects import State

_POSITIONS = "pos_embed"


def set_patch_size(model: Any, spec: BackboneSpec, patch_size: int | None) -> BackboneSpec:
    """Gives a timm ViT patches of another size, and returns the spec with it; as they are for None or its own size.

    The kernel of the patch embedding is resampled so that it gives of a resized patch what it gave (Beyer et al. 2023,
    "FlexiViT", section 3.4); learned positions are resampled to as many patches as the image of its training has.

    Raises:
        ValueError: a ConvNeXt.
    """
    if patch_size is None or patch_size == spec.patch_size:
        return spec
    if spec.kind != "vit":
        raise ValueError(
            f"model.patch_size={patch_size}: {spec.name} is a ConvNeXt, which has no patches; leave it out"
        )
    resize_patches(model, patch_size)
    return replace(spec, patch_size=patch_size)


def resize_patches(model: Any, patch_size: int) -> None:
    """Resamples patch embedding and positions of a timm ViT; nothing where its patches have that size."""
    if model.patch_embed.patch_size != (patch_size, patch_size):
        model.set_input_size(patch_size=(patch_size, patch_size))


def with_positions_of(state: State, target: Mapping[str, Tensor]) -> State:
    """Tensors under timm's names with the learned positions resampled to the square grid of the target's.

    Unchanged where they fit, where there are none, and where they cannot be those of a square.
    """
    theirs, ours = state.get(_POSITIONS), target.get(_POSITIONS)
    if theirs is None or ours is None or theirs.ndim != 3 or theirs.shape[1] == ours.shape[1]:
        return state
    sides = [math.isqrt(positions.shape[1]) for positions in (theirs, ours)]
    prefix = ours.shape[1] - sides[1] ** 2
    if prefix not in (0, 1) or theirs.shape[1] != sides[0] ** 2 + prefix:
        return state
    grids = [[side, side] for side in sides]
    return state | {_POSITIONS: resample_abs_pos_embed(theirs, grids[1], grids[0], num_prefix_tokens=prefix)}


@contextmanager
def positions_of_one_grid(model: nn.Module, grid: tuple[int, int]) -> Iterator[None]:
    """Within, a ViT takes images of so many rows and columns of patches only, and resizes no learned positions.

    For graphs of one size: timm puts the resize into a graph that is traced even where it changes nothing, and some
    engines have no bicubic one. Other models are left as they are.
    """
    if not isinstance(model, VisionTransformer) or model.pos_embed is None or not model.dynamic_img_size:
        yield
        return
    vit: Any = model
    positions, embedding = vit.pos_embed, vit.patch_embed
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    resized = resample_abs_pos_embed(
        positions.detach(), list(grid), list(embedding.grid_size), num_prefix_tokens=prefix
    )
    # Without this timm's forward adds positions to a grid of patches; with it, to a sequence.
    vit.pos_embed, vit.dynamic_img_size, embedding.flatten = nn.Parameter(resized, False), False, True
    try:
        yield
    finally:
        vit.pos_embed, vit.dynamic_img_size, embedding.flatten = positions, True, False
