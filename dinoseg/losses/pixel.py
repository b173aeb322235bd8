"""Pixel-wise losses: cross-entropy and Dice, averaged over valid pixels only."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.losses.cldice import SoftClDice
from dinoseg.losses.one_hot import one_hot_of_valid
from dinoseg.models.head import PixelOutput
from dinoseg.system.processes import mean_over_processes, process_count


class PixelLoss(nn.Module):
    """Weighted sum of cross-entropy and Dice loss on full-resolution scores.

    Args:
        ignore_index: value of the class map that counts nowhere.
        celoss_weight: weight of the cross-entropy.
        diceloss_weight: weight of the Dice loss.
        class_weights: one weight a class for the cross-entropy, or None for equal weights.
        auxiliary_weight: weight of the same loss on each coarser level that a head gives in training.
        cldice: a loss on centre lines, of the finest level alone, if any.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int,
        celoss_weight: float = 1.0,
        diceloss_weight: float = 0.0,
        class_weights: Float[Tensor, " classes"] | None = None,
        auxiliary_weight: float = 0.4,
        cldice: SoftClDice | None = None,
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.celoss_weight = celoss_weight
        self.diceloss_weight = diceloss_weight
        self.auxiliary_weight = auxiliary_weight
        self.cldice = cldice
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, output: PixelOutput, class_map: Int[Tensor, "batch height width"]) -> dict[str, Tensor]:
        """Weighted terms by name; a batch without a valid pixel gives zero, with zero gradients.

        Scores are resized bilinearly to the class map, so that thin structures are supervised at their own resolution.
        """
        terms = self._terms(output.logits, class_map)
        if self.cldice is not None:
            terms["loss_cldice"] = self.cldice(_fitted(output.logits, class_map), class_map)
        # Several processes wait for a gradient of every parameter, be it zero; one does without.
        if output.auxiliary and (self.auxiliary_weight or process_count() > 1):
            coarser = [self._terms(logits, class_map) for logits in output.auxiliary]
            summed = torch.stack([value for level in coarser for value in level.values()]).sum()
            terms["loss_auxiliary"] = self.auxiliary_weight * summed
        return terms

    def _terms(
        self, scores: Float[Tensor, "batch classes _ _"], class_map: Int[Tensor, "batch height width"]
    ) -> dict[str, Tensor]:
        logits = _fitted(scores, class_map)
        terms = {}
        if self.celoss_weight:
            loss = cross_entropy(logits, class_map, self.ignore_index, self.class_weights)
            terms["loss_ce"] = self.celoss_weight * loss
        if self.diceloss_weight:
            terms["loss_dice"] = self.diceloss_weight * dice(logits, class_map, self.ignore_index)
        return terms


def cross_entropy(
    logits: Float[Tensor, "batch classes height width"],
    class_map: Int[Tensor, "batch height width"],
    ignore_index: int,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy summed over valid pixels, divided by the summed weight of the valid pixels.

    The divisor is averaged over processes, so that the gradient of N processes is that of one with the whole batch.
    """
    summed = functional.cross_entropy(
        logits, class_map, weight=class_weights, ignore_index=ignore_index, reduction="sum"
    )
    valid = class_map != ignore_index
    if class_weights is None:
        divisor = valid.sum().to(logits.dtype)
    else:
        divisor = class_weights[class_map.masked_fill(~valid, 0)].mul(valid).sum()
    divisor = mean_over_processes(divisor)
    # Without a valid pixel the sum is zero already; the floor keeps 0/0 out.
    return summed / divisor.clamp(min=torch.finfo(logits.dtype).tiny)


def dice(
    logits: Float[Tensor, "batch classes height width"],
    class_map: Int[Tensor, "batch height width"],
    ignore_index: int,
) -> Float[Tensor, ""]:
    """One minus the soft Dice coefficient, averaged over all pairs of an image and a class that it holds.

    Milletari et al. 2016 (V-Net), equation 3 without squares in the denominator; both sums over valid pixels only.
    """
    valid = class_map != ignore_index
    probabilities = logits.softmax(dim=1) * valid[:, None]
    truth = one_hot_of_valid(class_map, valid, logits.shape[1])
    overlap = (probabilities * truth).sum(dim=(2, 3))
    total = (probabilities + truth).sum(dim=(2, 3))
    present = truth.any(dim=3).any(dim=2)
    loss = (1 - 2 * overlap / total.clamp(min=1e-6)) * present
    count = mean_over_processes(present.sum().to(logits.dtype))
    # Of several processes one may hold the only pair: the mean is then below 1. The floor keeps 0/0 out.
    return loss.sum() / count.clamp(min=torch.finfo(logits.dtype).tiny)


def _fitted(
    scores: Float[Tensor, "batch classes _ _"], class_map: Int[Tensor, "batch height width"]
) -> Float[Tensor, "batch classes height width"]:
    logits = scores.float()
    if logits.shape[-2:] == class_map.shape[-2:]:
        return logits
    return functional.interpolate(logits, size=class_map.shape[-2:], mode="bilinear", align_corners=False)
