"""An ONNX file as a predictor: picture in, label ids out, equal to ``dinoseg predict`` but for ties of rounding."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from dinoseg.data.bands import BandPicture, Picture, shown_picture
from dinoseg.data.picture_form import PictureForm
from dinoseg.labels import LabelSpace
from dinoseg.onnx.description import IMAGES, KEY, LABELS, LOGITS, OnnxDescription, description_sha256
from dinoseg.onnx.model_file import ModelFile
from dinoseg.onnx.windows import Windows
from dinoseg.system.files import file_sha256

ImageSource = str | Path | Image.Image | np.ndarray
# What runs a graph, by onnxruntime's name of it; with its options, a pair.
Provider = str | tuple[str, dict[str, Any]]
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class OnnxPrediction:
    """The label map of one image.

    Attributes:
        image: the input as RGB, upright.
        class_map: class indices at native size.
        label_space: turns class indices into label ids and names.
    """

    image: Image.Image
    class_map: Integer[np.ndarray, "height width"]
    label_space: LabelSpace

    @property
    def labels(self) -> Integer[np.ndarray, "height width"]:
        """Label ids, as in the masks that the model was trained with."""
        return self.label_space.decode(self.class_map)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names


class OnnxSegmenter:
    """A file that ``dinoseg export RUN FILE.onnx`` wrote, opened.

    Args:
        file: the ONNX file.
        providers: one of onnxruntime's execution providers, or several in order of preference; the CPU when left out.

    Raises:
        ValueError: onnxruntime is not installed, has no such provider or cannot start it; no ONNX file, none of ours,
            or one that says another thing of itself than its graph, or than when it was written; the file of its
            weights is missing or another one.

    Warns where its graph or weights are not those that were proved.
    """

    def __init__(self, file: str | Path, providers: str | Sequence[Provider] = CPU) -> None:
        path = Path(file)
        if not path.is_file():
            raise ValueError(f"{file}: no such file; give one that `dinoseg export RUN FILE.onnx` wrote")
        found = ModelFile.read(path)
        self.description = OnnxDescription.parse(found.metadata.get(KEY), str(file))
        _refuse_other_contents(path, found, self.description)
        self._session = _open(path, providers)
        self.label_space = LabelSpace.from_record(self.description.labels)
        _refuse_other_graph(self._session, self.description, str(file))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.label_space.class_names

    def predict(self, image: ImageSource) -> OnnxPrediction:
        """Segments one image at its native size.

        Args:
            image: a path, a PIL image of any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 (of
                any numbers and bands where the run has ``datasets.bands`` or ``datasets.range``).

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        picture = self._picture(image)
        bands = self._windows().scores(self._scores, self._normalised(picture))
        dtype = np.uint8 if self.label_space.ignore_index <= 255 else np.uint16
        class_map = np.concatenate([scores.argmax(axis=0).astype(dtype) for scores in bands])
        return OnnxPrediction(shown_picture(picture), class_map, self.label_space)

    def scores(self, image: ImageSource) -> Float[np.ndarray, "classes height width"]:
        """One score a class and pixel at native size; the largest is the class.

        Raises:
            ValueError: see ``predict``.
        """
        picture = self._picture(image)
        return np.concatenate(list(self._windows().scores(self._scores, self._normalised(picture))), axis=1)

    def probabilities(self, image: ImageSource) -> Float[np.ndarray, "classes height width"]:
        """Probabilities at native size, at the temperature that the run was calibrated to.

        They add up to 1, or are all 0 where all scores are.

        Raises:
            ValueError: see ``predict``.
        """
        scores, temperature = self.scores(image), self.description.temperature
        if self.description.scores_are_probabilities:
            tiny = np.finfo(np.float32).tiny
            # By the largest first: a small one may vanish, all of them may not.
            powers = (scores / np.maximum(scores.max(axis=0), tiny)) ** np.float32(1 / temperature)
        else:
            powers = np.exp((scores - scores.max(axis=0)) / np.float32(temperature))
        total: np.ndarray = powers.sum(axis=0)
        return powers / np.maximum(total, np.finfo(np.float32).tiny)

    def _picture(self, image: ImageSource) -> Picture:
        said = self.description.picture
        ranges = None if said.ranges is None else tuple((low, high) for low, high in said.ranges)
        form = PictureForm(said.white_level, None if said.bands is None else tuple(said.bands), ranges)
        return form.read(Path(image)) if isinstance(image, str | Path) else form.of_values(image)

    def _normalised(self, picture: Picture) -> Float[np.ndarray, "bands height width"]:
        if isinstance(picture, BandPicture):
            values = picture.pixels(0, 0, picture.size[1], picture.size[0])
        else:
            values = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
        mean, std = (
            np.array(numbers, np.float32)[:, None, None]
            for numbers in (self.description.picture.mean, self.description.picture.std)
        )
        return (values - mean) / std

    def _windows(self) -> Windows:
        window = self.description.window
        return Windows(
            (window.size[0], window.size[1]), (window.stride[0], window.stride[1]), window.blend, window.img_size
        )

    def _scores(self, windows: Float[np.ndarray, "batch bands height width"]) -> np.ndarray:
        found: list[Any] = self._session.run([LOGITS], {IMAGES: windows})
        return np.asarray(found[0])


