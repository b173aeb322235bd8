"""Options of the model: ``model.``, ``lora.`` and ``decoder_head.``."""

from dinoseg.config.option import LOADS_MODEL, Section, option


class ModelConfig(Section):
    """The backbone and its weights."""

    dino_hub: str = option("dinov3_vits16", "backbone name; `dinoseg backbones` lists them", first=True)
    weights: str = option(
        "hub",
        "hub | file or folder (Meta .pth, transformers folder, timm safetensors) | none",
        resume="free",
        verbs=LOADS_MODEL,
        first=True,
    )
    mode: str | None = option(
        None,
        "what of the backbone is trained; freeze when left out, full for the eomt head",
        choices=("freeze", "lora", "full"),
        first=True,
    )
    backbone_scale: float = option(
        1.0,
        "how much larger the backbone sees the image than stem, loss and output do; 2 where things are thin",
        least=0.25,
        most=8,
    )
    patch_size: int | None = option(
        None,
        "pixels a patch of a ViT, whose patch embedding and positions are resampled; its own when left out",
        least=2,
        most=64,
    )
    save_backbone: bool = option(
        False, "write the whole backbone into checkpoints, not only its name and hash", resume="free"
    )
    band_weights: str | None = option(
        None,
        "the patch embedding for other than three datasets.bands: the mean of its three for each, copies of the "
        "nearest by position, or zero for all but the first three, which keep theirs; mean when left out",
        choices=("mean", "copy", "zero"),
    )
    train_bands: bool | None = option(
        None,
        "train the patch embedding with the head, whatever model.mode; true for other than three datasets.bands when "
        "left out",
    )
    drop_path: float = option(0.0, "drop-path rate of the backbone when it is trained (mode=full)", least=0, below=1)
    gradient_checkpointing: bool = option(
        False, "lora, full: recompute the backbone's blocks backwards to save memory", resume="free"
    )


class LoraConfig(Section):
    """Low-rank adapters of ``model.mode=lora``."""

    enabled: bool | None = option(None, "another spelling: true is model.mode=lora")
    rank: int | None = option(None, "rank of the update of a projection; 8 when left out", least=1, most=4096)
    alpha: float | None = option(None, "the update is scaled by alpha / rank; 16 when left out", above=0)
    dropout: float | None = option(None, "dropout before the adapters, in training; 0 when left out", least=0, below=1)
    layers: list[int] | None = option(None, "the block indices that get adapters; all when left out", least=0)
    targets: list[str] | None = option(
        None, "linear layers of a block that get adapters, by name or its end; [attn.qkv, attn.proj] when left out"
    )
    bias: str = option(
        "none",
        "biases trained beside the adapters: those of the adapted layers, or all",
        choices=("none", "all", "lora_only"),
    )
    use_rslora: bool = option(False, "scale the update by alpha / sqrt(rank)")
    r: int | None = option(None, "peft's spelling of lora.rank", least=1, most=4096)
    lora_alpha: float | None = option(None, "peft's spelling of lora.alpha", above=0)
    lora_dropout: float | None = option(None, "peft's spelling of lora.dropout", least=0, below=1)
    target_modules: list[str] | str | None = option(
        None, "peft's spelling of lora.targets; all-linear: every linear layer of a block"
    )


class DecoderHeadConfig(Section):
    """The head on the backbone's features."""

    type: str = option("linear", "which head", choices=("linear", "dense", "m2f", "pmt", "eomt"), first=True)
    backbone_out_layers: str | list[int] | None = option(
        None,
        "LAST | FOUR_LAST | FOUR_EVEN_INTERVALS | FOUR_QUARTERS | list of block indices; LAST for linear and "
        "eomt, the fourth for pmt, else the third when left out",
    )
    use_batchnorm: bool = option(True, "linear: BatchNorm before the classifier")
    use_cls_token: bool = option(False, "linear: concatenate the class token to every patch feature")
    use_backbone_norm: bool = option(
        True,
        "apply the backbone's final norm to every tapped layer; without effect on one that averages its patches first",
    )
    num_classes: int | None = option(
        None, "checked against the label space when given", least=1, most=65534, verbs=("check",)
    )
    hidden_dim: int | None = option(
        None, "m2f: width of pixel and mask decoder (256 when left out)", least=1, most=16384
    )
    dropout: float = option(0.1, "linear, dense: dropout on the features", least=0, below=1)
    feature_dropout: float = option(
        0.0,
        "dense: share of crops that train without the backbone's features, against learning few images by heart",
        least=0,
        below=1,
    )
    stem_widths: list[int] = option(
        [24, 48, 96, 128], "dense: channels at strides 1, 2, 4, 8; multiples of 8", least=8, most=4096, length=4
    )
    context_widths: list[int] = option(
        [],
        "dense: channels at strides 16, 32 and so on, a U-Net's lower half below where stem and features meet; up "
        "to four multiples of 8, none by default",
        least=8,
        most=4096,
    )
    output_stride: int = option(
        1, "dense: pixels a score; 2 takes half of the time and sees a little less", least=1, most=2
    )
    num_heads: int | None = option(
        None,
        "m2f, pmt: attention heads; 8 for m2f, as many as the backbone has for pmt when left out",
        least=1,
        most=256,
    )
    num_queries: int = option(100, "m2f, pmt, eomt: learned queries", least=1, most=65536)
    encoder_layers: int = option(6, "m2f: deformable encoder layers", least=1, most=100)
    decoder_layers: int | None = option(
        None,
        "m2f: mask decoder layers; pmt: blocks; eomt: last blocks of the backbone, which queries join; 9 for m2f, 6 "
        "for pmt, 3 (ViT-S, B), 4 (L) or 5 (40 blocks) for eomt when left out",
        least=1,
        most=100,
    )
    encoder_ffn_dim: int = option(1024, "m2f: FFN width of the pixel decoder", least=1, most=65536)
    decoder_ffn_dim: int | None = option(
        None,
        "m2f, pmt: FFN width of the mask decoder; 2048 for m2f, four times the backbone's width for pmt when left out",
        least=1,
        most=65536,
    )
    adapter_inplane: int = option(64, "m2f: channels of the adapter's spatial prior", least=1, most=4096)
    adapter_drop_path: float = option(0.3, "m2f: drop-path rate of the adapter", least=0, below=1)
    activation_checkpointing: bool = option(
        False, "m2f, pmt, eomt: recompute activations of the head in the backward pass to save memory", resume="free"
    )
