"""What heads that predict masks give: masks in factored form, each with a class; and the semantic map of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dinoseg.models.bilinear import upsample_rows

# Upsampled mask logits that are held at once.
_STRIPE_LOGITS = 1 << 22


@dataclass
class MaskOutput:
    """Predictions of supervised stages that share mask features, masks in factored form.

    The last stage is used for inference. A mask logit is the product of the query's embedding with the features of a
    cell, plus the query's bias. Neither the loss nor inference forms the masks of all stages.

    Attributes:
        class_logits: the last of the classes_plus_one entries is "no object".
        mask_features: over the extent of the image, at a resolution of the head's own.
    """

    class_logits: Float[Tensor, "stages batch queries classes_plus_one"]
    mask_embeddings: Float[Tensor, "stages batch queries dim"]
    mask_biases: Float[Tensor, "stages batch queries"]
    mask_features: Float[Tensor, "batch dim map_height map_width"]

    def mask_logits(self, stage: int) -> Float[Tensor, "batch queries map_height map_width"]:
        """The masks of all queries after one stage."""
        embeddings, biases = self.mask_embeddings[stage], self.mask_biases[stage]
        masks = torch.baddbmm(biases[:, :, None], embeddings, self.mask_features.flatten(2))
        return masks.unflatten(2, self.mask_features.shape[2:])


def semantic_map(output: MaskOutput, size: tuple[int, int]) -> Float[Tensor, "batch classes height width"]:
    """Sum over queries of class probability times mask probability, at ``size`` (height, width) in pixels.

    Cheng et al. 2021 (MaskFormer), section 3.4; "no object" takes part in the softmax only. Works in stripes of
    rows, so that beside the result only a few rows of the masks exist at full resolution.
    """
    probabilities = output.class_logits[-1].float().softmax(dim=-1)[..., :-1].transpose(1, 2)
    masks = output.mask_logits(-1).float()
    if torch.compiler.is_compiling():
        # An engine plans its own memory, and knows no loop over a batch of unknown size.
        whole = functional.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        return torch.einsum("bcq,bqhw->bchw", probabilities, whole.sigmoid())
    batch, queries = masks.shape[:2]
    scores = masks.new_empty(batch, probabilities.shape[1], *size)
    rows = max(1, _STRIPE_LOGITS // (batch * queries * size[1]))
    for first in range(0, size[0], rows):
        last = min(first + rows, size[0])
        stripe = upsample_rows(masks, size, first, last).sigmoid_()
        # A product a batch item, written in place: nothing of the size of the result beside it.
        for item in range(batch):
            scores[item, :, first:last] = torch.einsum("cq,qhw->chw", probabilities[item], stripe[item])
    return scores


def shrink_maps(
    maps: Float[Tensor, "batch channels map_height map_width"], size: tuple[int, int]
) -> Float[Tensor, "batch channels cells"]:
    """Bilinear resizing to an even part of height and width: the mean of the four cells in the middle of each block.

    The same as ``interpolate``, which first copies the whole map into another memory layout on a CPU.
    """
    step = maps.shape[-1] // size[1]
    assert (size[0] * step, size[1] * step) == tuple(maps.shape[-2:])
    first, second = slice(step // 2 - 1, None, step), slice(step // 2, None, step)
    rows = maps[:, :, first] + maps[:, :, second]
    return (rows[..., first] + rows[..., second]).mul_(0.25).flatten(2)
