"""What an ONNX file says of itself, beside its graph: all that prediction needs."""

import hashlib
import json
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from dinoseg import __version__
from dinoseg.data.window_axis import Blend
from dinoseg.labels.labels_json import LabelSpaceRecord
from dinoseg.run_folder.checkpoint_manifest import Sha256
from dinoseg.run_folder.metrics_schema import Temperature
from dinoseg.system.json_files import Record, check_document, parse_json

# The key of the file's metadata.
KEY = "dinoseg"
IMAGES, LOGITS, LABELS = "images", "logits", "labels"
# Of the description; another one when a key changes its meaning, or one is added that predictions depend on.
FORMAT: Final = 2
_REMEDY = "export the run anew"

Side = Annotated[int, Field(ge=1)]


class WindowRecord(Record):
    """How an image is cut: height and width of the graph's input, the step of windows, and their blending.

    Attributes:
        img_size: short side that an image is resized to first; None keeps its size.
    """

    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    stride: Annotated[list[Side], Field(min_length=2, max_length=2)]
    blend: Blend
    img_size: Side | None

    @model_validator(mode="after")
    def _leaves_no_gap(self) -> "WindowRecord":
        if any(step > side for step, side in zip(self.stride, self.size, strict=True)):
            raise ValueError(f"stride: {self.stride} found, no more than size {self.size} expected")
        return self


class PictureRecord(Record):
    """What becomes of a file's values: 0..1 by white or range, then less the mean and over the deviation.

    Attributes:
        white_level: what is white in pictures with 16 bits; None for 65535.
        bands: of the file, counted from 1; None for RGB.
        ranges: low and high, one pair for all bands or one each; None for 0 to 255, or to white.
    """

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    white_level: Side | None
    bands: list[Side] | None
    ranges: list[Annotated[list[float], Field(min_length=2, max_length=2)]] | None

    @model_validator(mode="after")
    def _agrees(self) -> "PictureRecord":
        if len(self.mean) != len(self.std):
            raise ValueError(f"std: {len(self.std)} numbers found, {len(self.mean)} expected, as in mean")
        if self.bands is not None and len(self.bands) != len(self.mean):
            raise ValueError(f"bands: {len(self.bands)} found, {len(self.mean)} expected, as in mean")
        if self.bands is None and len(self.mean) != 3:
            raise ValueError(f"mean: {len(self.mean)} numbers found, 3 expected for red, green and blue")
        if self.ranges is not None and len(self.ranges) not in (1, len(self.mean)):
            raise ValueError(f"ranges: {len(self.ranges)} found, 1 or {len(self.mean)} expected")
        if any(low >= high for low, high in self.ranges or []):
            raise ValueError(f"ranges: {self.ranges} found, low below high expected")
        return self


class OriginRecord(Record):
    """Where the weights come from.

    Attributes:
        dinoseg: version that wrote the file.
        torch: version that traced the graph.
        weights_sha256: of the checkpoint.
    """

    dinoseg: str
    torch: str
    checkpoint: str
    weights_sha256: str
    backbone: str
    head: str


class DataRecord(Record):
    """The file beside, which weights lie in that are too large for the first one."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]
    sha256: Sha256


class ContentsRecord(Record):
    """What was proved.

    Attributes:
        sha256: of the file, less its metadata.
        data: None where all weights lie in the file.
        description_sha256: of the description, see ``description_sha256``; None in files of earlier versions.
    """

    sha256: Sha256
    data: DataRecord | None
    description_sha256: Sha256 | None = None


class OnnxDescription(Record):
    """The whole of it. No key may be missing, so that a misspelt one is told.

    Attributes:
        format: of this description.
        precision: of the arithmetic. Input and scores are fp32 always.
        scores_are_probabilities: whether scores are to be divided by their sum, or want a softmax, to be probabilities.
        temperature: divides the logarithms of the probabilities; 1 for a run that is not calibrated.
        gives_labels: whether the graph has a second output: the label id of each pixel of a window, int32.
        contents: of an ONNX file; None in a program of PyTorch's.
    """

    format: Literal[2]
    precision: Literal["fp32", "fp16"]
    scores_are_probabilities: bool
    temperature: Temperature
    gives_labels: bool
    window: WindowRecord
    picture: PictureRecord
    labels: LabelSpaceRecord
    origin: OriginRecord
    contents: ContentsRecord | None

    @property
    def label_ids(self) -> tuple[int, ...]:
        """What a label map holds for each class index."""
        return tuple(entry.label_ids[0] for entry in self.labels.classes)

    @staticmethod
    def parse(text: str | None, source: str) -> "OnnxDescription":
        """What the metadata of a file says.

        Args:
            text: the value of ``KEY``; None where there is none.

        Raises:
            ValueError: none, or one that does not fit; named after ``source``.
        """
        if text is None:
            raise ValueError(
                f"{source}: holds no description by dinoseg, so classes and windows are not known; give a file that "
                "`dinoseg export RUN FILE.onnx` wrote"
            )
        try:
            document = parse_json(text.encode())
        except ValueError as error:
            raise ValueError(f"{source}: its description is damaged ({error}); {_REMEDY}") from None
        found = document.get("format") if isinstance(document, dict) else None
        if isinstance(found, int) and found != FORMAT:
            raise ValueError(
                f"{source}: its description is of format {found}, and this version of dinoseg ({__version__}) reads "
                f"{FORMAT}: {_REMEDY} with it"
            )
        return check_document(document, OnnxDescription, source, _REMEDY)


def description_sha256(text: str) -> str:
    """Of all that a description says but its ``contents``, however tools lay out its JSON.

    Args:
        text: that parses.
    """
    said = {key: value for key, value in parse_json(text.encode()).items() if key != "contents"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
