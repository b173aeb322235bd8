"""All that an evaluation counts: integers by image that add up over processes, shards and images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Integer, Shaped
from torch import Tensor

from dinoseg.evaluation.boundary import boundary_counts
from dinoseg.evaluation.confusion import confusion_matrix
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.metrics import counts_from_confusion
from dinoseg.evaluation.reliability import BINS, rows_reliability
from dinoseg.evaluation.skeleton import skeleton_counts
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.system.processes import sum_over_processes

# What is counted of all images together, and not by image.
_OF_ALL_IMAGES = ("matrix", "reliability")


@dataclass(frozen=True)
class Counts:
    """int64 tensors; the rows of images that are not counted yet are 0.

    Attributes:
        matrix: the confusion matrix of all images, rows truth, columns prediction.
        image_counts: pixels in intersection, prediction and truth of every class.
        boundary: pixels in intersection and union of the bands along contours, see ``boundary_counts``.
        skeleton: pixels of skeletons, see ``skeleton_counts``.
        reliability: of probabilities, over all images, see ``rows_reliability``.
    """

    matrix: Int[Tensor, "classes classes"]
    image_counts: Int[Tensor, "images 3 classes"]
    boundary: Int[Tensor, "images 2 classes"] | None = None
    skeleton: Int[Tensor, "images 4 classes"] | None = None
    reliability: Int[Tensor, "2 15 4"] | None = None

    @staticmethod
    def empty(images: int, num_classes: int, measures: Measures, device: torch.device | str = "cpu") -> "Counts":
        """Nothing counted yet, of so many images."""

        def zeros(*shape: int) -> Int[Tensor, "..."]:
            return torch.zeros(*shape, dtype=torch.int64, device=device)

        return Counts(
            zeros(num_classes, num_classes),
            zeros(images, 3, num_classes),
            None if measures.boundary_width is None else zeros(images, 2, num_classes),
            zeros(images, 4, num_classes) if measures.thin_classes else None,
            zeros(2, BINS, 4) if measures.reliability else None,
        )

    def count(
        self,
        row: int,
        prediction: Integer[Tensor, "height width"],
        truth: Integer[Tensor, "height width"],
        ignore_index: int,
        measures: Measures,
    ) -> None:
        """Counts the image of one row, once.

        Args:
            prediction, truth: class indices at native size, on one device; truth may hold ``ignore_index``.
            measures: those that this was made for.

        Raises:
            ValueError: a counted pixel is outside the class indices, or scikit-image is not installed.
        """
        num_classes = len(self.matrix)
        found = confusion_matrix(prediction, truth, num_classes, ignore_index).to(self.matrix.device)
        self.matrix.add_(found)
        self.image_counts[row] = counts_from_confusion(found)
        if self.boundary is None and self.skeleton is None:
            return
        maps = prediction.cpu().numpy(), truth.cpu().numpy()
        if self.boundary is not None:
            assert measures.boundary_width is not None
            bands = boundary_counts(*maps, num_classes, ignore_index, measures.boundary_width)
            self.boundary[row] = torch.from_numpy(bands).to(self.boundary)
        if self.skeleton is not None:
            lines = skeleton_counts(*maps, measures.thin_classes, num_classes, ignore_index)
            self.skeleton[row] = torch.from_numpy(lines).to(self.skeleton)

    def count_rows(self, rows: JudgedRows, truth: Integer[Tensor, "height width"], ignore_index: int) -> None:
        """Counts the probabilities of some rows of an image, each row once, where they are measured.

        Args:
            truth: class indices of the whole image, or ``ignore_index``.
        """
        if self.reliability is not None:
            self.reliability.add_(rows_reliability(rows, truth, ignore_index).to(self.reliability.device))

    def __add__(self, other: "Counts") -> "Counts":
        """Counts of the same images and measures, each image counted in one of the two at most."""
        first, second = self._tensors(), other._tensors()
        if {key: value.shape for key, value in first.items()} != {key: value.shape for key, value in second.items()}:
            raise ValueError(
                f"counts of different images, classes or measures do not add up: {_shapes(first)} and {_shapes(second)}"
            )
        return _from_tensors({key: value + second[key] for key, value in first.items()})

    @staticmethod
    def joined(parts: Sequence["Counts"], order: Sequence[int]) -> "Counts":
        """Counts of different images, by the same measures, as those of one data set.

        Args:
            parts: one at least.
            order: the rows of all parts, one after the other, in the order wanted.
        """
        tensors = [part._tensors() for part in parts]
        of_images = [key for key in tensors[0] if key not in _OF_ALL_IMAGES]
        rows = {key: torch.cat([part[key] for part in tensors])[list(order)] for key in of_images}
        sums = {
            key: torch.stack([part[key] for part in tensors]).sum(dim=0) for key in _OF_ALL_IMAGES if key in tensors[0]
        }
        return _from_tensors(rows | sums)

    def over_processes(self) -> "Counts":
        """The sum over processes, on the CPU of every process."""
        return _from_tensors({key: sum_over_processes(value).cpu() for key, value in self._tensors().items()})

    def to_arrays(self) -> dict[str, Int[np.ndarray, "..."]]:
        """By name of the attribute, what was not measured left out: for an ``.npz`` file."""
        return {key: value.cpu().numpy() for key, value in self._tensors().items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> "Counts":
        """The inverse of ``to_arrays``; other names are passed over."""
        names = ("matrix", "image_counts", "boundary", "skeleton", "reliability")
        return _from_tensors({name: torch.from_numpy(arrays[name]) for name in names if name in arrays})

    def _tensors(self) -> dict[str, Int[Tensor, "..."]]:
        named = {
            "matrix": self.matrix,
            "image_counts": self.image_counts,
            "boundary": self.boundary,
            "skeleton": self.skeleton,
            "reliability": self.reliability,
        }
        return {key: value for key, value in named.items() if value is not None}


def _from_tensors(tensors: dict[str, Int[Tensor, "..."]]) -> Counts:
    optional = (tensors.get(name) for name in ("boundary", "skeleton", "reliability"))
    return Counts(tensors["matrix"], tensors["image_counts"], *optional)


def _shapes(tensors: dict[str, Int[Tensor, "..."]]) -> str:
    return ", ".join(f"{key} {tuple(value.shape)}" for key, value in tensors.items())
