"""What to label next: images that a run is unsure of, and that are unlike each other and unlike what it knows.

Two steps, as in suggestive annotation (Yang et al. 2017): the most uncertain images are candidates, and of these are
taken, one after the other, those that lie farthest from all that is taken or known: greedy k-centre, as for core sets
(Sener and Savarese 2018).
"""

import numpy as np
import torch
from jaxtyping import Float

from dinoseg.inference.exposures import Exposures
from dinoseg.inference.predictor import Predictor

# Candidates for each image that is wanted.
CANDIDATES = 4
# Short side, in pixels, at which two images are compared: what they show, not how sharply.
_SIDE = 224


def choose_next(
    uncertainty: Float[np.ndarray, " images"],
    vectors: Float[np.ndarray, "images channels"],
    number: int,
    known: Float[np.ndarray, "others channels"] | None = None,
) -> list[tuple[int, float]]:
    """Indices of the images to label, the first one first, each with its distance to all before it.

    Args:
        uncertainty: of each image.
        vectors: what each image shows; of length 1.
        number: how many are wanted; at most as many as there are images.
        known: vectors of images with labels. Without any, the most uncertain image comes first, at distance 0.
    """
    candidates = np.argsort(-uncertainty, kind="stable")[: CANDIDATES * number]
    points = vectors[candidates]
    nearest = np.full(len(points), np.inf) if known is None or not len(known) else _nearest(points, known)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(number, len(points))):
        # Of equals, the more uncertain, which stands before.
        place = int(nearest.argmax())
        chosen.append((int(candidates[place]), float(nearest[place]) if np.isfinite(nearest[place]) else 0.0))
        nearest = np.minimum(nearest, _nearest(points, points[place][None]))
        # Nearer than anything can be: it is not taken again.
        nearest[place] = -1.0
    return chosen


def _nearest(
    points: Float[np.ndarray, "images channels"], others: Float[np.ndarray, "others channels"]
) -> Float[np.ndarray, " images"]:
    """Cosine distance of each point to the nearest of the others, 0..2."""
    return (1 - points @ others.T).min(axis=1)


def image_vector(predictor: Predictor, exposures: Exposures) -> Float[np.ndarray, " channels"]:
    """What an image shows, for the backbone: the mean of its last layer's features, of length 1.

    Of several runs, the first one's backbone is asked.
    """
    last = predictor.ensemble.members[0].features(exposures, predictor.device, _SIDE)[-1]
    vector = torch.nn.functional.normalize(last.map.mean(dim=(1, 2)), dim=0)
    found: Float[np.ndarray, " channels"] = vector.numpy()
    return found
