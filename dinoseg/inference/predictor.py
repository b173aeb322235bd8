"""From one image to its label map: the Python API."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from dinoseg.config import Config
from dinoseg.data.picture_form import PictureForm
from dinoseg.inference.chosen_runs import Opened, Runs, choose_runs
from dinoseg.inference.ensemble import Ensemble, Member
from dinoseg.inference.exposures import Exposures, ImageSource
from dinoseg.inference.features import ImageFeatures
from dinoseg.inference.fingerprint import ensemble_fingerprint, settings_fingerprint
from dinoseg.inference.judged_rows import JudgedRows, OnRows
from dinoseg.inference.pixel_maps import MapName, PixelMaps
from dinoseg.inference.policy import window_policy
from dinoseg.inference.prediction import Prediction
from dinoseg.inference.tta import SemanticModel
from dinoseg.labels import LabelSpace

_CONTEXT_OF_WHOLE = 512


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
        fingerprint: names what decides a label map beside the image; None without a checkpoint hash.
        temperatures: that the probabilities of each model are taken at: those of ``dinoseg calibrate``, else 1.
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
        members = ensemble.members
        self.temperatures = tuple(member.decision.temperature for member in members)
        fingerprints = [member.fingerprint for member in members]
        self.fingerprint = ensemble_fingerprint(fingerprints, label_space, self.temperatures)

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
    def scores_at_once(self) -> int:
        """Scores of each pixel of an image that are held at once: those of a run that sees it in one piece; else 0."""
        whole = (member.window.mode == "whole" for member in self.ensemble.members)
        return self.label_space.num_classes if any(whole) else 0

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
    def predict(  # type: ignore[overload-overlap]
        self,
        image: ImageSource | Exposures,
        *,
        scores: bool = False,
        probabilities: bool = False,
        confidence: bool = False,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: Iterable[ImageSource],
        *,
        scores: bool = False,
        probabilities: bool = False,
        confidence: bool = False,
    ) -> list[Prediction]: ...

    def predict(
        self,
        image: ImageSource | Exposures | Iterable[ImageSource],
        *,
        scores: bool = False,
        probabilities: bool = False,
        confidence: bool = False,
    ) -> Prediction | list[Prediction]:
        """Segments one image, or each of several, at its native size.

        Args:
            image: a path, a PIL image of any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 (of
                any numbers and bands, first or last, where the run has ``datasets.bands`` or ``datasets.range``); or
                several of them, of any sizes: the next one is read while the model works on one. Windows of an image
                go through the model in batches of ``eval.batch_size``. What is white in 16 bits is each run's
                ``datasets.white_level``; ``Exposures`` have been read so before.
            scores: the predictions keep the scores of every class, 4 bytes a class and pixel.
            probabilities: they keep the probability of every class, as many bytes.
            confidence: they keep the largest probability and the entropy of each pixel, 8 bytes a pixel.

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        kept = _names(scores=scores, probabilities=probabilities, confidence=confidence)
        if isinstance(image, str | Path | Image.Image | np.ndarray | Exposures):
            return self._predict(self._open(image), kept)
        return [self._predict(picture, kept) for picture in self._opened_ahead(image)]

    def judge(self, image: ImageSource | Exposures, on_rows: OnRows, *, confidence: bool = False) -> Prediction:
        """As ``predict``, and tells ``on_rows`` of each stripe: the probabilities of large images, a stripe at a time.

        Raises:
            ValueError: see ``predict``.
        """
        return self._predict(self._open(image), _names(confidence=confidence), on_rows)

    def scores(self, image: ImageSource) -> Float[np.ndarray, "classes height width"]:
        """One score a class and pixel at native size, fp32; see ``Prediction.scores``.

        Raises:
            ValueError: see ``predict``.
        """
        found = self._predict(self._open(image), _names(scores=True)).scores
        assert found is not None
        return found

    def features(self, image: ImageSource) -> list[ImageFeatures]:
        """The backbone's features of the whole image, one entry for each layer that the head sees.

        Raises:
            ValueError: see ``predict``; or the model is none of dinoseg's, or there are several.
        """
        member = self._only_member("features")
        return member.features(self._open(image), self.device, member.window.img_size)

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

    def _predict(self, exposures: Exposures, kept: frozenset[MapName], on_rows: OnRows | None = None) -> Prediction:
        readings, classes = self.ensemble.readings, self.label_space.num_classes
        tensors = [reading.transform.normalise(exposures.pictures[reading.form]) for reading in readings]
        size = (tensors[0].shape[-2], tensors[0].shape[-1])
        maps = PixelMaps.empty(classes, size, kept)
        readers: list[OnRows] = [maps.fill] if kept else []
        readers += [] if on_rows is None else [on_rows]

        def tell(rows: JudgedRows) -> None:
            for reader in readers:
                reader(rows)

        class_map = self.ensemble.class_map(tensors, tell if readers else None)
        dtype = np.uint8 if self.label_space.ignore_index <= 255 else np.uint16
        return Prediction(
            exposures.shown,
            class_map.cpu().numpy().astype(dtype),
            self.label_space,
            **vars(maps),
        )


def _names(*, scores: bool = False, probabilities: bool = False, confidence: bool = False) -> frozenset[MapName]:
    """What a prediction keeps beside the classes."""
    largest: tuple[MapName, ...] = ("confidence", "uncertainty") if confidence else ()
    asked: tuple[tuple[MapName, bool], ...] = (("scores", scores), ("probabilities", probabilities))
    return frozenset([*largest, *(name for name, wanted in asked if wanted)])


def load(
    run: Runs,
    checkpoint: str = "best",
    device: str = "auto",
    overrides: Sequence[str] = (),
) -> Predictor:
    """Opens a run folder for prediction, or several, whose probabilities are averaged.

    Args:
        run: folder that a training wrote, the ``Run`` that ``train`` returned, a folder that ``export`` wrote, a
            pushed run or a published head (``hf:owner/name``, ``hf:FOLDER``; see docs/hub.md and docs/published.md), or
            a list of such. Several must have the same classes.
        checkpoint: ``best`` or ``last``; of each.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overrides: ``key=value`` changes of the config of each run, e.g. ``eval.mode=whole`` or ``model.weights=PATH``;
            ``device=cpu`` among them says the same as ``device``.

    Raises:
        ValueError: not a run folder, a damaged checkpoint, weights that are not to be had, or two devices; of several,
            one is given twice or has other classes.
    """
    return Predictor.load(choose_runs(run, checkpoint, device, tuple(overrides)).open())
