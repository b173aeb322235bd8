"""What is predicted of one image."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image

from dinoseg.data.masks import mask_ignored_pixels
from dinoseg.data.regions import outside_as_ignored
from dinoseg.drawing.overlay import overlay
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_labels


@dataclass(frozen=True)
class Prediction:
    """The label map of one image.

    Attributes:
        image: the input as RGB, after EXIF rotation; of several runs, as the first one reads it.
        class_map: (H, W) class indices at the image's native size.
        label_space: turns class indices into label ids and names.
        ignored_hidden: whether pixels that a true mask ignores are marked as ignored.
        scores: one score a class and pixel, where they were asked for; the largest is the class. Probabilities where
            the head gives such (``m2f``, ``pmt`` and ``eomt``, not normalised over classes), with test-time
            augmentation, and of several runs; else raw scores whose softmax over classes are probabilities.
        probabilities: (classes, H, W) of every class, 0..1, adding up to 1, where they were asked for; at the
            temperature of ``dinoseg calibrate``, where the run has one. The first of the largest is the class, unless
            ``eval.tuned`` or ``eval.least_patches`` made it another.
        confidence: (H, W) the largest of them, where it was asked for.
        uncertainty: likewise, their entropy as a share of the largest there is: 0 sure, 1 all classes alike.
    """

    image: Image.Image
    class_map: Integer[np.ndarray, "height width"]
    label_space: LabelSpace
    ignored_hidden: bool = False
    scores: Float[np.ndarray, "classes height width"] | None = None
    probabilities: Float[np.ndarray, "classes height width"] | None = None
    confidence: Float[np.ndarray, "height width"] | None = None
    uncertainty: Float[np.ndarray, "height width"] | None = None

    @property
    def labels(self) -> Integer[np.ndarray, "height width"]:
        """(H, W) label ids, as in the training masks; a colour is the integer 0xRRGGBB."""
        return self.label_space.decode(self.class_map)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names

    def overlay(self, opacity: float = 0.5, legend: bool = True, fading: bool = False) -> Image.Image:
        """The image with the classes drawn over it.

        Args:
            fading: they fade with ``uncertainty``.

        Raises:
            ValueError: ``fading`` of a prediction that was made without ``confidence=True``.
        """
        if fading and self.uncertainty is None:
            raise ValueError("fading: this prediction knows no uncertainty; predict with confidence=True")
        space = self.label_space
        # 255 stands among the ignored ids by default; only what a mask is said to hold deserves a remark.
        without_output = [label_id for label_id in space.ignored_ids if label_id != 255 or space.kind == "colours"]
        notes = ["paler where the model is less sure"] if fading else []
        if without_output and not self.ignored_hidden:
            ids = show_labels(without_output, space.kind)
            notes.append(f"label id {ids} has no output: pixels of it show the model's best guess")
        note, uncertainty = "; ".join(notes) or None, self.uncertainty if fading else None
        return overlay(self.image, self.class_map, space, opacity, legend, note, uncertainty)

    def hide_ignored(self, mask: Integer[np.ndarray, "height width"]) -> "Prediction":
        """The same prediction with the ignored pixels of a true mask (label ids) marked as ignored."""
        class_map = mask_ignored_pixels(self.class_map, mask, self.label_space)
        return replace(self, class_map=class_map, ignored_hidden=True)

    def cut_to(self, inside: Bool[np.ndarray, "height width"]) -> "Prediction":
        """The same prediction, ignored outside a region."""
        return replace(self, class_map=outside_as_ignored(self.class_map, inside, self.label_space))