def load(file: str | Path, providers: str | Sequence[Provider] = CPU) -> OnnxSegmenter:
    """Opens a file for prediction; see ``OnnxSegmenter``."""
    return OnnxSegmenter(file, providers)


def predict(file: str | Path, image: ImageSource) -> OnnxPrediction:
    """The label map of one image; whoever has several opens the file once, with ``load``.

    Raises:
        ValueError: see ``OnnxSegmenter`` and ``OnnxSegmenter.predict``.
    """
    return load(file).predict(image)


def _open(file: Path, providers: str | Sequence[Provider]) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("onnxruntime, which runs ONNX files, is missing: pip install 'dinoseg[onnx]'") from None
    asked = [providers] if isinstance(providers, str) else list(providers)
    _refuse_unknown(asked, onnxruntime.get_available_providers())
    try:
        # Its fallback is the CPU, for whatever does not start or ends in the middle.
        session = onnxruntime.InferenceSession(str(file), providers=asked, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes, which share no base but this
        raise ValueError(f"{file}: onnxruntime cannot open it ({str(error).splitlines()[0]})") from None
    _refuse_unstarted(asked, session.get_providers())
    return session


def _names(asked: Sequence[Provider]) -> list[str]:
    return [provider if isinstance(provider, str) else provider[0] for provider in asked]


def _refuse_unknown(asked: Sequence[Provider], available: Sequence[str]) -> None:
    """Raises ValueError for providers that onnxruntime would pass over, with no more than a warning, for the CPU."""
    for name in _names(asked) or [""]:
        if name not in available:
            raise ValueError(
                f"providers={name!r}: the onnxruntime that is installed has {', '.join(available)}; give one of them, "
                "or install a build that has it (onnxruntime-gpu has CUDAExecutionProvider)"
            )


def _refuse_unstarted(asked: Sequence[Provider], started: Sequence[str]) -> None:
    """Raises ValueError for providers that are installed and cannot work, such as CUDA without its libraries."""
    for name in _names(asked):
        if name not in started:
            raise ValueError(
                f"providers={name!r}: onnxruntime has it, and cannot start it (it prints why): install the libraries "
                f"or the driver that it needs, or give {CPU!r}"
            )


def _refuse_other_contents(file: Path, found: ModelFile, description: OnnxDescription) -> None:
    """Raises ValueError where description or weights are not those of the export; warns where the graph is not."""
    proved = description.contents
    if proved is None:
        raise ValueError(f"{file}: contents: null found, the hash of what was proved expected; export the run anew")
    if proved.description_sha256 not in (None, description_sha256(found.metadata[KEY])):
        raise ValueError(
            f"{file}: its description (label ids, normalisation, windows) was changed after the export, which proved "
            "another: export the run anew"
        )
    if found.sha256 != proved.sha256:
        # Other tools make graphs smaller, or round weights, and write all of it anew.
        warnings.warn(
            f"{file}: its graph or weights were changed after the export, which proved others: compare a label map "
            "with the run's before you rely on one, or export the run anew",
            stacklevel=4,
        )
        return
    if proved.data is None:
        return
    data = file.with_name(proved.data.name)
    if not data.is_file():
        raise ValueError(
            f"{data}: missing; the weights of {file.name} lie in it: copy both files that the export wrote, and keep "
            "this name"
        )
    if file_sha256(data) != proved.data.sha256:
        raise ValueError(
            f"{data}: not the weights of {file.name} (another SHA-256): copy both files that one export wrote, or "
            "export the run anew"
        )


def _refuse_other_graph(session: Any, description: OnnxDescription, source: str) -> None:
    """Raises ValueError where the graph takes or gives another form than the description says."""
    size = description.window.size
    said = {IMAGES: [len(description.picture.mean), *size], LOGITS: [len(description.labels.classes), *size]}
    if description.gives_labels:
        said[LABELS] = list(size)
    found = {place.name: place.shape[1:] for place in (*session.get_inputs(), *session.get_outputs())}
    for name, expected in said.items():
        if found.get(name) != expected:
            raise ValueError(
                f"{source}: its graph has {name} of {found.get(name)}, and its description says {expected} (numbers a "
                "pixel, height, width): one of them was changed; export the run anew"
            )
