"""LoRA (Hu et al. 2021, "Low-Rank Adaptation"): low-rank updates beside a ViT's frozen attention projections, by peft.

peft puts a layer of its own in the place of each projection, which keeps the projection as ``base_layer``.
"""

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from dinoseg.backbone.catalogue import BackboneSpec
from dinoseg.config import LoraConfig

_BASE = "base_layer."
_ADAPTER = ".lora_"


def add_lora(model: Any, spec: BackboneSpec, last_layer: int, config: LoraConfig) -> None:
    """Adds adapters to the projections ``config.targets`` of the blocks ``config.layers``; all else is frozen.

    An adapter starts as zero: the features are unchanged until the first step.

    Args:
        model: a timm ViT.
        config: settled.
        spec: of the model.
        last_layer: index of the last block that the tapped layers depend on.

    Raises:
        ValueError: a ConvNeXt, peft is not installed, or no such layer or projection.
    """
    if spec.kind != "vit":
        raise ValueError(
            f"model.mode=lora: {spec.name} is a ConvNeXt and has no attention to adapt; "
            "choose a ViT as model.dino_hub, or model.mode=full or freeze"
        )
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ValueError(
            f"model.mode=lora needs the package peft ({error}); pip install 'dinoseg[lora]' installs it"
        ) from None
    blocks = _checked_layers(config.layers, last_layer)
    assert config.targets is not None
    targets = _checked_targets(model, config.targets)
    for block in blocks:
        attention = model.blocks[block].attn
        # DINOv3 keeps the biases of queries and values apart: timm then reads the projection's weight instead of
        # calling it, which would pass by the adapter without a word. Adding the biases afterwards is the same sum.
        if getattr(attention, "q_bias", None) is not None:
            attention.qkv_bias_separate = True
    names = [f"blocks.{block}.{target}" for block in blocks for target in targets]
    # A dictionary, since peft takes fractions of alpha and declares whole numbers.
    options: dict[str, Any] = {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
    # Which biases are trained is decided by ``is_trained_bias``, as is everything that peft does not add.
    settings = PeftConfig(**options, target_modules=names, bias="none", use_rslora=config.use_rslora)
    inject_adapter_in_model(settings, model)


def is_adapter(name: str) -> bool:
    """Whether a parameter name of a backbone is that of an adapter."""
    return _ADAPTER in name


def is_trained_bias(name: str, which: str, adapted: Collection[str]) -> bool:
    """Whether a parameter is a bias that is trained beside the adapters.

    Args:
        name: of a parameter.
        which: ``none``; ``lora_only``: biases of the layers that have adapters; ``all``: every bias, of norms too.
        adapted: the names of those layers, without ``base_layer``.
    """
    if which == "none" or not name.endswith("bias") or is_adapter(name):
        return False
    if which == "all":
        return True
    layer = without_adapters(name).rpartition(".")[0]
    # timm's DINOv3 keeps the biases of queries and values beside the projection that they belong to.
    return layer in adapted or (name.endswith((".q_bias", ".v_bias")) and f"{layer}.qkv" in adapted)


def adapted_layers(model: nn.Module) -> set[str]:
    """The names of the layers that have adapters."""
    return {name.split(_ADAPTER)[0] for name, _ in model.named_parameters() if is_adapter(name)}


def without_adapters(name: str) -> str:
    """The name that a frozen parameter has in a model without adapters."""
    return name.replace(_BASE, "")


def train_adapters(model: nn.Module, mode: bool) -> None:
    """Switches the dropout of the adapters, and nothing else of the model, to training or evaluation."""
    for name, module in model.named_modules():
        if _ADAPTER in name:
            module.train(mode)


def merge_lora(model: nn.Module) -> None:
    """Adds every update to its projection's weight and removes the adapters: a plain timm model of the same features.

    W + (alpha / rank) B A, Hu et al. 2021, section 4.1; with ``use_rslora`` alpha / sqrt(rank), Kalajdzievski 2023.
    """
    adapted: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if hasattr(m, "get_base_layer")]
    for name, layer in adapted:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def _checked_layers(layers: Any, last_layer: int) -> list[int]:
    if layers is None:
        return list(range(last_layer + 1))
    whole = isinstance(layers, list) and all(isinstance(layer, int) for layer in layers)
    if not whole or not layers or not all(0 <= layer <= last_layer for layer in layers):
        raise ValueError(
            f"lora.layers is {layers!r}; give block indices between 0 and {last_layer}, the last that the head "
            "depends on, or leave it out for all of them"
        )
    return sorted(set(layers))


def _checked_targets(model: Any, targets: Sequence[str]) -> list[str]:
    linear = [name for name, module in model.blocks[0].named_modules() if isinstance(module, nn.Linear)]
    # As peft does: a name stands for every layer that it is the end of, and all-linear for all of them.
    found = {
        target: [name for name in linear if target == "all-linear" or f".{name}".endswith(f".{target}")]
        for target in targets
    }
    if not targets or not all(found.values()):
        raise ValueError(
            f"lora.targets is {list(targets)}; use the linear layers of this backbone's blocks: {', '.join(linear)}"
        )
    return list(dict.fromkeys(name for names in found.values() for name in names))
