"""The mask decoder of Mask2Former (Cheng et al. 2022, section 3.2.2): queries that attend where they saw their mask.

Names of submodules are those of DINOv3's state dicts (``segmentation_model.1.predictor.*``).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.models.mask_output import MaskOutput, shrink_maps
from dinoseg.models.position import sine_positions

# Batch, channels, height, width; a list of them has maps of several sizes.
Map = Float[Tensor, "batch _ _ _"]
_LEVELS = 3


class MaskDecoder(nn.Module):
    """Learned queries through layers of masked cross-attention, self-attention and FFN, each supervised.

    The learned queries themselves are supervised as well, before the first layer.

    Args:
        hidden_dim: width of the queries.
        num_classes: without "no object".
        num_queries: masks that can be found in an image.
        num_heads: attention heads.
        ffn_dim: hidden width of the FFN.
        num_layers: decoder layers; they cycle over strides 32, 16 and 8.
        activation_checkpointing: recompute the layers in the backward pass.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_classes: int,
        num_queries: int,
        num_heads: int,
        ffn_dim: int,
        num_layers: int,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.activation_checkpointing = activation_checkpointing
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(_LEVELS, hidden_dim)
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(dim=hidden_dim, num_heads=num_heads) for _ in range(num_layers)
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(dim=hidden_dim, num_heads=num_heads) for _ in range(num_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForward(dim=hidden_dim, hidden=ffn_dim) for _ in range(num_layers)
        )
        self.post_norm = nn.LayerNorm(hidden_dim)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = Perceptron(hidden_dim)

    def forward(self, features: Map, levels: list[Map], mask_feature: nn.Conv2d) -> MaskOutput:
        """Predictions of all stages: 0 is that of the learned queries, s that of decoder layer s.

        Args:
            features: at stride 4.
            levels: encoded maps at strides 32, 16 and 8.
            mask_feature: the 1x1 convolution that makes mask features of ``features``.
        """
        memory = [
            encoded.flatten(2).transpose(1, 2) + embedding
            for encoded, embedding in zip(levels, self.level_embed.weight, strict=True)
        ]
        sizes = [(encoded.shape[-2], encoded.shape[-1]) for encoded in levels]
        keys = [
            tokens + sine_positions(*size, tokens.shape[2], self.level_embed.weight)
            for tokens, size in zip(memory, sizes, strict=True)
        ]
        small = [shrink_maps(features.detach(), size) for size in sizes]
        queries = self.query_feat.weight.expand(features.shape[0], -1, -1)
        stages = [self._predict(queries, mask_feature)]
        for layer in range(self.num_layers):
            level = layer % _LEVELS
            _, embeddings, biases = stages[-1]
            attend = attention_mask(embeddings.detach(), biases.detach(), small[level])
            arguments = (layer, queries, keys[level], memory[level], attend)
            if self.activation_checkpointing and self.training:
                queries = checkpoint(self._layer, *arguments, use_reentrant=False)
            else:
                queries = self._layer(*arguments)
            stages.append(self._predict(queries, mask_feature))
        classes, embeddings, biases = (torch.stack(predictions) for predictions in zip(*stages, strict=True))
        return MaskOutput(classes, embeddings, biases, features)

    def _predict(
        self, queries: Float[Tensor, "batch queries dim"], mask_feature: nn.Conv2d
    ) -> tuple[
        Float[Tensor, "batch queries classes_plus_one"],
        Float[Tensor, "batch queries dim"],
        Float[Tensor, "batch queries"],
    ]:
        """Class logits, and masks in factored form: embeddings and biases.

        A mask is the product of a query with the mask features. The convolution that makes these is applied to the
        queries instead: hundreds of rows, not the thousands of cells.
        """
        normed = self.post_norm(queries)
        class_logits = self.class_embed(normed)
        embedding = self.mask_embed(normed)
        return class_logits, embedding @ mask_feature.weight.flatten(1), embedding @ mask_feature.bias

    def _layer(
        self,
        layer: int,
        queries: Float[Tensor, "batch queries dim"],
        keys: Float[Tensor, "batch cells dim"],
        memory: Float[Tensor, "batch cells dim"],
        attend: Bool[Tensor, "batch queries cells"],
    ) -> Float[Tensor, "batch queries dim"]:
        query_embed = self.query_embed.weight
        queries = self.transformer_cross_attention_layers[layer](queries, keys, memory, query_embed, attend)
        queries = self.transformer_self_attention_layers[layer](queries, query_embed)
        return self.transformer_ffn_layers[layer](queries)


def attention_mask(
    embeddings: Float[Tensor, "batch queries dim"],
    biases: Float[Tensor, "batch queries"],
    features: Float[Tensor, "batch dim cells"],
) -> Bool[Tensor, "batch queries cells"]:
    """True where a query may attend: where its mask's probability is a half or more; everywhere if that is nowhere.

    Resizing and the product with the queries commute. So three small maps of ``features`` do for the masks of all
    layers, and the masks at stride 4 are never formed. No gradient goes through an attention mask.

    Args:
        features: mask features before their convolution, at the size of the level attended to.
    """
    # In fp32: which cells are in must not depend on autocast.
    with torch.autocast(embeddings.device.type, enabled=False):
        attend = embeddings.float() @ features.float() >= -biases.float()[:, :, None]
    return attend | ~attend.any(dim=-1, keepdim=True)


class Attention(nn.Module):
    """Multi-head attention through PyTorch's fused kernel; parameters named as in ``nn.MultiheadAttention``."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        queries: Float[Tensor, "batch queries dim"],
        keys: Float[Tensor, "batch cells dim"],
        values: Float[Tensor, "batch cells dim"],
        attend: Bool[Tensor, "batch queries cells"] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Attended values; ``attend`` is True where a query may look."""
        query, key, value = (
            functional.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(
                (queries, keys, values), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        mask = None if attend is None else attend[:, None]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Queries attend to a map within their masks; residual, then norm."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim=dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        queries: Float[Tensor, "batch queries dim"],
        keys: Float[Tensor, "batch cells dim"],
        memory: Float[Tensor, "batch cells dim"],
        query_embed: Float[Tensor, "queries dim"],
        attend: Bool[Tensor, "batch queries cells"],
    ) -> Float[Tensor, "batch queries dim"]:
        """The queries after one cross-attention; ``keys`` are the memory with its positions added."""
        return self.norm(queries + self.multihead_attn(queries + query_embed, keys, memory, attend))


class SelfAttention(nn.Module):
    """Queries attend to each other; residual, then norm."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim=dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, queries: Float[Tensor, "batch queries dim"], query_embed: Float[Tensor, "queries dim"]
    ) -> Float[Tensor, "batch queries dim"]:
        """The queries after one self-attention."""
        placed = queries + query_embed
        return self.norm(queries + self.self_attn(placed, placed, queries))


class FeedForward(nn.Module):
    """Two linear layers with ReLU between; residual, then norm."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, queries: Float[Tensor, "batch queries dim"]) -> Float[Tensor, "batch queries dim"]:
        """The queries after one FFN."""
        return self.norm(queries + self.linear2(functional.relu(self.linear1(queries))))


class Perceptron(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Float[Tensor, "batch queries dim"]) -> Float[Tensor, "batch queries dim"]:
        """Mask embeddings."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)
