"""What becomes of keys that were left out, and of two spellings of one option; and what keys must agree on."""

from typing import Any

from dinoseg.config.bands import check_bands, parse_range
from dinoseg.config.class_files import read_classes
from dinoseg.config.folds import settled_fold
from dinoseg.config.model_options import LoraConfig
from dinoseg.config.schema import Config, get_key

# More than any use, fewer than a mistake.
_MOST_SCALES = 32
# Of LoRA's adapters: at 5e-3, the linear recipes' rate of the head, CamVid had 6 mIoU after 180 steps, and at 5e-4 and
# 6e-4 nothing of the kind was seen.
_LARGEST_ADAPTER_LR = 1e-3

# Of the pictures that the backbones were trained on.
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# Options of lora, peft's spelling of each, and what it is when neither is given.
_LORA: tuple[tuple[str, str, Any], ...] = (
    ("rank", "r", 8),
    ("alpha", "lora_alpha", 16.0),
    ("dropout", "lora_dropout", 0.0),
    ("targets", "target_modules", ["attn.qkv", "attn.proj"]),
)

# Where a settled config has what was given in another spelling.
SETTLED_AT = {"lora.enabled": "model.mode"} | {f"lora.{theirs}": f"lora.{ours}" for ours, theirs, _ in _LORA}

# Options of scheduler.constructor_kwargs that are numbers.
_SCHEDULE_NUMBERS = ("warmup_iters", "warmup_ratio", "pct_start", "div_factor", "final_div_factor", "gamma", "power")


def with_changes(config: Config, changes: dict[str, Any]) -> Config:
    """A copy with other values at dotted keys; the config itself stays as it is.

    Raises:
        ValueError: (pydantic's) a value that its option does not allow.
    """
    values = config.model_dump()
    for key, value in changes.items():
        node, *inner = values, *key.split(".")
        for part in inner[:-1]:
            node = node[part]
        node[inner[-1]] = value
    return Config.model_validate(values)


def settle(config: Config) -> Config:
    """Joins spellings, checks what keys must agree on, and fills in what was left out.

    The result says all of it, and settling it again changes nothing.

    Raises:
        ValueError: keys that contradict each other; names them.
    """
    config = with_changes(config, _named_classes(config))
    config = with_changes(config, _joined_spellings(config))
    config = with_changes(config, _left_out(config))
    _check_agreement(config)
    _check_schedule(config.scheduler.constructor_kwargs)
    return config


def _named_classes(config: Config) -> dict[str, Any]:
    """A preset or a file of class names as what it says, so that a run is read where the file is not."""
    datasets = config.datasets
    if not isinstance(datasets.classes, str):
        return {}
    named = read_classes(datasets.classes, datasets.root)
    ignore = named.ignore if datasets.ignore is None else datasets.ignore
    return {"datasets.classes": named.classes, "datasets.ignore": ignore}


def settled_lora(lora: LoraConfig) -> LoraConfig:
    """Peft's spellings joined with ours, and what was left out filled in.

    Raises:
        ValueError: two spellings of one option disagree.
    """
    values: dict[str, Any] = {}
    for ours, theirs, default in _LORA:
        our_value, their_value = getattr(lora, ours), getattr(lora, theirs)
        if isinstance(their_value, str):
            their_value = [their_value]
        if our_value is not None and their_value is not None and our_value != their_value:
            raise ValueError(
                f"lora.{ours}={our_value} and lora.{theirs}={their_value} disagree; they are two spellings of one "
                f"option: give lora.{ours} alone"
            )
        given = our_value if our_value is not None else their_value
        values |= {ours: default if given is None else given, theirs: None}
    return LoraConfig.model_validate(lora.model_dump() | values)


def _joined_spellings(config: Config) -> dict[str, Any]:
    ours, theirs = config.datasets.reduce_zero_label, config.eval.reduce_zero_label
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            f"datasets.reduce_zero_label={ours} and eval.reduce_zero_label={theirs} disagree; they are two spellings "
            "of one option (it changes labels in training and evaluation alike): give one of them"
        )
    mode, enabled = config.model.mode, config.lora.enabled
    if mode is not None and enabled is not None and enabled != (mode == "lora"):
        raise ValueError(
            f"model.mode={mode} and lora.enabled={str(enabled).lower()} disagree; lora.enabled=true is another "
            "spelling of model.mode=lora: give one of them"
        )
    zero = ours if ours is not None else theirs
    options = config.scheduler.constructor_kwargs
    return {
        "datasets.reduce_zero_label": zero,
        "eval.reduce_zero_label": zero,
        "model.mode": mode or ("lora" if enabled else "full" if config.decoder_head.type == "eomt" else "freeze"),
        "lora": settled_lora(config.lora).model_dump() | {"enabled": None},
        "scheduler.constructor_kwargs": {name: value for name, value in options.items() if value is not None},
    }


