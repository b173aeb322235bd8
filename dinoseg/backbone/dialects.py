"""The three dialects of backbone weights, and how the tensors of each are named in timm's models.

Meta's names are the hub: transformers' names become Meta's, Meta's become timm's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

Dialect = Literal["timm", "meta", "transformers"]
State = dict[str, Tensor]

# Transformers saves older names than its modules have today; both are listed. Prefixes as in model.layer.0 come
# from the classes that wrap the plain model.
_TRANSFORMERS_TO_META: tuple[tuple[str, str], ...] = (
    (r"^(dinov2|dinov2_with_registers|dinov3_vit|dinov3_convnext|backbone)\.", ""),
    (r"^(model|encoder)\.(?=layer\.|stages\.)", ""),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(layer_norm|layernorm)\.", "norm."),
    (r"^layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.(?:attention\.)?(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^stages\.(\d+)\.downsample_layers\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.layers\.", r"stages.\1."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv([12])\.", r".pwconv\1."),
    (r"(?<=\d)\.layer_norm\.", ".norm."),
)

_META_TO_TIMM: tuple[tuple[str, str], ...] = (
    (r"^(storage|register)_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
)

# Needed in pretraining only (mask token, norm of local crops), or derived (rotary periods, bias mask, and the
# ConvNeXt's "norms", the same tensors as its "norm").
_META_UNUSED = re.compile(r"(^mask_token$|\.bias_mask$|^rope_embed\.|^local_cls_norm\.|^norms\.)")


def detect_dialect(names: Iterable[str]) -> Dialect | None:
    """The dialect in which a file with tensors of these names is written; None when it is none of the three."""
    found = set(names)
    if any(re.search(r"(^|\.)embeddings\.patch_embeddings\.|\.depthwise_conv\.", name) for name in found):
        return "transformers"
    if found & {"storage_tokens", "register_tokens", "mask_token", "downsample_layers.0.0.weight"}:
        return "meta"
    if found & {"patch_embed.proj.weight", "stem.0.weight"}:
        return "timm"
    return None


def to_timm(state: State, dialect: Dialect) -> State:
    """Tensors of a file under the names (and in the layout) of timm's models.

    Raises:
        ValueError: a layout that timm's models cannot express: key biases of a DINOv3 that are not zero, rotary
            periods other than DINOv3's.
    """
    if dialect == "timm":
        return state
    if dialect == "transformers":
        state = _transformers_to_meta(state)
    is_dinov3 = "patch_embed.proj.weight" in state and "pos_embed" not in state
    if is_dinov3:
        state = _split_dinov3_biases(state)
    elif "register_tokens" in state and "pos_embed" in state:
        state = _fold_class_position(state)
    _check_periods(state)
    out: State = {}
    for name, tensor in state.items():
        if _META_UNUSED.search(name):
            continue
        name = _rename(name, _META_TO_TIMM)
        if is_dinov3:
            name = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)
        elif "downsample_layers.0.0.weight" in state and name.startswith("norm."):
            name = f"head.{name}"
        out[name] = tensor
    return out


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _transformers_to_meta(state: State) -> State:
    renamed = {_rename(name, _TRANSFORMERS_TO_META): tensor for name, tensor in state.items()}
    if "register_tokens" in renamed and renamed["register_tokens"].numel() == 0:
        del renamed["register_tokens"]
    gated = {name.split(".mlp.")[0] for name in renamed if ".mlp.gate_proj." in name}
    out: State = {}
    for name, tensor in renamed.items():
        block, _, rest = name.partition(".mlp.")
        for plain, plain_name, gated_name in (
            ("gate_proj.", "w1.", "w1."),
            ("up_proj.", "fc1.", "w2."),
            ("down_proj.", "fc2.", "w3."),
        ):
            if rest.startswith(plain):
                name = f"{block}.mlp.{rest.replace(plain, gated_name if block in gated else plain_name)}"
        out[name] = tensor
    return _fuse_queries_keys_values(out)


def _fuse_queries_keys_values(state: Mapping[str, Tensor]) -> State:
    """One ``qkv`` tensor for three; a projection without bias among others with one has a bias of zero."""
    out = {name: tensor for name, tensor in state.items() if not re.search(r"\.attn\.(query|key|value)\.", name)}
    for name in state:
        match = re.fullmatch(r"(.*\.attn)\.query\.weight", name)
        if not match:
            continue
        attention = match[1]
        parts = [state.get(f"{attention}.{part}.weight") for part in ("query", "key", "value")]
        out[f"{attention}.qkv.weight"] = torch.cat([part for part in parts if part is not None])
        biases = [state.get(f"{attention}.{part}.bias") for part in ("query", "key", "value")]
        if any(bias is not None for bias in biases):
            zero = torch.zeros(len(state[name]))
            out[f"{attention}.qkv.bias"] = torch.cat([zero if bias is None else bias for bias in biases])
    return out


def _split_dinov3_biases(state: Mapping[str, Tensor]) -> State:
    """timm's DINOv3 holds biases of queries and values, and none of keys: they are masked in DINOv3's own model."""
    out: State = {}
    for name, tensor in state.items():
        if not name.endswith(".attn.qkv.bias"):
            out[name] = tensor
            continue
        queries, keys, values = tensor.chunk(3)
        if f"{name}_mask" not in state and bool(keys.any()):
            raise ValueError(f"{name} holds key biases that are not zero: not a DINOv3 model")
        attention = name.removesuffix(".qkv.bias")
        out[f"{attention}.q_bias"], out[f"{attention}.v_bias"] = queries, values
    return out


def _fold_class_position(state: Mapping[str, Tensor]) -> State:
    """DINOv2 with registers: timm's model adds no position to the class token, so the token takes it in."""
    position = state["pos_embed"]
    folded = {"cls_token": state["cls_token"] + position[:, :1], "pos_embed": position[:, 1:]}
    return {**state, **folded}


def _check_periods(state: Mapping[str, Tensor]) -> None:
    # The file's periods are those of base 100 rounded to bfloat16. timm computes them in float32, as transformers
    # does, so all dialects give the same features; other periods would give wrong ones without a word.
    periods = state.get("rope_embed.periods")
    if periods is None:
        return
    count = periods.numel()
    expected = 100.0 ** (torch.arange(count, dtype=torch.float32) / count)
    if not torch.allclose(periods.float(), expected, rtol=1e-2):
        raise ValueError("rope_embed.periods are not DINOv3's (base 100): the file belongs to another model")
