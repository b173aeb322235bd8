"""From one image to its label map: the Python API."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from PIL import Image
from torch import Tensor

from dinoseg.config import Config
from dinoseg.data.masks import mask_ignored_pixels
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.regions import outside_as_ignored
from dinoseg.drawing.overlay import overlay
from dinoseg.inference.chosen_runs import Opened, Runs, choose_runs
from dinoseg.inference.ensemble import Ensemble, Member
from dinoseg.inference.exposures import Exposures, ImageSource
from dinoseg.inference.features import ImageFeatures, image_features
from dinoseg.inference.fingerprint import ensemble_fingerprint, settings_fingerprint
from dinoseg.inference.policy import window_policy
from dinoseg.inference.resampling import argmax_classes
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import mean_class_map, mean_scores
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_labels
from dinoseg.models.segmenter import Segmenter
from dinoseg.system.device import DTYPES

_CONTEXT_OF_WHOLE = 512


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
    """

    image: Image.Image
    class_map: Integer[np.ndarray, "height width"]
    label_space: LabelSpace
    ignored_hidden: bool = False
    scores: Float[np.ndarray, "classes height width"] | None = None

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
        return replace(self, class_map=class_map, ignored_hidden=True)

    def cut_to(self, inside: Bool[np.ndarray, "height width"]) -> "Prediction":
        """The same prediction, ignored outside a region."""
        return replace(self, class_map=outside_as_ignored(self.class_map, inside, self.label_space))


