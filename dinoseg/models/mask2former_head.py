"""The Mask2Former head: adapter, pixel decoder and mask decoder behind one module."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import FeatureMap, fit_to_patches
from dinoseg.models.adapter import Adapter
from dinoseg.models.mask_decoder import Mask2FormerOutput, MaskDecoder
from dinoseg.models.pixel_decoder import PixelDecoder

_LARGEST_STRIDE = 32
# Upsampled mask logits that are held at once.
_STRIPE_LOGITS = 1 << 22


class Mask2FormerHead(nn.Module):
    """Finds masks with queries, on the pyramid that the adapter makes of a ViT or on a ConvNeXt's own four stages.

    The image is resized to sides that are multiples of 32 first, as the backbone resizes it to multiples of its patch:
    all maps then cover the same extent, whatever the size and the patch.

    Args:
        in_channels: channels of the four tapped maps.
        num_classes: number of class indices.
        is_pyramid: the maps are at strides 4, 8, 16 and 32 already (ConvNeXt); no adapter.
        hidden_dim: width of pixel and mask decoder.
        num_heads: attention heads of both.
    """

    scores_are_probabilities = True

    def __init__(
        self,
        in_channels: tuple[int, ...],
        num_classes: int,
        is_pyramid: bool = False,
        hidden_dim: int = 256,
        num_heads: int = 8,
        num_queries: int = 100,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        encoder_ffn_dim: int = 1024,
        decoder_ffn_dim: int = 2048,
        adapter_inplane: int = 64,
        adapter_drop_path: float = 0.3,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise ValueError(
                f"decoder_head.backbone_out_layers: the m2f head taps four layers, found {len(in_channels)}; "
                "give FOUR_EVEN_INTERVALS, FOUR_LAST or four block indices"
            )
        if hidden_dim % _LARGEST_STRIDE or hidden_dim % num_heads:
            raise ValueError(
                f"decoder_head.hidden_dim={hidden_dim} must be a multiple of 32 and of num_heads={num_heads}"
            )
        checkpointing = activation_checkpointing
        self.adapter = (
            None
            if is_pyramid
            else Adapter(
                in_channels[0], 4, adapter_inplane, drop_path=adapter_drop_path, activation_checkpointing=checkpointing
            )
        )
        first, second, third, fourth = in_channels
        self.pixel_decoder = PixelDecoder(
            (first, second, third, fourth),
            hidden_dim,
            num_heads,
            encoder_ffn_dim,
            encoder_layers,
            activation_checkpointing=checkpointing,
        )
        self.predictor = MaskDecoder(
            hidden_dim, num_classes, num_queries, num_heads, decoder_ffn_dim, decoder_layers, checkpointing
        )

    def forward(self, image: Float[Tensor, "batch 3 height width"], features: list[FeatureMap]) -> Mask2FormerOutput:
        """Predictions of all stages; the four maps cover the extent of the image."""
        maps = [feature.map for feature in features]
        if self.adapter is not None:
            maps = self.adapter(fit_to_patches(image, _LARGEST_STRIDE), maps)
        features, levels = self.pixel_decoder(maps)
        return self.predictor(features, levels, self.pixel_decoder.mask_feature)

    def semantic_logits(
        self, output: Mask2FormerOutput, size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """Sum over queries of class probability times mask probability, at ``size`` (height, width) in pixels.

        Cheng et al. 2021 (MaskFormer), section 3.4; "no object" takes part in the softmax only. Works in stripes of
        rows, so that beside the result only a few rows of the masks exist at full resolution.
        """
        probabilities = output.class_logits[-1].float().softmax(dim=-1)[..., :-1].transpose(1, 2)
        masks = output.mask_logits(-1).float()
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


def upsample_rows(
    maps: Float[Tensor, "batch maps map_height map_width"], size: tuple[int, int], first: int, last: int
) -> Float[Tensor, "batch maps rows width"]:
    """Rows ``first`` to ``last`` (exclusive) of the maps resized bilinearly to ``size``, without forming the rest."""
    height = maps.shape[-2]
    position = (torch.arange(first, last, device=maps.device) + 0.5) * (height / size[0]) - 0.5
    position = position.clamp(min=0)
    above = position.floor().long()
    below = (above + 1).clamp(max=height - 1)
    share = (position - above)[:, None]
    rows = torch.lerp(maps[:, :, above], maps[:, :, below], share)
    return _upsample_columns(rows, size[1])


def _upsample_columns(
    rows: Float[Tensor, "batch maps rows map_width"], width: int
) -> Float[Tensor, "batch maps rows width"]:
    """The rows resized bilinearly to ``width``."""
    cells = rows.shape[-1]
    if width % cells or rows.requires_grad:
        return functional.interpolate(rows, size=(rows.shape[-2], width), mode="bilinear", align_corners=False)
    # Whole steps, the usual case, have few shares: a pass for each takes half the time, and has no gradient.
    step = width // cells
    padded = torch.cat([rows[..., :1], rows, rows[..., -1:]], dim=-1)
    result = rows.new_empty(*rows.shape, step)
    for place in range(step):
        position = (place + 0.5) / step + 0.5
        left = int(position)
        pair = padded[..., left : left + cells], padded[..., left + 1 : left + 1 + cells]
        torch.lerp(*pair, position - left, out=result[..., place])
    return result.flatten(-2)