def _left_out(config: Config) -> dict[str, Any]:
    """Values for the keys that were left out: they follow from the head, the mode, the crop and the steps."""
    mask2former, dense, pmt, eomt = (config.decoder_head.type == head for head in ("m2f", "dense", "pmt", "eomt"))
    masks = predicts_masks(config)
    crop = config.transforms.train.crop_size if config.eval.crop_size is None else config.eval.crop_size
    usual_lr = 2e-4 if pmt else 1e-4 if masks else 1e-3
    values: dict[str, Any] = {
        "decoder_head.backbone_out_layers": (
            "FOUR_QUARTERS" if pmt else "FOUR_EVEN_INTERVALS" if mask2former or dense else "LAST"
        ),
        "decoder_head.hidden_dim": 256 if mask2former else None,
        "decoder_head.num_heads": 8 if mask2former else None,
        "decoder_head.decoder_layers": 9 if mask2former else 6 if pmt else None,
        "decoder_head.decoder_ffn_dim": 2048 if mask2former else None,
        "optimizer.lr": usual_lr,
        "optimizer.weight_decay": 0.05 if masks else 0.01,
        "optimizer.gradient_clip": 0.01 if masks else 1.0 if dense else float("inf"),
        "train.diceloss_weight": 1.0 if dense else 0.0,
        "optimizer.backbone_lr_factor": _backbone_lr_factor(config, usual_lr),
        "optimizer.layer_decay": 1.0,
        "eval.crop_size": crop,
        "eval.stride": [max(1, side * 2 // 3) for side in crop] if isinstance(crop, list) else max(1, crop * 2 // 3),
    }
    if eomt and config.model.mode == "full":
        # As published: each block learns a fifth slower than the one after it.
        values |= {"optimizer.backbone_lr_factor": 1.0, "optimizer.layer_decay": 0.8}
    if config.datasets.bands is None:
        values |= {"transforms.mean": IMAGENET_MEAN, "transforms.std": IMAGENET_STD}
    else:
        values |= {
            "model.band_weights": "mean" if len(config.datasets.bands) != 3 else None,
            "model.train_bands": len(config.datasets.bands) != 3,
        }
    changes = {key: value for key, value in values.items() if get_key(config, key) is None}
    changes["datasets.fold"] = settled_fold(config.datasets.folds, config.datasets.fold)
    options, total = config.scheduler.constructor_kwargs, config.scheduler.total_iter
    if pmt and "warmup_iters" not in options:
        # As published: 6,000 of 20,200 steps.
        changes["scheduler.constructor_kwargs"] = options | {"warmup_iters": min(6000, total * 3 // 10)}
    if config.eval.eval_interval == 0:
        changes["eval.eval_interval"] = max(1, config.scheduler.total_iter // 10)
    return changes


def predicts_masks(config: Config) -> bool:
    """Whether the head finds masks with a class each, and does not score pixels."""
    return config.decoder_head.type in ("m2f", "pmt", "eomt")


def trains_bands(config: Config) -> bool:
    """Whether the patch embedding is trained beside the head; of a config in which that may be left out, too."""
    bands, said = config.datasets.bands, config.model.train_bands
    return bands is not None and (len(bands) != 3 if said is None else said)


def keeps_features(config: Config) -> bool:
    """Whether features that are computed once are of use: the backbone is neither trained nor random.

    A random one is another with every seed.
    """
    return config.model.mode == "freeze" and not trains_bands(config) and config.model.weights != "none"


def _backbone_lr_factor(config: Config, usual_lr: float) -> float | None:
    """None where nothing of the backbone is trained."""
    if config.model.mode == "lora":
        lr = config.optimizer.lr if config.optimizer.lr is not None else usual_lr
        return min(1.0, _LARGEST_ADAPTER_LR / lr) if lr else 1.0
    return 0.1 if config.model.mode == "full" or trains_bands(config) else None


def _check_bands(config: Config) -> None:
    """What ``datasets.bands`` and the keys that depend on it must agree on."""
    bands, model = config.datasets.bands, config.model
    check_bands(bands, parse_range(config.datasets.range))
    channels = 3 if bands is None else len(bands)
    for key in ("transforms.mean", "transforms.std"):
        given = get_key(config, key)
        if given is not None and len(given) != channels:
            why = "" if bands is None else ", one a band of datasets.bands"
            raise ValueError(f"{key}={given} has {len(given)} entries; give {channels}{why}")
    for key, value in (("model.band_weights", model.band_weights), ("model.train_bands", model.train_bands)):
        if value is not None and bands is None:
            raise ValueError(
                f"{key}={str(value).lower()} has no effect without datasets.bands; add them, or leave it out"
            )
    if bands is None:
        return
    if model.band_weights is not None and channels == 3:
        raise ValueError(
            f"model.band_weights={model.band_weights} widens nothing: datasets.bands={bands} are three, which the "
            "backbone takes as they are; leave it out"
        )
    if model.train_bands is False and model.mode == "full":
        raise ValueError("model.train_bands=false with model.mode=full, which trains the whole backbone; leave it out")
    if model.train_bands and config.train.cache_features:
        raise ValueError(
            "train.cache_features=true with model.train_bands=true: features change with every step while the patch "
            "embedding is trained; leave train.cache_features out, or set model.train_bands=false"
        )
    if config.train.cached_views:
        raise ValueError(
            f"train.cached_views={config.train.cached_views} with datasets.bands: variants in colour are made of "
            "pictures of red, green and blue; leave one of them out"
        )


def _check_agreement(config: Config) -> None:
    _check_bands(config)
    if config.train.cache_features and config.model.mode != "freeze":
        raise ValueError(
            f"train.cache_features=true with model.mode={config.model.mode}: features of a backbone that is trained "
            "change with every step; give train.cache_features=false"
            + (", or set model.mode=freeze" if config.decoder_head.type != "eomt" else "")
        )
    if config.train.celoss_weight == config.train.diceloss_weight == 0:
        raise ValueError(
            "train.celoss_weight and train.diceloss_weight are both 0: nothing to learn; raise one of them"
        )
    if config.train.cldice_weight and predicts_masks(config):
        raise ValueError(
            f"train.cldice_weight={config.train.cldice_weight:g} is for heads that score pixels, and has no effect on "
            f"decoder_head.type={config.decoder_head.type}; leave it out"
        )
    elastic, crop_side = config.transforms.train.elastic, min(_sides(config.transforms.train.crop_size))
    if elastic > crop_side / 4:
        raise ValueError(
            f"transforms.train.elastic={elastic:g} moves points by more than a quarter of a crop of {crop_side} px: "
            f"little of the image would be left in it; give at most {crop_side / 4:g}"
        )
    for index, name in enumerate(config.trackers):
        if name in config.trackers[:index]:
            raise ValueError(f"trackers={name!r} is given twice; give it once")
    low, high = config.transforms.train.random_img_size_ratio_range
    if low > high:
        raise ValueError(
            f"transforms.train.random_img_size_ratio_range: [{low}, {high}] must be in rising order; exchange the two"
        )
    if not config.transforms.eval.tta_ratios:
        raise ValueError("transforms.eval.tta_ratios is empty; give at least one scale, e.g. [1.0]")
    if len(config.transforms.eval.tta_ratios) > _MOST_SCALES:
        raise ValueError(
            f"transforms.eval.tta_ratios has {len(config.transforms.eval.tta_ratios)} scales, and each is a whole "
            f"prediction; give at most {_MOST_SCALES}"
        )
    if config.transforms.eval.tta_right_angle_rotations and not config.eval.use_tta:
        raise ValueError(
            "transforms.eval.tta_right_angle_rotations=true has no effect without eval.use_tta=true; add it"
        )
    crop, stride = _sides(config.eval.crop_size), _sides(config.eval.stride)
    if config.eval.mode == "slide" and any(step > side for step, side in zip(stride, crop, strict=True)):
        raise ValueError(
            f"eval.stride {stride} exceeds eval.crop_size {crop}: pixels between windows would have no score; give a "
            "stride no larger than the crop"
        )


def _sides(size: Any) -> list[int]:
    return size if isinstance(size, list) else [size, size]


def _check_schedule(options: dict[str, Any]) -> None:
    for name, value in options.items():
        key = f"scheduler.constructor_kwargs.{name}"
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name in _SCHEDULE_NUMBERS and (not number or (name.endswith("div_factor") and value == 0)):
            raise ValueError(f"{key} is {value!r}; expected a number, not below zero")
        if name in ("pct_start", "warmup_ratio") and value > 1:
            raise ValueError(f"{key}={value} is too large; it is a share: give 0 to 1")
        if name == "milestones" and not (isinstance(value, list) and all(isinstance(step, int) for step in value)):
            raise ValueError(f"{key} is {value!r}; expected a list of steps")
