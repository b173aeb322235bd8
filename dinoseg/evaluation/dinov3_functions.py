"""The names under which DINOv3's segmentation evaluation is known, on dinoseg's engine.

New code is better served by ``confusion_matrix``, ``metrics_from_confusion`` and ``predict_class_map``: they refuse
what these functions, by their contract, let pass (predictions outside the classes, NaN for absent classes).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from dinoseg.evaluation.metrics import FIGURES
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import infer_scores
from dinoseg.labels.zero_label import preprocess_nonzero_labels

Areas = Int[Tensor, "4 classes"]


def calculate_intersect_and_union(
    pred_label: Integer[Tensor, "..."],
    label: Integer[Tensor, "..."],
    num_classes: int,
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
) -> Areas:
    """Pixels by class of intersection, union, prediction and label, stacked in this order, int64, for one sample.

    Pixels whose label is ``ignore_index`` count nowhere. A prediction or label outside 0 .. num_classes-1 counts for no
    class (it is no error here, as ``confusion_matrix`` makes it).

    Args:
        pred_label: class indices.
        label: same shape; class indices, or label ids with ``reduce_zero_label``.
        reduce_zero_label: label 0 is ignored and the others shift down by one, in ``label`` alone.

    Raises:
        ValueError: the shapes differ.
    """
    if pred_label.shape != label.shape:
        raise ValueError(f"the prediction is {tuple(pred_label.shape)} pixels, the label {tuple(label.shape)}")
    label = label.long()
    if reduce_zero_label:
        label = preprocess_nonzero_labels(label, ignore_index)
    counted = label != ignore_index
    predicted, true = pred_label.long()[counted], label[counted]
    intersect = _histogram(true[predicted == true], num_classes)
    predicted_area, true_area = _histogram(predicted, num_classes), _histogram(true, num_classes)
    return torch.stack([intersect, predicted_area + true_area - intersect, predicted_area, true_area])


def calculate_segmentation_metrics(
    pre_eval_results: Sequence[Areas], metrics: Sequence[str] = ("mIoU",), beta: float = 1.0
) -> dict[str, Tensor]:
    """Figures over all samples, as shares 0..1 in float64; NaN for 0 / 0, left out of the means.

    Args:
        pre_eval_results: what ``calculate_intersect_and_union`` gave for each sample.
        metrics: any of ``mIoU`` (adds IoU, Acc by class; mIoU, mAcc), ``dice`` (Dice, Acc; mDice, mAcc) and ``fscore``
            (Fscore, Precision, Recall; mFscore, mPrecision, mRecall). ``aAcc``, the share of pixels that are right, is
            always there.
        beta: weight of recall against precision in the F-score.

    Raises:
        ValueError: an unknown metric, or no sample.
    """
    if unknown := sorted(set(metrics) - set(_FIGURES)):
        raise ValueError(f"metrics {unknown} are unknown; choose from {list(_FIGURES)}")
    if not pre_eval_results:
        raise ValueError("no sample to calculate metrics of: pre_eval_results is empty")
    intersect, _, predicted, true = torch.stack(list(pre_eval_results)).sum(dim=0).cpu()
    counts = torch.stack([intersect, predicted, true]).numpy()
    figures = {figure.name: figure.of(counts, beta) for figure in FIGURES}
    result = {"aAcc": intersect.sum().double() / true.sum()}
    for metric in metrics:
        for name, figure in _FIGURES[metric].items():
            result[name] = torch.from_numpy(figures[figure])
            result[f"m{name}"] = result[name].nanmean()
    return result


def make_inference(
    x: Float[Tensor, "batch bands height width"],
    model: SemanticModel,
    inference_mode: Literal["whole", "slide"] = "whole",
    decoder_head_type: str = "linear",
    rescale_to: tuple[int, int] = (512, 512),
    n_output_channels: int = 150,
    crop_size: tuple[int, int] = (512, 512),
    stride: tuple[int, int] = (341, 341),
    apply_horizontal_flip: bool = False,
    output_activation: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "batch classes new_height new_width"]:
    """Scores of normalised images at the size ``rescale_to`` (height, width).

    Args:
        inference_mode: the image in one piece, or in windows of ``crop_size`` every ``stride`` pixels.
        decoder_head_type: accepted and without effect: every model gives ``semantic_logits``.
        n_output_channels: checked against the model's number of classes.
        apply_horizontal_flip: ``x`` is mirrored; the scores are mirrored back.
        output_activation: applied to the scores at their final size, e.g. ``lambda scores: scores.softmax(1)``.

    Raises:
        ValueError: ``n_output_channels`` is not the model's, or crop and stride leave gaps.
    """
    if n_output_channels != model.num_classes:
        raise ValueError(f"n_output_channels is {n_output_channels}, but the model scores {model.num_classes} classes")
    policy = WindowPolicy(mode=inference_mode, crop=crop_size, stride=stride)
    scores = torch.stack([infer_scores(model, image, policy, rescale_to, device=x.device) for image in x])
    if apply_horizontal_flip:
        scores = scores.flip(-1)
    return output_activation(scores) if output_activation else scores


def evaluate_segmentation_model(
    segmentation_model: SemanticModel,
    test_dataloader: Iterable[tuple[Tensor | Sequence[Tensor], Tensor]],
    device: torch.device | str,
    eval_res: int | tuple[int, int],
    eval_stride: int | tuple[int, int],
    decoder_head_type: str = "linear",
    num_classes: int = 150,
    autocast_dtype: torch.dtype = torch.float32,
    use_tta: bool = False,
    eval_mode: Literal["whole", "slide"] = "slide",
    max_samples: int | None = None,
) -> dict[str, Tensor]:
    """Figures (``calculate_segmentation_metrics`` with mIoU, dice and fscore: shares 0..1) over a data loader.

    Args:
        segmentation_model: put into evaluation mode.
        test_dataloader: pairs (images, label): images (1, 3, H, W), or with ``use_tta`` a list of such, the second
            half of it mirrored; label (1, H, W) or (1, 1, H, W), class indices at native size, 255 ignored.
        eval_res, eval_stride: window and step in pixels, both sides or (height, width).
        decoder_head_type: accepted and without effect.
        use_tta: averages the probabilities of the listed images.
        max_samples: stop after so many.
    """
    if isinstance(segmentation_model, nn.Module):
        segmentation_model.eval()
    policy = WindowPolicy(mode=eval_mode, crop=_pair(eval_res), stride=_pair(eval_stride))
    infer = _inference(segmentation_model, policy, num_classes, softmax=use_tta)
    results = []
    for images, label in islice(test_dataloader, max_samples):
        label = label.reshape(label.shape[-2:]).to(device)
        with torch.autocast(torch.device(device).type, autocast_dtype, enabled=autocast_dtype != torch.float32):
            prediction = _predict_views(images, (label.shape[-2], label.shape[-1]), device, infer, use_tta)
        results.append(calculate_intersect_and_union(prediction, label, num_classes))
    return calculate_segmentation_metrics(results, ("mIoU", "dice", "fscore"))


def _inference(model: SemanticModel, policy: WindowPolicy, num_classes: int, softmax: bool) -> Callable[..., Tensor]:
    """``make_inference`` with everything but the images, their final size and the flip."""
    return partial(
        make_inference,
        model=model,
        inference_mode=policy.mode,
        n_output_channels=num_classes,
        crop_size=policy.crop,
        stride=policy.stride,
        output_activation=_probabilities if softmax and not model.scores_are_probabilities else None,
    )


def _predict_views(
    images: Tensor | Sequence[Tensor],
    size: tuple[int, int],
    device: torch.device | str,
    infer: Callable[..., Tensor],
    mirrored_half: bool,
) -> Integer[Tensor, "height width"]:
    """Class indices by the sum of the scores of all views; those of their second half are mirrored back, if so."""
    views = [images] if isinstance(images, Tensor) else list(images)
    scores = torch.zeros((), device=device)
    for index, view in enumerate(views):
        flipped = mirrored_half and index >= len(views) // 2
        scores = scores + infer(view.to(device), rescale_to=size, apply_horizontal_flip=flipped)
    return scores[0].argmax(dim=0)


_FIGURES = {
    "mIoU": {"IoU": "IoU", "Acc": "recall"},
    "dice": {"Dice": "Dice", "Acc": "recall"},
    "fscore": {"Fscore": "Fscore", "Precision": "precision", "Recall": "recall"},
}


def _histogram(values: Integer[Tensor, " pixels"], num_classes: int) -> Integer[Tensor, " classes"]:
    inside = values[(values >= 0) & (values < num_classes)]
    return torch.bincount(inside, minlength=num_classes)


def _probabilities(scores: Float[Tensor, "batch classes height width"]) -> Float[Tensor, "batch classes height width"]:
    return scores.softmax(dim=1)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
