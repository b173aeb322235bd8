"""Options of evaluation and prediction: ``eval.``."""

from dinoseg.config.option import EVALUATES, PREDICTS, Section, option

_LARGEST_SIDE = 65536


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
    tuned: bool = option(
        False,
        "decide by the weights of classes that `dinoseg calibrate RUN --tune dice` found; not in training",
        resume="free",
        verbs=PREDICTS,
    )
    least_patches: bool = option(
        False,
        "patches below the sizes that `dinoseg calibrate RUN --patches dice` found become what lies around them; not "
        "in training",
        resume="free",
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
