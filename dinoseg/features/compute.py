"""The features of one whole image, in one piece or in tiles."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dinoseg.backbone import Backbone, FeatureMap, fit_to_patches
from dinoseg.data.transforms import resize_image
from dinoseg.features.recipe import FeatureRecipe

# Of a tile that its neighbour covers, too.
_OVERLAP = 1 / 3


def compute_features(
    backbone: Backbone, image: Float[Tensor, "bands height width"], recipe: FeatureRecipe, dtype: torch.dtype | None
) -> list[FeatureMap]:
    """Features of a normalised image at its native size, a batch of one.

    Args:
        dtype: of the forward pass; None or float32 for fp32.
    """
    device = next(backbone.parameters()).device
    image = resize_image(image, recipe.resized((image.shape[-2], image.shape[-1])))
    patch = backbone.spec.patch_size
    fitted = fit_to_patches(image[None].to(device), patch, backbone.scale)
    precision = torch.autocast(device.type, dtype, enabled=dtype not in (None, torch.float32))
    with torch.no_grad(), precision:
        if recipe.tile is None:
            return backbone.forward_fitted(fitted)
        tile = [math.ceil(round(side * backbone.scale, 6) / patch) * patch for side in recipe.tile]
        if all(side <= most for side, most in zip(fitted.shape[-2:], tile, strict=True)):
            return backbone.forward_fitted(fitted)
        return _in_tiles(backbone, fitted, (tile[0], tile[1]))


def _in_tiles(
    backbone: Backbone, image: Float[Tensor, "1 bands height width"], tile: tuple[int, int]
) -> list[FeatureMap]:
    """The mean of what the tiles say that cover a cell; class token and other prefix tokens are the mean over all."""
    height, width = image.shape[-2:]
    patch = backbone.spec.patch_size
    sums: list[Tensor] = []
    counts = [torch.zeros(height // stride, width // stride) for stride in backbone.strides]
    tokens: list[list[tuple[Tensor | None, Tensor | None]]] = [[] for _ in backbone.strides]
    places = [(top, left) for top in _starts(height, tile[0], patch) for left in _starts(width, tile[1], patch)]
    for top, left in places:
        piece = image[..., top : top + tile[0], left : left + tile[1]]
        for layer, feature in enumerate(backbone.forward_fitted(piece)):
            stride = backbone.strides[layer]
            found = feature.map[0].float().cpu()
            if len(sums) == layer:
                sums.append(torch.zeros(len(found), height // stride, width // stride))
            rows = slice(top // stride, top // stride + found.shape[1])
            columns = slice(left // stride, left // stride + found.shape[2])
            sums[layer][:, rows, columns] += found
            counts[layer][rows, columns] += 1
            tokens[layer].append((feature.cls, feature.prefix))
    return [
        FeatureMap((total / count)[None], *(_mean(kind) for kind in zip(*found, strict=True)))
        for total, count, found in zip(sums, counts, tokens, strict=True)
    ]


def _mean(tokens: tuple[Tensor | None, ...]) -> Tensor | None:
    known = [token.float().cpu() for token in tokens if token is not None]
    return torch.stack(known).mean(dim=0) if known else None


def _starts(side: int, tile: int, patch: int) -> list[int]:
    """First pixels of tiles, multiples of the patch, that cover a side evenly and overlap by a third or more."""
    if tile >= side:
        return [0]
    count = math.ceil((side - tile) / max(patch, tile * (1 - _OVERLAP))) + 1
    last = (side - tile) // patch
    return sorted({round(last * index / (count - 1)) * patch for index in range(count)})
