"""Every option of dinoseg, declared once: type, default, help, range, unit, and whether it may change at resume.

A superset of DINOv3's segmentation configs, so those files load as they are. Checks, messages, ``--help``,
``dinoseg options``, docs/options.md and the resume rule derive from these declarations (``option.py``). How files and
``key=value`` overrides become one object stands in ``loading.py``, what is filled in for a key left out in
``defaults.py``.
"""

from typing import Any

from pydantic import Field

from dinoseg.config.option import EVALUATES, LOADS_MODEL, PREDICTS, READS_DATA, Key, Section, keys_of, option

_LARGEST_SIDE = 65536


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
        "what of the backbone is trained; freeze when left out",
        choices=("freeze", "lora", "full"),
        first=True,
    )
    backbone_scale: float = option(
        1.0,
        "how much larger the backbone sees the image than stem, loss and output do; 2 where things are thin",
        least=0.25,
        most=8,
    )
    save_backbone: bool = option(
        False, "write the whole backbone into checkpoints, not only its name and hash", resume="free"
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


class DatasetsConfig(Section):
    """Where images and masks lie, and what the masks mean."""

    root: str = option(
        "",
        "folder with {train,val,test}/{images,masks}, or an ADE20K root",
        resume="free",
        verbs=READS_DATA,
        first=True,
    )
    train: str = option("train", "split folder, or a descriptor such as ADE20K:split=TRAIN", verbs=READS_DATA)
    val: str = option("val", "split folder, or a descriptor such as ADE20K:split=VAL", verbs=READS_DATA)
    test: str = option("test", "split folder, or a descriptor", resume="free", verbs=READS_DATA)
    images: Any = option(
        None, "glob of images, or {train: glob, val: glob, test: glob}, relative to root", verbs=READS_DATA
    )
    masks: Any = option(None, "glob of masks, paired with images by stem; same form as images", verbs=READS_DATA)
    classes: Any = option(
        None,
        "{label id or '#rrggbb': name}; a name given twice merges; left out: scanned from the masks",
        verbs=("check",),
        first=True,
    )
    ignore: int | str | list[int | str] | None = option(
        None, "label ids or colours that count nowhere; 255 by default", verbs=("check",), first=True
    )
    reduce_zero_label: bool | None = option(
        None, "ADE20K shorthand: 0 is ignored, the rest shift down by one", verbs=("check",), first=True
    )
    colour_tolerance: int = option(
        0,
        "RGB masks: largest channel distance at which a stray colour is taken as the nearest",
        least=0,
        most=255,
        verbs=("check",),
    )
    white_level: int | None = option(
        None,
        "value that is white in pictures with 16 bits; found by the scan of the data when left out",
        least=255,
        most=65535,
        verbs=("check", *PREDICTS),
    )


class DecoderHeadConfig(Section):
    """The head on the backbone's features."""

    type: str = option("linear", "which head", choices=("linear", "dense", "m2f"), first=True)
    backbone_out_layers: str | list[int] | None = option(
        None, "LAST | FOUR_LAST | FOUR_EVEN_INTERVALS | list of block indices; LAST for linear, else the third"
    )
    use_batchnorm: bool = option(True, "linear: BatchNorm before the classifier")
    use_cls_token: bool = option(False, "linear: concatenate the class token to every patch feature")
    use_backbone_norm: bool = option(True, "apply the backbone's final norm to every tapped layer")
    num_classes: int | None = option(
        None, "checked against the label space when given", least=1, most=65534, verbs=("check",)
    )
    hidden_dim: int | None = option(
        None, "m2f: width of pixel and mask decoder (256 when left out)", least=1, most=16384
    )
    dropout: float = option(0.1, "linear, dense: dropout on the features", least=0, below=1)
    stem_widths: list[int] = option(
        [24, 48, 96, 128], "dense: channels at strides 1, 2, 4, 8; multiples of 8", least=8, most=4096, length=4
    )
    output_stride: int = option(
        1, "dense: pixels a score; 2 takes half of the time and sees a little less", least=1, most=2
    )
    num_heads: int = option(8, "m2f: attention heads", least=1, most=256)
    num_queries: int = option(100, "m2f: learned queries", least=1, most=65536)
    encoder_layers: int = option(6, "m2f: deformable encoder layers", least=1, most=100)
    decoder_layers: int = option(9, "m2f: mask decoder layers", least=1, most=100)
    encoder_ffn_dim: int = option(1024, "m2f: FFN width of the pixel decoder", least=1, most=65536)
    decoder_ffn_dim: int = option(2048, "m2f: FFN width of the mask decoder", least=1, most=65536)
    adapter_inplane: int = option(64, "m2f: channels of the adapter's spatial prior", least=1, most=4096)
    adapter_drop_path: float = option(0.3, "m2f: drop-path rate of the adapter", least=0, below=1)
    activation_checkpointing: bool = option(
        False, "m2f: recompute activations in the backward pass to save memory", resume="free"
    )


class SchedulerConfig(Section):
    """How long a training is, and how its learning rate goes."""

    type: str = option(
        "WarmupOneCycleLR",
        "learning-rate schedule",
        choices=("WarmupOneCycleLR", "WarmupMultiStepLR", "WarmupPolyLR", "Constant"),
    )
    total_iter: int = option(
        40000,
        "optimiser steps; 0 evaluates what load_from gives and writes a run folder of it",
        least=0,
        most=10**9,
        unit="steps",
        first=True,
    )
    constructor_kwargs: dict[str, Any] = option({}, "options of the scheduler, e.g. {warmup_iters: 1500}")


class OptimizerConfig(Section):
    """AdamW and its learning rates."""

    lr: float | None = option(None, "1e-3 for linear and dense, 1e-4 for m2f when left out", least=0, first=True)
    beta1: float = option(0.9, "AdamW beta 1", least=0, below=1)
    beta2: float = option(0.999, "AdamW beta 2", least=0, below=1)
    weight_decay: float | None = option(
        None, "1e-2 for linear and dense, 5e-2 for m2f when left out; none on norms, biases, embeddings", least=0
    )
    gradient_clip: float | None = option(
        None,
        "largest gradient norm, 0 for none; inf (none) for linear, 1 for dense, 0.01 for m2f when left out",
        least=0,
        infinite=True,
    )
    backbone_lr_factor: float | None = option(
        None,
        "the backbone's learning rate over the head's; 0.1 for model.mode=full, 1 for lora when left out",
        least=0,
        most=1000,
    )
    layer_decay: float = option(
        1.0,
        "the learning rate of a backbone block is this to the power of its distance from the head",
        above=0,
        most=1,
    )


class TrainTransformConfig(Section):
    """What a training image goes through."""

    img_size: int | None = option(
        None,
        "short side before the random ratio; native size when left out",
        least=1,
        most=_LARGEST_SIDE,
        unit="pixels",
    )
    random_img_size_ratio_range: list[float] = option(
        [0.5, 2.0], "range of the random resize", above=0, most=100, length=2
    )
    crop_size: int | list[int] = option(
        512, "what the model sees of an image", size=True, most=_LARGEST_SIDE, unit="pixels", first=True
    )
    flip_prob: float = option(0.5, "probability of a horizontal flip", least=0, most=1)
    vertical_flip_prob: float = option(0.0, "probability of a vertical flip", least=0, most=1)
    right_angle_rotations: bool = option(False, "rotate by a random multiple of 90 degrees")
    max_class_share: float = option(
        0.75, "redraw a crop (10 tries) in which one class covers more than this", above=0, most=1
    )
    photometric_distortion: bool = option(True, "random brightness, contrast, saturation and hue")
    rotation: float = option(0.0, "largest random rotation, either way", least=0, most=180, unit="degrees")
    shear: float = option(0.0, "largest random shear, either way", least=0, most=45, unit="degrees")
    elastic: float = option(
        0.0, "largest random displacement of an elastic deformation", least=0, most=1000, unit="pixels"
    )
    foreground_share: float = option(
        0.0, "share of crops around a pixel of a class that is not the image's most frequent", least=0, most=1
    )
    gamma: float = option(0.0, "random gamma of exp(-gamma) to exp(gamma), e.g. 0.4", least=0, most=3)
    noise: float = option(0.0, "largest deviation of random noise, of images in 0..1, e.g. 0.05", least=0, most=1)
    blur: float = option(0.0, "largest deviation of a random blur", least=0, most=100, unit="pixels")
    low_resolution: float = option(1.0, "largest factor by which the resolution is lowered at random", least=1, most=16)
    cutout: float = option(0.0, "share of a crop covered by grey rectangles", least=0, most=1)


class EvalTransformConfig(Section):
    """What an image goes through before inference."""

    img_size: int | None = option(
        None,
        "resize the short side to this before inference; native size when left out",
        least=1,
        most=_LARGEST_SIDE,
        unit="pixels",
        resume="decides best",
        verbs=PREDICTS,
    )
    tta_ratios: list[float] = option(
        [1.0], "scales of test-time augmentation", above=0, most=100, resume="decides best", verbs=PREDICTS
    )
    tta_right_angle_rotations: bool = option(
        False,
        "turn by 90, 180 and 270 degrees, too; for images without an up",
        resume="decides best",
        verbs=PREDICTS,
    )


class TransformsConfig(Section):
    """Augmentation, resizing and normalisation."""

    train: TrainTransformConfig = Field(default_factory=TrainTransformConfig)
    eval: EvalTransformConfig = Field(default_factory=EvalTransformConfig)
    mean: list[float] = option([0.485, 0.456, 0.406], "per channel, of images in 0..1", least=0, most=1, length=3)
    std: list[float] = option([0.229, 0.224, 0.225], "per channel, of images in 0..1", above=0, most=1, length=3)


class TrainConfig(Section):
    """The loss of the linear and dense heads, and what a training does beside its steps."""

    celoss_weight: float = option(1.0, "linear, dense: weight of cross-entropy", least=0)
    diceloss_weight: float | None = option(
        None, "linear, dense: weight of Dice loss; 0 for linear, 1 for dense when left out", least=0
    )
    auxiliary_weight: float = option(0.4, "dense: weight of the same loss on each of the two coarser levels", least=0)
    cldice_weight: float = option(
        0.0, "linear, dense: weight of the clDice loss, which minds gaps in thin classes", least=0
    )
    cldice_classes: list[str] | None = option(None, "names of those classes; all but the most frequent when left out")
    cache_features: bool | None = option(
        None,
        "compute the backbone's features of whole images once and keep them on disk; when left out: where it is frozen "
        "and its weights come from a file or the hub",
    )
    cache_folder: str | None = option(
        None, "where features are kept; ~/.cache/dinoseg/features when left out", resume="free"
    )
    cache_limit: float = option(
        20.0, "the most that features of one training may take; it goes on without a cache above", above=0, unit="GB"
    )
    cached_views: int = option(
        0,
        "features of so many variants of each training image, in brightness, contrast, saturation and hue, are "
        "kept beside its own; the pass over the images takes as many times longer",
        least=0,
        most=100,
    )
    class_weights: Any = option("none", "none | auto (inverse square root of pixel share) | {name: weight}")
    accumulation_steps: int = option(1, "batches per optimiser step", least=1, most=10**6)
    log_interval: int = option(
        10, "optimiser steps between lines of metrics.jsonl", least=1, unit="steps", resume="free"
    )
    checkpoint_interval: int | None = option(
        None,
        "optimiser steps between checkpoints beside those of each evaluation; none of them when left out",
        least=1,
        unit="steps",
        resume="free",
    )
    early_stopping: int | None = option(
        None,
        "evaluations in a row without a better metric_to_save that end the training; never when left out",
        least=1,
        resume="free",
    )
    ema_decay: float | None = option(
        None,
        "evaluate and keep a moving average of the trained weights, e.g. 0.999; none when left out",
        above=0,
        below=1,
    )


class Mask2FormerTrainConfig(Section):
    """The loss of the m2f head."""

    num_points: int = option(12544, "points per mask in the loss", least=1, most=10**7)
    oversample_ratio: float = option(3.0, "candidates per uncertain point", least=1, most=1000)
    importance_sample_ratio: float = option(0.75, "share of points taken by uncertainty", least=0, most=1)
    mask_coefficient: float = option(5.0, "weight of the mask cross-entropy", least=0)
    dice_coefficient: float = option(5.0, "weight of the Dice term", least=0)
    class_coefficient: float = option(2.0, "weight of the class term", least=0)
    no_object_coefficient: float = option(0.1, "weight of the no-object class within the class term", least=0)


class EvalConfig(Section):
    """How images are cut for the model, and what is measured."""

    reduce_zero_label: bool | None = option(None, "DINOv3's spelling of datasets.reduce_zero_label; means the same")
    mode: str = option(
        "slide",
        "the image in one piece, or in windows",
        choices=("whole", "slide"),
        resume="decides best",
        verbs=PREDICTS,
    )
    crop_size: int | list[int] | None = option(
        None,
        "window; the training crop when left out",
        size=True,
        most=_LARGEST_SIDE,
        unit="pixels",
        resume="decides best",
        verbs=PREDICTS,
    )
    stride: int | list[int] | None = option(
        None,
        "step of the window; two thirds of the crop when left out",
        size=True,
        most=_LARGEST_SIDE,
        unit="pixels",
        resume="decides best",
        verbs=PREDICTS,
    )
    batch_size: int | None = option(
        None,
        "windows per forward pass; by device, crop and classes when left out",
        least=1,
        most=65536,
        resume="free",
        verbs=PREDICTS,
    )
    eval_interval: int = option(
        0, "optimiser steps between evaluations; 0: a tenth of total_iter", least=0, unit="steps", resume="free"
    )
    use_tta: bool = option(
        False,
        "average over transforms.eval.tta_ratios and horizontal flips",
        resume="decides best",
        verbs=PREDICTS,
    )
    blend: str = option(
        "uniform",
        "weight of a pixel within its window",
        choices=("uniform", "gaussian", "hann"),
        resume="decides best",
        verbs=PREDICTS,
    )
    absent_classes: str = option(
        "skip_empty",
        "classes left out of means: those in neither truth nor prediction, those not in the truth, or none",
        choices=("skip_empty", "skip_absent", "zero"),
        resume="decides best",
        verbs=EVALUATES,
    )
    beta: float = option(
        1.0,
        "weight of recall against precision in the F-score",
        above=0,
        most=1000,
        resume="decides best",
        verbs=EVALUATES,
    )
    boundary_iou: bool = option(False, "also report boundary IoU", resume="free", verbs=EVALUATES)
    boundary_width: float = option(
        0.02,
        "width of its band along contours, as a share of the image diagonal",
        above=0,
        most=1,
        resume="free",
        verbs=EVALUATES,
    )
    cldice: list[str] = option(
        [],
        "names of thin classes whose clDice is reported (pip install 'dinoseg[thin]')",
        resume="free",
        verbs=EVALUATES,
    )
    compute_metric_per_image: bool = option(
        False, "also report the mean of per-image metrics", resume="free", verbs=EVALUATES
    )
    max_val_samples: int | None = option(
        None,
        "evaluate an evenly spread, fixed subset of this size",
        least=1,
        unit="images",
        resume="decides best",
        verbs=EVALUATES,
    )
    num_visualizations: int = option(
        4, "validation images drawn into overlays/val at each evaluation", least=0, unit="images", resume="free"
    )
    keep_overlays: bool = option(
        False, "also keep those of each evaluation, in overlays/val/step_000200 and so on", resume="free"
    )


class Config(Section):
    """The whole config."""

    bs: int = option(2, "images per step and process", least=1, most=65536, unit="images", resume="free", first=True)
    num_workers: int = option(2, "data loading processes", least=0, most=256, resume="free", verbs=("eval",))
    model_dtype: str = option(
        "FLOAT32",
        "precision of the forward pass",
        choices=("FLOAT32", "BFLOAT16"),
        verbs=("eval", "predict", "report"),
    )
    seed: int = option(100, "seed of everything random", least=0, most=2**63 - 1)
    device: str = option(
        "auto",
        "where the model runs",
        choices=("auto", "cpu", "cuda", "mps"),
        resume="free",
        verbs=("eval", "report"),
        first=True,
    )
    metric_to_save: str = option(
        "mIoU",
        "decides which checkpoint is best",
        choices=("mIoU", "mAcc", "aAcc", "mDice", "mFscore"),
        resume="decides best",
    )
    output_dir: str = option("runs/dinoseg", "run folder", resume="free", first=True)
    trackers: list[str] = option(
        ["tensorboard"],
        "where a training is shown; [] for nowhere",
        choices=("tensorboard", "wandb", "mlflow", "trackio"),
        resume="free",
    )
    load_from: str | None = option(None, "run folder, or state dict of DINOv3's code, whose head to start from")
    model: ModelConfig = Field(default_factory=ModelConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    datasets: DatasetsConfig = Field(default_factory=DatasetsConfig)
    decoder_head: DecoderHeadConfig = Field(default_factory=DecoderHeadConfig)
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    transforms: TransformsConfig = Field(default_factory=TransformsConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    m2f_train: Mask2FormerTrainConfig = Field(default_factory=Mask2FormerTrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)


def all_keys() -> tuple[Key, ...]:
    """Every option by its dotted key, in the order of the schema."""
    return keys_of(Config)


def get_key(config: Config, key: str) -> Any:
    """The value at a dotted key, e.g. ``"eval.crop_size"``."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return node
