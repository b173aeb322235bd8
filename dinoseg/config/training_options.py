"""Options of a training: ``scheduler.``, ``optimizer.``, ``train.`` and ``m2f_train.``."""

from typing import Any

from dinoseg.config.option import Section, option


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
    constructor_kwargs: dict[str, Any] = option(
        {},
        "options of the scheduler, e.g. {warmup_iters: 1500}; pmt warms up for 30 % of the steps, 6000 at most, "
        "when that is left out",
    )


class OptimizerConfig(Section):
    """AdamW and its learning rates."""

    lr: float | None = option(
        None, "1e-3 for linear and dense, 1e-4 for m2f and eomt, 2e-4 for pmt when left out", least=0, first=True
    )
    beta1: float = option(0.9, "AdamW beta 1", least=0, below=1)
    beta2: float = option(0.999, "AdamW beta 2", least=0, below=1)
    weight_decay: float | None = option(
        None,
        "1e-2 for linear and dense, 5e-2 for m2f, pmt and eomt when left out; none on norms, biases, embeddings",
        least=0,
    )
    gradient_clip: float | None = option(
        None,
        "largest gradient norm, 0 for none; inf (none) for linear, 1 for dense, 0.01 for m2f, pmt, eomt when left out",
        least=0,
        infinite=True,
    )
    backbone_lr_factor: float | None = option(
        None,
        "the backbone's learning rate over the head's; 0.1 for model.mode=full and for a trained patch embedding "
        "of a frozen backbone, 1 for eomt, for lora 1 or what makes 1e-3 of the head's rate when left out",
        least=0,
        most=1000,
    )
    layer_decay: float | None = option(
        None,
        "the learning rate of a backbone block is this to the power of its distance from the head; 0.8 for eomt with "
        "model.mode=full, else 1 when left out",
        above=0,
        most=1,
    )


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
        20.0,
        "the most that features of one training may take; above, it goes on without a cache, or ends with an error "
        "where train.cache_features=true or train.cached_views is given",
        above=0,
        unit="GB",
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
    """The loss of the m2f, pmt and eomt heads."""

    num_points: int = option(12544, "points per mask in the loss", least=1, most=10**7)
    oversample_ratio: float = option(3.0, "candidates per uncertain point", least=1, most=1000)
    importance_sample_ratio: float = option(0.75, "share of points taken by uncertainty", least=0, most=1)
    mask_coefficient: float = option(5.0, "weight of the mask cross-entropy", least=0)
    dice_coefficient: float = option(5.0, "weight of the Dice term", least=0)
    class_coefficient: float = option(2.0, "weight of the class term", least=0)
    no_object_coefficient: float = option(0.1, "weight of the no-object class within the class term", least=0)
