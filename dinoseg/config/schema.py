"""The configuration schema: every key, its type, its default and the sentence that ``--help`` prints.

A superset of DINOv3's segmentation configs, so those files load as they are. How files and ``key=value`` overrides
become one checked object stands in ``config_loading.py``.
"""

from dataclasses import dataclass, field
from typing import Any


def _key(default: Any, help: str) -> Any:
    """A field with the sentence that ``--help`` prints beside it."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class ModelConfig:
    dino_hub: str = _key("dinov3_vits16", "backbone name; `dinoseg backbones` lists them")
    weights: str = _key("hub", "hub | file or folder (Meta .pth, transformers folder, timm safetensors) | none")
    mode: str | None = _key(None, "freeze | lora | full: what of the backbone is trained; freeze when left out")
    save_backbone: bool = _key(False, "write the whole backbone into checkpoints, not only its name and hash")
    drop_path: float = _key(0.0, "drop-path rate of the backbone when it is trained (mode=full)")
    gradient_checkpointing: bool = _key(False, "lora, full: recompute the backbone's blocks backwards to save memory")


@dataclass
class LoraConfig:
    enabled: bool | None = _key(None, "the research fork's spelling: true is model.mode=lora")
    rank: int = _key(8, "rank of the update of a projection")
    alpha: float = _key(16.0, "the update is scaled by alpha / rank")
    dropout: float = _key(0.0, "dropout before the adapters, in training")
    layers: Any = _key(None, "list of the block indices that get adapters; all when left out")
    targets: list[str] = _key(["attn.qkv", "attn.proj"], "linear layers of a block that get adapters")


@dataclass
class DatasetsConfig:
    root: str = _key("", "folder with {train,val,test}/{images,masks}, or an ADE20K root")
    train: str = _key("train", "split folder, or a descriptor such as ADE20K:split=TRAIN")
    val: str = _key("val", "split folder, or a descriptor such as ADE20K:split=VAL")
    test: str = _key("test", "split folder, or a descriptor")
    images: Any = _key(None, "glob of images, or {train: glob, val: glob, test: glob}, relative to root")
    masks: Any = _key(None, "glob of masks, paired with images by stem; same form as images")
    classes: Any = _key(
        None, "{label id or '#rrggbb': name}; a name given twice merges; left out: scanned from the masks"
    )
    ignore: Any = _key(None, "label ids or colours that count nowhere; 255 by default")
    reduce_zero_label: bool | None = _key(None, "ADE20K shorthand: 0 is ignored, the rest shift down by one")
    colour_tolerance: int = _key(
        0, "RGB masks: largest channel distance at which a stray colour is taken as the nearest"
    )


@dataclass
class DecoderHeadConfig:
    type: str = _key("linear", "linear | m2f")
    backbone_out_layers: Any = _key(
        None, "LAST | FOUR_LAST | FOUR_EVEN_INTERVALS | list of block indices; LAST for linear when left out"
    )
    use_batchnorm: bool = _key(True, "linear: BatchNorm before the classifier")
    use_cls_token: bool = _key(False, "linear: concatenate the class token to every patch feature")
    use_backbone_norm: bool = _key(True, "apply the backbone's final norm to every tapped layer")
    num_classes: int | None = _key(None, "checked against the label space when given")
    hidden_dim: int | None = _key(None, "m2f: width of pixel and mask decoder (256 when left out)")
    dropout: float = _key(0.1, "linear: dropout on the features")
    num_heads: int = _key(8, "m2f: attention heads")
    num_queries: int = _key(100, "m2f: learned queries")
    encoder_layers: int = _key(6, "m2f: deformable encoder layers")
    decoder_layers: int = _key(9, "m2f: mask decoder layers")
    encoder_ffn_dim: int = _key(1024, "m2f: FFN width of the pixel decoder")
    decoder_ffn_dim: int = _key(2048, "m2f: FFN width of the mask decoder")
    adapter_inplane: int = _key(64, "m2f: channels of the adapter's spatial prior")
    adapter_drop_path: float = _key(0.3, "m2f: drop-path rate of the adapter")
    activation_checkpointing: bool = _key(False, "m2f: recompute activations in the backward pass to save memory")


@dataclass
class SchedulerConfig:
    type: str = _key("WarmupOneCycleLR", "WarmupOneCycleLR | WarmupMultiStepLR | WarmupPolyLR | Constant")
    total_iter: int = _key(40000, "optimiser steps; 0 evaluates what load_from gives and writes a run folder of it")
    constructor_kwargs: dict[str, Any] = _key({}, "options of the scheduler, e.g. {warmup_iters: 1500}")


@dataclass
class OptimizerConfig:
    lr: float | None = _key(None, "1e-3 for linear, 1e-4 for m2f when left out")
    beta1: float = _key(0.9, "AdamW beta 1")
    beta2: float = _key(0.999, "AdamW beta 2")
    weight_decay: float | None = _key(
        None, "1e-2 for linear, 5e-2 for m2f when left out; none on norms, biases, embeddings"
    )
    gradient_clip: float | None = _key(
        None, "largest gradient norm, 0 for none; inf (none) for linear, 0.01 for m2f when left out"
    )
    backbone_lr_factor: float | None = _key(
        None, "the backbone's learning rate over the head's; 0.1 for model.mode=full, 1 for lora when left out"
    )
    layer_decay: float = _key(
        1.0, "the learning rate of a backbone block is this to the power of its distance from the head"
    )


@dataclass
class TrainTransformConfig:
    img_size: int | None = _key(None, "short side before the random ratio; native size when left out")
    random_img_size_ratio_range: list[float] = _key([0.5, 2.0], "range of the random resize")
    crop_size: Any = _key(512, "pixels, int or [height, width]")
    flip_prob: float = _key(0.5, "probability of a horizontal flip")
    vertical_flip_prob: float = _key(0.0, "probability of a vertical flip")
    right_angle_rotations: bool = _key(False, "rotate by a random multiple of 90 degrees")
    max_class_share: float = _key(0.75, "redraw a crop (10 tries) in which one class covers more than this")
    photometric_distortion: bool = _key(True, "random brightness, contrast, saturation and hue")


@dataclass
class EvalTransformConfig:
    img_size: int | None = _key(None, "resize the short side to this before inference; native size when left out")
    tta_ratios: list[float] = _key([1.0], "scales of test-time augmentation")
    tta_right_angle_rotations: bool = _key(False, "turn by 90, 180 and 270 degrees, too; for images without an up")


@dataclass
class TransformsConfig:
    train: TrainTransformConfig = field(default_factory=TrainTransformConfig)
    eval: EvalTransformConfig = field(default_factory=EvalTransformConfig)
    mean: list[float] = _key([0.485, 0.456, 0.406], "per channel, of images in 0..1")
    std: list[float] = _key([0.229, 0.224, 0.225], "per channel, of images in 0..1")


@dataclass
class TrainConfig:
    celoss_weight: float = _key(1.0, "linear: weight of cross-entropy")
    diceloss_weight: float = _key(0.0, "linear: weight of Dice loss")
    class_weights: Any = _key("none", "none | auto (inverse square root of pixel share) | {name: weight}")
    accumulation_steps: int = _key(1, "batches per optimiser step")
    log_interval: int = _key(10, "optimiser steps between lines of metrics.jsonl")
    checkpoint_interval: int | None = _key(
        None, "optimiser steps between checkpoints beside those of each evaluation; none of them when left out"
    )
    early_stopping: int | None = _key(
        None, "evaluations in a row without a better metric_to_save that end the training; never when left out"
    )
    ema_decay: float | None = _key(
        None, "evaluate and keep a moving average of the trained weights, e.g. 0.999; none when left out"
    )


@dataclass
class Mask2FormerTrainConfig:
    num_points: int = _key(12544, "points per mask in the loss")
    oversample_ratio: float = _key(3.0, "candidates per uncertain point")
    importance_sample_ratio: float = _key(0.75, "share of points taken by uncertainty")
    mask_coefficient: float = _key(5.0, "weight of the mask cross-entropy")
    dice_coefficient: float = _key(5.0, "weight of the Dice term")
    class_coefficient: float = _key(2.0, "weight of the class term")
    no_object_coefficient: float = _key(0.1, "weight of the no-object class within the class term")


@dataclass
class EvalConfig:
    reduce_zero_label: bool | None = _key(None, "DINOv3's spelling of datasets.reduce_zero_label; means the same")
    mode: str = _key("slide", "whole | slide")
    crop_size: Any = _key(None, "window, int or [height, width]; the training crop when left out")
    stride: Any = _key(None, "step of the window; two thirds of the crop when left out")
    batch_size: int | None = _key(None, "windows per forward pass; by device, crop and classes when left out")
    eval_interval: int = _key(0, "optimiser steps between evaluations; 0: a tenth of total_iter")
    use_tta: bool = _key(False, "average over transforms.eval.tta_ratios and horizontal flips")
    blend: str = _key("uniform", "uniform | gaussian | hann weight of a pixel within its window")
    absent_classes: str = _key(
        "skip_empty",
        "classes left out of means: skip_empty (in neither truth nor prediction) | skip_absent (not in truth) | zero",
    )
    beta: float = _key(1.0, "weight of recall against precision in the F-score")
    boundary_iou: bool = _key(False, "also report boundary IoU")
    boundary_width: float = _key(0.02, "width of its band along contours, as a share of the image diagonal")
    cldice: list[str] = _key([], "names of thin classes whose clDice is reported (pip install 'dinoseg[thin]')")
    compute_metric_per_image: bool = _key(False, "also report the mean of per-image metrics")
    max_val_samples: int | None = _key(None, "evaluate an evenly spread, fixed subset of this size")
    num_visualizations: int = _key(4, "validation images drawn into overlays/val at each evaluation")


@dataclass
class Config:
    bs: int = _key(2, "images per step and process")
    num_workers: int = _key(2, "data loading processes")
    model_dtype: str = _key("FLOAT32", "FLOAT32 | BFLOAT16: precision of the forward pass")
    seed: int = _key(100, "seed of everything random")
    device: str = _key("auto", "auto | cpu | cuda | mps")
    metric_to_save: str = _key("mIoU", "mIoU | mAcc | aAcc | mDice | mFscore: decides which checkpoint is best")
    output_dir: str = _key("runs/dinoseg", "run folder")
    trackers: list[str] = _key(
        ["tensorboard"], "where a training is shown: any of tensorboard, wandb, mlflow, trackio; [] for nowhere"
    )
    load_from: str | None = _key(None, "run folder, or state dict of DINOv3's code, whose head to start from")
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    datasets: DatasetsConfig = field(default_factory=DatasetsConfig)
    decoder_head: DecoderHeadConfig = field(default_factory=DecoderHeadConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    transforms: TransformsConfig = field(default_factory=TransformsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    m2f_train: Mask2FormerTrainConfig = field(default_factory=Mask2FormerTrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def get_key(config: Config, key: str) -> Any:
    """The value at a dotted key, e.g. ``"eval.crop_size"``."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return node
