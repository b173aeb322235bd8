"""Values that the schema's types let through and that mean nothing: each refused by key, with what to give."""

from typing import Any

from dinoseg.config.schema import Config, get_key

CHOICES: dict[str, tuple[str, ...]] = {
    "model_dtype": ("FLOAT32", "BFLOAT16"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "metric_to_save": ("mIoU", "mAcc", "aAcc", "mDice", "mFscore"),
    "model.mode": ("freeze", "lora", "full"),
    "decoder_head.type": ("linear", "m2f"),
    "scheduler.type": ("WarmupOneCycleLR", "WarmupMultiStepLR", "WarmupPolyLR", "Constant"),
    "eval.mode": ("whole", "slide"),
    "eval.blend": ("uniform", "gaussian", "hann"),
    "eval.absent_classes": ("skip_empty", "skip_absent", "zero"),
}

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")

# Options of scheduler.constructor_kwargs that are numbers; the factors one divides by are above zero.
SCHEDULE_NUMBERS = ("warmup_iters", "warmup_ratio", "pct_start", "div_factor", "final_div_factor", "gamma", "power")

MINIMUM: dict[str, float] = {
    "bs": 1,
    "num_workers": 0,
    "scheduler.total_iter": 0,
    "train.accumulation_steps": 1,
    "train.log_interval": 1,
    "train.checkpoint_interval": 1,
    "train.early_stopping": 1,
    "eval.eval_interval": 0,
    "eval.batch_size": 1,
    "eval.max_val_samples": 1,
    "eval.num_visualizations": 0,
    "decoder_head.num_heads": 1,
    "decoder_head.num_queries": 1,
    "decoder_head.adapter_inplane": 1,
    "decoder_head.dropout": 0,
    "train.celoss_weight": 0,
    "train.diceloss_weight": 0,
    "optimizer.lr": 0,
    "optimizer.gradient_clip": 0,
    "optimizer.backbone_lr_factor": 0,
    "lora.rank": 1,
}


def check_values(config: Config) -> None:
    """Checks choices, ranges, sizes and the options of the schedule.

    Raises:
        ValueError: the first that does not fit.
    """
    for key, choices in CHOICES.items():
        if get_key(config, key) not in choices:
            raise ValueError(f"{key}={get_key(config, key)!r} is unknown; choose one of {', '.join(choices)}")
    for key, minimum in MINIMUM.items():
        value = get_key(config, key)
        if value is not None and not value >= minimum:
            raise ValueError(f"{key}={value} is too small; give {minimum:g} or more")
    if config.train.celoss_weight == config.train.diceloss_weight == 0:
        raise ValueError(
            "train.celoss_weight and train.diceloss_weight are both 0: nothing to learn; raise one of them"
        )
    for index, name in enumerate(config.trackers):
        if name not in TRACKERS:
            raise ValueError(f"trackers={name!r} is unknown; choose any of {', '.join(TRACKERS)}, or [] for none")
        if name in config.trackers[:index]:
            raise ValueError(f"trackers={name!r} is given twice; give it once")
    decay = config.train.ema_decay
    if decay is not None and not 0 < decay < 1:
        raise ValueError(f"train.ema_decay={decay}: give a number above 0 and below 1, such as 0.999, or null for none")
    for key in ("transforms.train.crop_size", "eval.crop_size", "eval.stride"):
        _check_size(key, get_key(config, key))
    _check_schedule(config.scheduler.constructor_kwargs)


def _check_schedule(options: dict[str, Any]) -> None:
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name in SCHEDULE_NUMBERS and (not number or (name.endswith("div_factor") and value == 0)):
            raise ValueError(f"scheduler.constructor_kwargs.{name} is {value!r}; expected a number, not below zero")
        if name == "milestones" and not (isinstance(value, list) and all(isinstance(step, int) for step in value)):
            raise ValueError(f"scheduler.constructor_kwargs.milestones is {value!r}; expected a list of steps")


def _check_size(key: str, value: Any) -> None:
    sides = value if isinstance(value, list) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    left_out = value is None and key.startswith("eval.")
    if not left_out and (not whole or len(sides) not in (1, 2)):
        raise ValueError(f"{key} is {value!r}; expected pixels: a whole number, or [height, width]")
