"""Which query answers for which class of an image: costs of all pairs and the cheapest assignment.

Carion et al. 2020 (DETR), section 3.1, with the mask costs of Cheng et al. 2022 (Mask2Former), section 3.3.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Sigmoid and softplus of smaller logits are below 1e-34: zero beside any other point.
_LEAST_LOGIT = -80.0
# A cost that is no number is the worst of all, so that a diverged prediction reaches the loss, where it is reported.
_WORST_COST = 1e9


@dataclass(frozen=True)
class Coefficients:
    """Weights of the three terms, the same in the matching and in the loss."""

    mask_coefficient: float = 5.0
    dice_coefficient: float = 5.0
    class_coefficient: float = 2.0


def matching_costs(
    *,
    class_logits: Float[Tensor, "stages queries classes_plus_one"],
    point_logits: Float[Tensor, "stages queries points"],
    labels: Int[Tensor, " points"],
    classes: Int[Tensor, " targets"],
    coefficients: Coefficients,
) -> Float[Tensor, "stages queries targets"]:
    """Costs of all pairs of a query and a class of one image, at all stages at once.

    Args:
        point_logits: mask logits at the points; overwritten.
        labels: class index at each point; ``classes``: those that the image holds.
    """
    truth = (labels[:, None] == classes).to(point_logits.dtype)
    mask_cost, dice_cost = _mask_costs(point_logits.flatten(0, 1), truth)
    class_cost = -class_logits.softmax(dim=-1).flatten(0, 1)[:, classes]
    cost = (
        coefficients.mask_coefficient * mask_cost
        + coefficients.dice_coefficient * dice_cost
        + coefficients.class_coefficient * class_cost
    )
    return cost.unflatten(0, class_logits.shape[:2])


def _mask_costs(
    logits: Float[Tensor, "queries points"], truth: Float[Tensor, "points targets"]
) -> tuple[Float[Tensor, "queries targets"], Float[Tensor, "queries targets"]]:
    """Mean cross-entropy and Dice of each pair.

    With logits x and truth y at the points, cross-entropy is ``softplus(x) - x y``. The sum of the second part over the
    points is a product of matrices. So only one tensor of queries x points is needed, none with targets.
    """
    inside = truth.sum(dim=0)
    agreement = logits @ truth
    logits = logits.clamp_(min=_LEAST_LOGIT)
    linear = logits.sum(dim=1, keepdim=True)
    probabilities = logits.sigmoid_()
    overlap = probabilities @ truth
    total = probabilities.sum(dim=1, keepdim=True) + inside
    # softplus(x) = x - log(sigmoid(x)): a third of the time of softplus, and in place.
    softplus = linear - probabilities.log_().sum(dim=1, keepdim=True)
    return (softplus - agreement) / len(truth), 1 - (2 * overlap + 1) / (total + 1)


def assign(costs: list[Float[Tensor, "..."]]) -> list[Int[Tensor, "..."]]:
    """The query of each target, (stages, targets) for each image, such that the summed cost is least.

    Args:
        costs: (stages, queries, targets) of each image; at least as many queries as targets.

    All costs travel to the host in one transfer, all assignments back in another.
    """
    host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
    host = np.nan_to_num(host, nan=_WORST_COST, posinf=_WORST_COST, neginf=-_WORST_COST)
    found, start = [], 0
    for cost in costs:
        stages, queries, targets = cost.shape
        problems = host[start : start + cost.numel()].reshape(stages, queries, targets)
        start += cost.numel()
        # Transposed, so that the answer comes in the order of the targets.
        found += [linear_sum_assignment(problem.T)[1] for problem in problems]
    assigned = torch.as_tensor(np.concatenate(found), dtype=torch.int64).to(costs[0].device)
    shapes = [(cost.shape[0], cost.shape[2]) for cost in costs]
    parts = assigned.split([stages * targets for stages, targets in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def check_query_count(num_classes: int, num_queries: int, most_classes: int | None = None) -> None:
    """Compares the queries with the classes at start-up; each class of an image needs a query of its own.

    Args:
        most_classes: the most classes that one image of the data set holds, where that is known.

    Raises:
        ValueError: an image holds more classes than there are queries.

    Warns where ``num_classes`` exceeds ``num_queries`` and no image is known to hold too many.
    """
    if most_classes is not None and most_classes > num_queries:
        raise ValueError(
            f"an image holds {most_classes} classes, but decoder_head.num_queries={num_queries}; "
            f"give decoder_head.num_queries={most_classes} or more"
        )
    if num_classes > num_queries:
        warnings.warn(
            f"{num_classes} classes, but decoder_head.num_queries={num_queries}: training stops at an image that holds "
            f"more than {num_queries} classes; decoder_head.num_queries={num_classes} is always enough",
            stacklevel=2,
        )
