"""One number by which a model's probabilities are set right: fitted to pixels whose class is known.

Temperature scaling: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (2017), section 4.2.
"""

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from scipy.optimize import minimize_scalar
from torch import Tensor

from dinoseg.data.dataset import Sample
from dinoseg.inference.judged_rows import JudgedRows

LOWEST, HIGHEST = 0.01, 100.0


@dataclass(frozen=True)
class PixelSample:
    """Pixels whose probabilities are kept: of every image as many, chosen by seed and name of the image alone.

    Attributes:
        per_image: pixels of an image at most; of one that has fewer that count, all.
        ignore_index: of pixels that count nowhere.
        chosen: flat positions by image, ascending; filled as images come.
        parts: what ``take`` was given, by image: logarithms of the probabilities (pixels, classes), and classes.
    """

    per_image: int
    ignore_index: int
    seed: int = 0
    chosen: dict[str, Int[np.ndarray, " pixels"]] = field(default_factory=dict)
    parts: dict[str, list[tuple[Float[Tensor, "pixels classes"], Int[Tensor, " pixels"]]]] = field(default_factory=dict)

    def take(self, sample: Sample, rows: JudgedRows) -> None:
        """Keeps the chosen pixels of some rows, at temperature 1."""
        name, truth = sample["name"], sample["class_map"]
        if name not in self.chosen:
            self.chosen[name] = self._choose(name, truth)
        width = truth.shape[1]
        found = self.chosen[name]
        first, last = np.searchsorted(found, [rows.first * width, rows.last * width]).tolist()
        places = torch.from_numpy(found[first:last])
        if not len(places):
            return
        probabilities = rows.untempered().flatten(1)
        within = (places - rows.first * width).to(probabilities.device)
        chosen = probabilities[:, within].T.clamp_min(torch.finfo(torch.float32).tiny)
        self.parts.setdefault(name, []).append((chosen.log().cpu(), truth.flatten()[places].long().cpu()))

    def of_image(self, name: str) -> list[tuple[Float[Tensor, "pixels classes"], Int[Tensor, " pixels"]]]:
        """What was kept of an image, top to bottom: logarithms of the probabilities, and classes. May be nothing."""
        return self.parts.get(name, [])

    def _choose(self, name: str, truth: Integer[Tensor, "height width"]) -> Int[np.ndarray, " pixels"]:
        counted = np.flatnonzero(truth.numpy() != self.ignore_index)
        if len(counted) <= self.per_image:
            return counted
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return np.sort(generator.choice(counted, self.per_image, replace=False))


def mean_surprise(
    log_probabilities: Float[Tensor, "pixels classes"], truth: Int[Tensor, " pixels"], temperature: float
) -> float:
    """Negative log-likelihood a pixel in nats, at a temperature; summed in fp64."""
    scaled = log_probabilities.double() / temperature
    chosen = scaled.gather(1, truth[:, None])[:, 0]
    return float((scaled.logsumexp(dim=1) - chosen).mean())


def fit_temperature(log_probabilities: Float[Tensor, "pixels classes"], truth: Int[Tensor, " pixels"]) -> float:
    """The temperature of the least negative log-likelihood, between 0.01 and 100.

    That is a convex function of 1 / temperature, so there is one minimum.

    Raises:
        ValueError: no pixel.
    """
    if not len(truth):
        raise ValueError("no pixel counts in these images: nothing to fit a temperature to")
    found = minimize_scalar(
        lambda logarithm: mean_surprise(log_probabilities, truth, math.exp(logarithm)),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(math.exp(found.x))
