"""What is kept of an image's scores and probabilities, filled stripe by stripe."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from dinoseg.inference.judged_rows import JudgedRows, normalised_entropy

MapName = Literal["scores", "probabilities", "confidence", "uncertainty"]


def rounded(
    probabilities: Float[Tensor, "classes rows width"],
    class_map: Integer[Tensor, "rows width"] | None,
    dtype: type[np.float16] | type[np.float32] = np.float32,
) -> Float[np.ndarray, "classes rows width"]:
    """Probabilities as stored: the first of the largest is the class of the class map, where one is given.

    Rounding makes equals of what was not, and which of two equals is named first is chance: there the class of the map
    is raised by the last digit.
    """
    values = probabilities.cpu().numpy().astype(dtype)
    if class_map is None:
        return values
    chosen = class_map.cpu().numpy().astype(np.int64)
    wrong = values.argmax(axis=0) != chosen
    if wrong.any():
        rows, columns = np.nonzero(wrong)
        values[chosen[wrong], rows, columns] = np.nextafter(values[:, wrong].max(axis=0), dtype(2))
    return values


@dataclass(frozen=True)
class PixelMaps:
    """Arrays of a whole image, fp32; what is not wanted is None.

    Attributes:
        scores: that decided, of every class.
        probabilities: of every class, 0..1.
        confidence: the largest of them.
        uncertainty: their entropy as a share of the largest there is, 0..1.
    """

    scores: Float[np.ndarray, "classes height width"] | None = None
    probabilities: Float[np.ndarray, "classes height width"] | None = None
    confidence: Float[np.ndarray, "height width"] | None = None
    uncertainty: Float[np.ndarray, "height width"] | None = None

    @staticmethod
    def empty(classes: int, size: tuple[int, int], wanted: Collection[MapName]) -> "PixelMaps":
        """To be filled; ``size`` is height and width."""
        shapes = {name: (classes, *size) if name in ("scores", "probabilities") else size for name in wanted}
        return PixelMaps(**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})

    def fill(self, rows: JudgedRows) -> None:
        """Sets some rows."""
        place = slice(rows.first, rows.last)
        if self.scores is not None:
            self.scores[:, place] = rows.scores.cpu().numpy()
        if self.probabilities is not None:
            self.probabilities[:, place] = rounded(rows.probabilities, rows.largest)
        if self.confidence is not None:
            self.confidence[place] = rows.probabilities.amax(dim=0).cpu().numpy()
        if self.uncertainty is not None:
            self.uncertainty[place] = normalised_entropy(rows.probabilities).cpu().numpy()


def as_bytes(confidence: Float[np.ndarray, "height width"]) -> Integer[np.ndarray, "height width"]:
    """0..1 as 1..255 of 8 bits; 0 stays for where nothing is predicted."""
    return np.clip(np.rint(confidence * 255), 1, 255).astype(np.uint8)


def largest_first(
    values: Float[np.ndarray, "classes rows width"], count: int
) -> tuple[Float[np.ndarray, "count rows width"], Integer[np.ndarray, "count rows width"]]:
    """The ``count`` largest probabilities of each pixel in falling order, and their classes; of equals the first."""
    tensor = torch.from_numpy(values.astype(np.float32))
    order = tensor.sort(dim=0, descending=True, stable=True).indices[:count].numpy()
    return np.take_along_axis(values, order, axis=0), order
