"""From one image to its label map: the Python API."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer
from PIL import Image, ImageOps

from dinoseg.config import Config
from dinoseg.data.masks import mask_ignored_pixels, read_image, to_rgb
from dinoseg.data.transforms import build_eval_transform
from dinoseg.drawing.overlay import overlay
from dinoseg.inference.fingerprint import settings_fingerprint
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.inference.policy import window_policy
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import predict_class_map
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_labels
from dinoseg.system.device import DTYPES

ImageSource = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The label map of one image.

    Attributes:
        image: the input as RGB, after EXIF rotation.
        class_map: (H, W) class indices at the image's native size.
        label_space: turns class indices into label ids and names.
        ignored_hidden: whether pixels that a true mask ignores are marked as ignored.
    """

    image: Image.Image
    class_map: Integer[np.ndarray, "height width"]
    label_space: LabelSpace
    ignored_hidden: bool = False

    @property
    def labels(self) -> Integer[np.ndarray, "height width"]:
        """(H, W) label ids, as in the training masks; a colour is the integer 0xRRGGBB."""
        return self.label_space.decode(self.class_map)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names

    def overlay(self, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image with the classes drawn over it."""
        space = self.label_space
        # 255 stands among the ignored ids by default; only what a mask is said to hold deserves a remark.
        without_output = [label_id for label_id in space.ignored_ids if label_id != 255 or space.kind == "colours"]
        note = None
        if without_output and not self.ignored_hidden:
            ids = show_labels(without_output, space.kind)
            note = f"label id {ids} has no output: pixels of it show the model's best guess"
        return overlay(self.image, self.class_map, space, opacity=opacity, legend=legend, note=note)

    def hide_ignored(self, mask: Integer[np.ndarray, "height width"]) -> "Prediction":
        """The same prediction with the ignored pixels of a true mask (label ids) marked as ignored."""
        class_map = mask_ignored_pixels(self.class_map, mask, self.label_space)
        return Prediction(self.image, class_map, self.label_space, ignored_hidden=True)


class Predictor:
    """A trained segmenter with everything between an image file and a label map.

    Args:
        model: in evaluation mode, on ``device``.
        label_space: of the run.
        config: of the run; its ``transforms`` and ``eval`` sections decide size, window and augmentation.
        device: where the model runs.
        checkpoint_hash: SHA-256 of the weights file, None for a model that comes from elsewhere.

    Attributes:
        fingerprint: names what decides a prediction beside the image; None without a checkpoint hash.
    """

    def __init__(
        self,
        model: SemanticModel,
        label_space: LabelSpace,
        config: Config,
        device: torch.device,
        checkpoint_hash: str | None = None,
    ) -> None:
        self.model = model
        self.label_space = label_space
        self.config = config
        self.device = device
        self._window = window_policy(config)
        self._transform = build_eval_transform(config.transforms)
        self.fingerprint = (
            None
            if checkpoint_hash is None
            else settings_fingerprint(checkpoint_hash, label_space, config, self._window)
        )

    @staticmethod
    def load(opened: OpenedRun) -> "Predictor":
        """The predictor of a run.

        Raises:
            ValueError: this machine has no such device, a damaged checkpoint, or weights that are not to be had.
        """
        device = opened.device
        segmenter = opened.load_segmenter().to(device)
        return Predictor(segmenter, opened.label_space, opened.config, device, opened.weights_hash())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names

    def predict(self, image: ImageSource) -> Prediction:
        """Segments one image at its native size.

        Args:
            image: a path, a PIL image of any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16.

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        picture = _open(image)
        tensor = self._transform.normalise(picture)
        class_map = predict_class_map(
            self.model,
            tensor,
            self._window,
            device=self.device,
            autocast_dtype=DTYPES[self.config.model_dtype],
        )
        dtype = np.uint8 if self.label_space.ignore_index <= 255 else np.uint16
        return Prediction(picture, class_map.cpu().numpy().astype(dtype), self.label_space)


def load(
    run: str | os.PathLike[str],
    checkpoint: str = "best",
    device: str = "auto",
    overrides: Sequence[str] = (),
) -> Predictor:
    """Opens a run folder for prediction.

    Args:
        run: folder that a training wrote, or the ``Run`` that ``train`` returned.
        checkpoint: ``best`` or ``last``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overrides: ``key=value`` changes of the run's config, e.g. ``eval.mode=whole`` or ``model.weights=PATH``;
            ``device=cpu`` among them says the same as ``device``.

    Raises:
        ValueError: not a run folder, a damaged checkpoint, the backbone's weights are not to be had, or two devices.
    """
    return Predictor.load(ChosenRun(run, checkpoint, device, tuple(overrides)).open())


def _open(image: ImageSource) -> Image.Image:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image), Path("image"))
    shape_fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if not shape_fits or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"an array of shape {image.shape} and type {image.dtype} is no image; "
            "give (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16"
        )
    if image.dtype == np.uint16 and image.ndim == 3:
        image = (image // 257).astype(np.uint8)
    return to_rgb(Image.fromarray(image), Path("array"))