class Predictor:
    """A trained segmenter, or the mean of several, with everything between an image file and a label map.

    Args:
        model: in evaluation mode, on ``device``.
        label_space: of the run.
        config: of the run; its ``transforms`` and ``eval`` sections decide size, window and augmentation.
        device: where the model runs.
        checkpoint_hash: SHA-256 of the weights file, None for a model that comes from elsewhere.

    Attributes:
        ensemble: the model, or those whose probabilities are averaged.
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
        window, fingerprint = window_policy(config), None
        if checkpoint_hash is not None:
            fingerprint = settings_fingerprint(checkpoint_hash, label_space, config, window)
        self._hold(Ensemble((Member(model, config, fingerprint),), device), label_space)

    def _hold(self, ensemble: Ensemble, label_space: LabelSpace) -> None:
        self.ensemble = ensemble
        self.label_space = label_space
        self.device = ensemble.device
        self.fingerprint = ensemble_fingerprint([member.fingerprint for member in ensemble.members], label_space)

    @staticmethod
    def of(ensemble: Ensemble, label_space: LabelSpace) -> "Predictor":
        """The predictor of models of these classes."""
        predictor = Predictor.__new__(Predictor)
        predictor._hold(ensemble, label_space)
        return predictor

    @staticmethod
    def load(opened: Opened) -> "Predictor":
        """The predictor of a run, or of several.

        Raises:
            ValueError: this machine has no such device, a damaged checkpoint, or weights that are not to be had.
        """
        return Predictor.of(opened.load_ensemble(opened.device), opened.label_space)

    @property
    def model(self) -> SemanticModel:
        """The model of one run. Raises ValueError where there are several: ``ensemble.members`` has them."""
        return self._only_member("model").model

    @property
    def config(self) -> Config:
        """The config of one run. Raises ValueError where there are several: ``ensemble.members`` has them."""
        return self._only_member("config").config

    def _only_member(self, wanted: str) -> Member:
        members = self.ensemble.members
        if len(members) > 1:
            raise ValueError(f"{len(members)} runs as one have no {wanted} of their own; ask one of ensemble.members")
        return members[0]

    @property
    def forms(self) -> tuple[PictureForm, ...]:
        """The forms that pictures are given: those of the runs, each once."""
        return tuple(dict.fromkeys(reading.form for reading in self.ensemble.readings))

    @property
    def resized_to(self) -> int | None:
        """The short side that a whole image is resized to by a run; None where every run keeps its size."""
        return next((m.window.img_size for m in self.ensemble.members if m.window.img_size is not None), None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names

    @property
    def context(self) -> int:
        """Pixels around a point that may have a say in it: those of its windows; a guess where images are one piece."""
        windows = (member.window for member in self.ensemble.members)
        return max(max(window.crop) if window.mode == "slide" else _CONTEXT_OF_WHOLE for window in windows)

    # A text is a path, though it is an iterable of texts, too.
    @overload
    def predict(self, image: ImageSource | Exposures, *, scores: bool = False) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, image: Iterable[ImageSource], *, scores: bool = False) -> list[Prediction]: ...

    def predict(
        self, image: ImageSource | Exposures | Iterable[ImageSource], *, scores: bool = False
    ) -> Prediction | list[Prediction]:
        """Segments one image, or each of several, at its native size.

        Args:
            image: a path, a PIL image of any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 (of
                any numbers and bands, first or last, where the run has ``datasets.bands`` or ``datasets.range``); or
                several of them, of any sizes: the next one is read while the model works on one. Windows of an image
                go through the model in batches of ``eval.batch_size``. What is white in 16 bits is each run's
                ``datasets.white_level``; ``Exposures`` have been read so before.
            scores: the predictions keep the scores of every class, 4 bytes a class and pixel.

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        if isinstance(image, str | Path | Image.Image | np.ndarray | Exposures):
            return self._predict(self._open(image), scores)
        return [self._predict(picture, scores) for picture in self._opened_ahead(image)]

    def scores(self, image: ImageSource) -> Float[np.ndarray, "classes height width"]:
        """One score a class and pixel at native size, fp32; see ``Prediction.scores``.

        Raises:
            ValueError: see ``predict``.
        """
        found = self._predict(self._open(image), with_scores=True).scores
        assert found is not None
        return found

    def features(self, image: ImageSource) -> list[ImageFeatures]:
        """The backbone's features of the whole image, one entry for each layer that the head sees.

        Raises:
            ValueError: see ``predict``; or the model is none of dinoseg's, or there are several.
        """
        member = self._only_member("features")
        if not isinstance(member.model, Segmenter):
            raise ValueError(f"a {type(member.model).__name__} has no backbone to take features from")
        tensor = member.reading.transform.normalise(self._open(image).pictures[member.reading.form])
        dtype = DTYPES[member.config.model_dtype]
        return image_features(member.model, tensor, self.device, dtype, member.window.img_size)

    def _open(self, image: ImageSource | Exposures) -> Exposures:
        return image if isinstance(image, Exposures) else Exposures.of(image, self.forms)

    def _opened_ahead(self, images: Iterable[ImageSource]) -> Iterator[Exposures]:
        """Every image as RGB; a thread opens the next one meanwhile."""
        waiting = iter(images)
        with ThreadPoolExecutor(1) as reader:
            opening = deque(reader.submit(self._open, image) for image in islice(waiting, 1))
            while opening:
                opened = opening.popleft().result()
                opening.extend(reader.submit(self._open, image) for image in islice(waiting, 1))
                yield opened

    def _predict(self, exposures: Exposures, with_scores: bool) -> Prediction:
        readings = self.ensemble.readings
        tensors = [reading.transform.normalise(exposures.pictures[reading.form]) for reading in readings]
        sights = self.ensemble.sights(tensors)
        scores: Tensor | None = None
        if with_scores:
            scores = mean_scores(sights, self.device)
            class_map = argmax_classes(scores)
        else:
            class_map = mean_class_map(sights, self.device)
        dtype = np.uint8 if self.label_space.ignore_index <= 255 else np.uint16
        return Prediction(
            exposures.shown,
            class_map.cpu().numpy().astype(dtype),
            self.label_space,
            scores=None if scores is None else scores.cpu().numpy(),
        )


def load(
    run: Runs,
    checkpoint: str = "best",
    device: str = "auto",
    overrides: Sequence[str] = (),
) -> Predictor:
    """Opens a run folder for prediction, or several, whose probabilities are averaged.

    Args:
        run: folder that a training wrote, the ``Run`` that ``train`` returned, a folder that ``export`` wrote, a
            published head (``hf:owner/name``, ``hf:FOLDER``; see docs/published.md), or a list of such. Several must
            have the same classes.
        checkpoint: ``best`` or ``last``; of each.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overrides: ``key=value`` changes of the config of each run, e.g. ``eval.mode=whole`` or ``model.weights=PATH``;
            ``device=cpu`` among them says the same as ``device``.

    Raises:
        ValueError: not a run folder, a damaged checkpoint, weights that are not to be had, or two devices; of several,
            one is given twice or has other classes.
    """
    return Predictor.load(choose_runs(run, checkpoint, device, tuple(overrides)).open())
