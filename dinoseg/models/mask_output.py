"""What the Mask2Former head hands to its loss and to inference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Mask2FormerOutput:
    """Predictions of all supervised stages, masks in factored form.

    Stage 0 is the prediction from the learned queries, stage s that of decoder layer s; the last is used for inference.
    A mask logit is the product of the query's embedding with the features of a cell, plus the query's bias. Neither the
    loss nor inference forms the masks of all stages.

    Attributes:
        class_logits: the last of the classes_plus_one entries is "no object".
        mask_features: at a quarter of the image's height and width.
    """

    class_logits: Float[Tensor, "stages batch queries classes_plus_one"]
    mask_embeddings: Float[Tensor, "stages batch queries dim"]
    mask_biases: Float[Tensor, "stages batch queries"]
    mask_features: Float[Tensor, "batch dim height4 width4"]

    def mask_logits(self, stage: int) -> Float[Tensor, "batch queries height4 width4"]:
        """The masks of all queries after one stage."""
        embeddings, biases = self.mask_embeddings[stage], self.mask_biases[stage]
        masks = torch.baddbmm(biases[:, :, None], embeddings, self.mask_features.flatten(2))
        return masks.unflatten(2, self.mask_features.shape[2:])
