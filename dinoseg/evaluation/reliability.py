"""How well probabilities mean what they say: calibration error and negative log-likelihood, from counts that add up.

Pixels are sorted into bins by the probability of their predicted class. The expected calibration error (Naeini, Cooper
and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015; for the class with the largest
probability as in Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017) is the mean distance
between mean confidence and share of right pixels, over bins, weighted by their pixels. Ignored pixels are in no bin.

Sums of confidences are kept as whole numbers of 2^-20, so that any order and any number of processes gives the same.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor

from dinoseg.inference.judged_rows import JudgedRows

BINS = 15
# Columns of a bin.
PIXELS, RIGHT, CONFIDENCE, SURPRISE = range(4)
_UNIT = 1 << 20


def reliability_counts(
    probabilities: Float[Tensor, "classes *place"],
    class_map: Integer[Tensor, "*place"],
    truth: Integer[Tensor, "*place"],
    ignore_index: int,
) -> Int[Tensor, "15 4"]:
    """Counts of every bin: pixels, right ones, and sums of confidence and of -log(probability of the true class).

    Bin k holds confidences above k / 15 up to (k + 1) / 15. Sums are in 2^-20; of a probability of 0 the logarithm is
    that of the smallest normal fp32 number (87 nats).

    Args:
        probabilities: fp32, which add up to 1 over classes.
        class_map: the predicted class of each pixel.
        truth: class indices or ``ignore_index``.

    Returns:
        int64, on the CPU.
    """
    device = probabilities.device
    truth, class_map = truth.to(device, torch.int64), class_map.to(device, torch.int64)
    counted = truth != ignore_index
    of_truth = probabilities.gather(0, torch.where(counted, truth, 0)[None])[0][counted]
    # From here on in fp64, which not every device has.
    confidence = probabilities.gather(0, class_map[None])[0][counted].cpu().double()
    surprise = -of_truth.clamp_min(torch.finfo(torch.float32).tiny).log().cpu().double()
    bins = (confidence * BINS).ceil().long().sub_(1).clamp_(0, BINS - 1)
    columns = [
        torch.ones_like(confidence),
        (class_map == truth)[counted].cpu().double(),
        (confidence * _UNIT).round(),
        (surprise * _UNIT).round(),
    ]
    # Whole numbers far below 2^53: their sums are exact in any order.
    sums = [torch.bincount(bins, weights=column, minlength=BINS) for column in columns]
    return torch.stack(sums, dim=1).round().long().cpu()


def rows_reliability(
    rows: JudgedRows, truth: Integer[Tensor, "height width"], ignore_index: int
) -> Int[Tensor, "2 15 4"]:
    """Counts of some rows of an image: at the models' temperatures, and at 1.

    Args:
        truth: of the whole image.
    """
    stripe = truth[rows.first : rows.last]
    found = reliability_counts(rows.probabilities, rows.class_map, stripe, ignore_index)
    if not rows.is_tempered:
        return torch.stack([found, found])
    plain = reliability_counts(rows.untempered(), rows.class_map, stripe, ignore_index)
    return torch.stack([found, plain])


def reliability_figures(counts: Shaped[np.ndarray, "15 4"]) -> dict[str, Any]:
    """ECE in percent and NLL in nats, null without a pixel; and of each bin its pixels, mean confidence and accuracy.

    Args:
        counts: see ``reliability_counts``; whole numbers.
    """
    pixels = counts[:, PIXELS].astype(np.float64)
    total = pixels.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = counts[:, CONFIDENCE] / _UNIT / pixels
        accuracy = counts[:, RIGHT] / pixels
    distance = np.where(pixels > 0, np.abs(accuracy - confidence), 0.0)
    bins = [
        {
            "from": index / BINS,
            "to": (index + 1) / BINS,
            "pixels": int(pixels[index]),
            "confidence": float(100 * confidence[index]) if pixels[index] else None,
            "accuracy": float(100 * accuracy[index]) if pixels[index] else None,
        }
        for index in range(len(counts))
    ]
    return {
        "ECE": float(100 * (pixels * distance).sum() / total) if total else None,
        "NLL": float(counts[:, SURPRISE].sum() / _UNIT / total) if total else None,
        "bins": bins,
    }


def is_tempered(policy: dict[str, Any]) -> bool:
    """Whether probabilities were taken at another temperature than 1, by what the policy of metrics.json says."""
    return any(said.get("temperature", 1.0) != 1.0 for said in (policy, *policy.get("members", ())))


def calibration_contents(counts: Int[Tensor, "2 15 4"], is_tempered: bool) -> dict[str, Any]:
    """What metrics.json says of probabilities; beside them what they were without a temperature, where one was used."""
    tempered, plain = counts.numpy()
    return reliability_figures(tempered) | {"uncalibrated": reliability_figures(plain) if is_tempered else None}
