"""Mask-classification loss: every class of an image is one mask, found by one query."""

from collections.abc import Iterator
from dataclasses import fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.config import Mask2FormerTrainConfig
from dinoseg.losses.matching import Coefficients, assign, matching_costs
from dinoseg.losses.points import (
    PointSettings,
    SampledPoints,
    most_uncertain,
    pixel_coordinates,
    sample_maps,
    sample_points,
)
from dinoseg.models.mask_output import MaskOutput
from dinoseg.system.processes import process_count, sum_over_processes

# The target of queries that have no part in the class term.
_NOT_COUNTED = -100


class MaskClassificationLoss(nn.Module):
    """Class, mask and Dice terms of all supervised stages (Cheng et al. 2022, Mask2Former, section 3).

    Masks are compared at centres of valid pixels only, on logits resized bilinearly to the class map. So a logit of an
    ignored pixel changes no term, no matching and no gradient. A cell of the mask features does only where it takes
    part in the resizing to some valid pixel.

    An image's part of the mask and Dice terms is its sum over masks divided by the number of masks. Its part of the
    class term is the sum over its queries divided by the summed weight of all queries. Numbers and weights are
    averaged over processes. Batch mates change an image's part through these two divisors only, which follow from the
    class maps.

    Args:
        num_classes: without "no object".
        ignore_index: value of the class map that counts nowhere.
        settings: how many points, and the weights of the terms (in the matching too) and of "no object".
        class_weights: one weight a class within the class term, or None for equal weights.

    Raises:
        ValueError: class weights of another length than ``num_classes``.
    """

    query_weights: Tensor

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int,
        settings: Mask2FormerTrainConfig,
        class_weights: Float[Tensor, "..."] | None = None,
    ) -> None:
        super().__init__()
        if class_weights is not None and class_weights.shape != (num_classes,):
            raise ValueError(f"class weights of shape {tuple(class_weights.shape)} for {num_classes} classes")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.points = PointSettings(
            num_points=settings.num_points,
            oversample_ratio=settings.oversample_ratio,
            importance_sample_ratio=settings.importance_sample_ratio,
        )
        self.coefficients = Coefficients(
            mask_coefficient=settings.mask_coefficient,
            dice_coefficient=settings.dice_coefficient,
            class_coefficient=settings.class_coefficient,
        )
        weights = torch.ones(num_classes) if class_weights is None else class_weights.float()
        no_object = weights.new_tensor([settings.no_object_coefficient])
        self.register_buffer("query_weights", torch.cat([weights, no_object]), persistent=False)

    def forward(
        self,
        output: MaskOutput | tuple[MaskOutput, ...],
        class_map: Int[Tensor, "batch height width"],
        points: SampledPoints | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms ``loss_class``, ``loss_mask`` and ``loss_dice``, each the sum over the stages.

        Computed in fp32 whatever the precision of ``output``. An image without a valid pixel has no part in any term;
        without one in the batch all are zero, with zero gradients.

        Args:
            output: of all stages; in several parts where these do not share mask features.
            points: where to compare the masks; drawn anew by default.

        Raises:
            ValueError: an image holds more classes than the head has queries.
        """
        with torch.autocast(class_map.device.type, enabled=False):
            parts = [_in_fp32(part) for part in (output if isinstance(output, tuple) else (output,))]
            if points is None:
                points = sample_points(class_map != self.ignore_index, self.points)
            classes = self.present_classes(class_map, parts[0].class_logits.shape[2])
            queries = self.match(parts, class_map, classes, points)
            mask_term, dice_term = self._mask_terms(parts, class_map, classes, queries, points)
            class_logits = torch.cat([part.class_logits for part in parts])
            class_term = self._class_term(
                class_logits, classes, [torch.cat(found) for found in zip(*queries, strict=True)]
            )
        return {
            "loss_class": self.coefficients.class_coefficient * class_term,
            "loss_mask": self.coefficients.mask_coefficient * mask_term,
            "loss_dice": self.coefficients.dice_coefficient * dice_term,
        }

    def present_classes(
        self, class_map: Int[Tensor, "batch height width"], num_queries: int
    ) -> list[Int[Tensor, " classes"]]:
        """Class indices that each image holds, ascending.

        Raises:
            ValueError: they are more than ``num_queries``.
        """
        labels = class_map.masked_fill(class_map == self.ignore_index, self.num_classes).flatten(1)
        present = torch.zeros(len(labels), self.num_classes + 1, dtype=torch.bool, device=labels.device)
        present = present.scatter_(1, labels, True)[:, :-1].cpu()
        classes = [row.nonzero()[:, 0] for row in present]
        fullest = max(len(row) for row in classes)
        if fullest > num_queries:
            raise ValueError(
                f"an image of the batch holds {fullest} classes, but the head has {num_queries} queries; "
                f"give decoder_head.num_queries={fullest} or more"
            )
        return [row.to(class_map.device) for row in classes]

    @torch.no_grad()
    def match(
        self,
        parts: list[MaskOutput],
        class_map: Int[Tensor, "batch height width"],
        classes: list[Int[Tensor, "..."]],
        points: SampledPoints,
    ) -> list[list[Int[Tensor, "..."]]]:
        """The query of each class at each stage, (stages, classes) for each part and image."""
        size = (class_map.shape[1], class_map.shape[2])
        costs = []
        for part in parts:
            for image, present in enumerate(classes):
                pixels = points.matching[image]
                costs.append(
                    matching_costs(
                        class_logits=part.class_logits[:, image],
                        point_logits=_point_logits(part, image, pixel_coordinates(pixels[None], size)),
                        labels=class_map[image].flatten()[pixels],
                        classes=present,
                        coefficients=self.coefficients,
                    )
                )
        assigned, images = assign(costs), len(classes)
        return [assigned[first : first + images] for first in range(0, len(assigned), images)]

    def _class_term(
        self,
        class_logits: Float[Tensor, "stages batch queries classes_plus_one"],
        classes: list[Int[Tensor, "..."]],
        queries: list[Int[Tensor, "..."]],
    ) -> Float[Tensor, ""]:
        """Cross-entropy over all queries, a weighted mean over the batch of all processes, summed over stages.

        Of images with a valid pixel: where nothing is known of an image, it is not known that there is "no object".
        """
        stages = class_logits.shape[0]
        seen = [image for image, present in enumerate(classes) if len(present)]
        target = torch.full(class_logits.shape[:3], _NOT_COUNTED, device=class_logits.device)
        for image in seen:
            target[:, image] = self.num_classes
            target[:, image].scatter_(1, queries[image], classes[image].expand(stages, -1))
        summed = functional.cross_entropy(
            class_logits.flatten(0, 2),
            target.flatten(),
            weight=self.query_weights,
            ignore_index=_NOT_COUNTED,
            reduction="sum",
        )
        # The same at every stage: each class has one query there, whichever it is.
        weight = sum_over_processes(self.query_weights[target[0, seen]].sum()) / process_count()
        return summed / weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def _mask_terms(
        self,
        parts: list[MaskOutput],
        class_map: Int[Tensor, "batch height width"],
        classes: list[Int[Tensor, "..."]],
        queries: list[list[Int[Tensor, "..."]]],
        points: SampledPoints,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross-entropy and Dice of the matched queries' masks, divided by the number of masks, summed over stages."""
        terms = []
        for part, matched in zip(parts, queries, strict=True):
            for image, maps in enumerate(_matched_maps(part, matched)):
                terms.append(
                    mask_terms(
                        maps,
                        class_map[image],
                        classes[image],
                        points.candidates[image],
                        points.remainder[image],
                        self.points.uncertain,
                    )
                )
        count = sum_over_processes(class_map.new_tensor(sum(len(present) for present in classes), dtype=torch.float32))
        # One at least over all processes together, so that no mask anywhere gives zero and not 0/0.
        summed = torch.stack([torch.stack(term) for term in terms]).sum(dim=0) / (count.clamp(min=1) / process_count())
        return summed[0], summed[1]


def _in_fp32(part: MaskOutput) -> MaskOutput:
    return MaskOutput(**{field.name: getattr(part, field.name).float() for field in fields(part)})


def _point_logits(
    part: MaskOutput, image: int, coordinates: Float[Tensor, "1 points 2"]
) -> Float[Tensor, "stages queries points"]:
    """The masks of all queries and stages at points of one image.

    Product and sampling commute: what there is less of is sampled, the features that all stages share, or the masks.
    """
    features, biases = part.mask_features[image], part.mask_biases[:, image]
    queries = part.mask_embeddings[:, image].flatten(0, 1)
    if len(queries) < len(features):
        masks = torch.addmm(biases.reshape(-1, 1), queries, features.flatten(1))
        sampled = sample_maps(masks.unflatten(1, features.shape[1:]), coordinates)
    else:
        sampled = torch.addmm(biases.reshape(-1, 1), queries, sample_maps(features, coordinates))
    return sampled.unflatten(0, biases.shape)


def _matched_maps(part: MaskOutput, queries: list[Int[Tensor, "..."]]) -> Iterator[Float[Tensor, "stages masks _ _"]]:
    """The mask logits of the matched queries, for each image, at the resolution of the features."""
    # unbind, not indexing: its gradient is one stack, not a sum of batch-sized tensors.
    images = (part.mask_embeddings.unbind(1), part.mask_biases.unbind(1), part.mask_features.unbind(0))
    for chosen, embeddings, biases, features in zip(queries, *images, strict=True):
        matched = embeddings.gather(1, chosen[:, :, None].expand(-1, -1, embeddings.shape[2]))
        bias = biases.gather(1, chosen)
        maps = torch.addmm(bias.view(-1, 1), matched.flatten(0, 1), features.flatten(1))
        yield maps.view(*bias.shape, *features.shape[1:])


def mask_terms(
    maps: Float[Tensor, "stages masks map_height map_width"],
    class_map: Int[Tensor, "height width"],
    classes: Int[Tensor, " masks"],
    candidates: Int[Tensor, " candidates"],
    remainder: Int[Tensor, " remainder"],
    uncertain: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy and Dice of one image, summed over its masks and stages.

    Each mask is compared at its own ``uncertain`` least certain candidates and at the remainder.

    Args:
        maps: mask logits, of lower resolution than the class map.
    """
    pixels = torch.cat([candidates, remainder])
    coordinates = pixel_coordinates(pixels, (class_map.shape[0], class_map.shape[1]))
    labels = class_map.flatten()[pixels]
    rows = maps.flatten(0, 1)
    with torch.no_grad():
        chosen = most_uncertain(sample_maps(rows, coordinates[None, : len(candidates)]), uncertain)
        others = torch.arange(len(candidates), len(pixels), device=pixels.device).expand(len(rows), -1)
        chosen = torch.cat([chosen, others], dim=1)
        truth = (labels[chosen] == classes.repeat(maps.shape[0])[:, None]).to(rows.dtype)
    logits = sample_maps(rows, coordinates[chosen])
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    probabilities = logits.sigmoid()
    overlap, total = (probabilities * truth).sum(dim=1), (probabilities + truth).sum(dim=1)
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return cross_entropy.sum(), dice.sum()
