"""What the Mask2Former head hands to its loss and to inference."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass
class Mask2FormerOutput:
    """Predictions of all supervised stages, masks in factored form.

    Stage 0 is the prediction from the learned queries, stage s that of decoder layer s; the last is used for inference.
    The mask logits of stage s are ``einsum("bqd,bdhw->bqhw", mask_embeddings[s], mask_features)``; the loss never
    forms them whole.

    Attributes:
        class_logits: the last of the classes_plus_one entries is "no object".
        mask_features: at a quarter of the image's height and width.
    """

    class_logits: Float[Tensor, "stages batch queries classes_plus_one"]
    mask_embeddings: Float[Tensor, "stages batch queries dim"]
    mask_features: Float[Tensor, "batch dim height4 width4"]
