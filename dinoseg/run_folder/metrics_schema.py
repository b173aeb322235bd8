"""``metrics.json``: what of it is read back, and of which form that must be.

A key with a default here may be left out of the file; who reads it has a default of its own.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator

from dinoseg.run_folder.checkpoint_manifest import Sha256
from dinoseg.system.json_files import Record, show_found

_LARGEST_COUNT = 2**62
# Of a percentage: rounding may carry a mean of ratios beyond 100 by the last digit.
_ROUNDING = 1e-6


def _refuse_other_than_percent(value: float) -> float:
    if not -_ROUNDING <= value <= 100 + _ROUNDING:
        raise ValueError(f"{value} found, a percentage (0 to 100) expected")
    return value


def _refuse_other_than_label(value: Any) -> int | str:
    is_id = isinstance(value, int) and not isinstance(value, bool)
    if not is_id and not (isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value)):
        raise ValueError(f"{show_found(value)} found, a label id or a colour such as #ff0000 expected")
    return value


Label = Annotated[int | str, PlainValidator(_refuse_other_than_label)]
Percent = Annotated[float, AfterValidator(_refuse_other_than_percent)]
Figure = Percent | None
Interval = Annotated[list[Percent], Field(min_length=2, max_length=2)]
Side = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(ge=0, le=_LARGEST_COUNT)]
# Ten times as far as a fit looks.
Temperature = Annotated[float, Field(ge=0.001, le=1000)]


class ClassFigures(Record):
    """Figures of one class; a figure without a field of its own is a percentage, too."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure] = Field(init=False)

    class_index: Annotated[int, Field(ge=0)] = 0
    label_id: Label
    name: str
    IoU: Figure
    IoU_interval: Interval | None
    Dice: Figure
    precision: Figure
    recall: Figure
    intersection: Pixels
    prediction: Pixels
    truth: Pixels
    accuracy: Figure = None
    Fscore: Figure = None
    BoundaryIoU: Figure = None
    clDice: Figure = None


class Augmentation(Record):
    """Test-time augmentation."""

    scales: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    horizontal_flip: bool = False
    right_angle_rotations: bool = False
    backbone_once: bool = False


class Window(Record):
    """How an image was cut up for prediction."""

    mode: str = ""
    crop: list[Side] = Field(default_factory=list)
    stride: list[Side] = Field(default_factory=list)
    blend: str = ""
    tta: Augmentation | None = None


class ClassWeights(Record):
    """By what classes were decided in place of the largest probability."""

    figure: str


class LeastSizes(Record):
    """Below which sizes patches of label maps became what lies around them."""

    figure: str
    pixels: list[Annotated[int, Field(ge=0)]]


class MemberPolicy(Record):
    """One of several runs whose mean was measured: which, and how it predicted images."""

    run: str
    checkpoint: str
    weights_sha256: Sha256
    resolution: str = ""
    window: Window | None = None
    temperature: Temperature = 1.0


class FoldPolicy(Record):
    """One run of a cross-validation: how many images it held out, and what it scored on them."""

    run: str
    checkpoint: str
    weights_sha256: Sha256
    images: Annotated[int, Field(ge=0, le=_LARGEST_COUNT)]
    mIoU: Figure
    learned_before: Annotated[int, Field(ge=0, le=_LARGEST_COUNT)] = 0


class ShardPolicy(Record):
    """How images were predicted, and which were counted. ``members`` stands in place of what each of them has."""

    images: Annotated[int, Field(ge=0, le=_LARGEST_COUNT)]
    images_available: Annotated[int, Field(ge=0)] = 0
    volumes: Annotated[int, Field(ge=0)] = 0
    resolution: str = ""
    window: Window | None = None
    temperature: Temperature = 1.0
    class_weights: ClassWeights | None = None
    least_patches: LeastSizes | None = None
    members: Annotated[list[MemberPolicy], Field(min_length=2)] | None = None
    ignored_label_ids: list[Label] = Field(default_factory=list)
    reduce_zero_label: bool = False


class Policy(ShardPolicy):
    """The same, and by which rules the figures were measured."""

    absent_classes: Literal["skip_empty", "skip_absent", "zero"]
    beta: Annotated[float, Field(gt=0)] = 1.0
    boundary_width: Annotated[float, Field(gt=0)] = 1.0
    cldice: list[str] = Field(default_factory=list)
    out_of_fold: Annotated[list[FoldPolicy], Field(min_length=2)] | None = None


class Confidence(Record):
    """The interval of mIoU."""

    coverage: Annotated[int, Field(ge=0, le=100)]
    resamples: Annotated[int, Field(ge=0)]
    mIoU: Interval | None


class Constant(Record):
    """What always predicting the class with the most true pixels scores."""

    class_index: Annotated[int, Field(ge=0)]
    mIoU: Figure
    mAcc: Figure
    aAcc: Figure
    mDice: Figure


class ReliabilityBin(Record):
    """Pixels of the predicted class within a range of probabilities; null without one."""

    pixels: Pixels
    confidence: Figure
    accuracy: Figure


class Reliability(Record):
    """How well probabilities mean what they say; null without a pixel. NLL is in nats."""

    ECE: Figure
    NLL: Annotated[float, Field(ge=0)] | None
    bins: list[ReliabilityBin]


class Calibration(Reliability):
    """The same, and what it was before a temperature, where there is one."""

    uncalibrated: Reliability | None


class PerImage(Record):
    """Figures by image."""

    mIoU: Figure


class ClassOverVolumes(Record):
    """Means of one class over volumes."""

    name: str
    IoU: Figure
    Dice: Figure


class VolumeFigures(Record):
    """Figures of one volume: means over its classes, and those of each class."""

    name: str
    slices: Annotated[int, Field(ge=1)]
    mIoU: Figure
    mDice: Figure
    IoU: list[Figure]
    Dice: list[Figure]


class PerVolume(Record):
    """Figures by volume."""

    volumes: Annotated[int, Field(ge=1)]
    mIoU: Figure
    mDice: Figure
    per_class: list[ClassOverVolumes]
    figures: list[VolumeFigures]


class MetricsRecord(Record):
    """The whole file."""

    mIoU: Figure
    mDice: Figure
    mAcc: Figure
    aAcc: Figure
    mFscore: Figure = None
    mPrecision: Figure = None
    mRecall: Figure = None
    fwIoU: Figure = None
    mBoundaryIoU: Figure = None
    mclDice: Figure = None
    mIoU_by_policy: dict[str, Figure] | None = None
    constant: Constant | None = None
    confidence: Confidence
    per_class: Annotated[list[ClassFigures], Field(min_length=1)]
    policy: Policy
    per_image: PerImage | None = None
    per_volume: PerVolume | None = None
    calibration: Calibration | None = None
    checkpoint: Annotated[str, Field(min_length=1)] = "best"
    weights_sha256: Sha256 | None = None
    overrides: list[str] = Field(default_factory=list)
    unpredicted: list[Pixels] = Field(default_factory=list)
    step: Annotated[int, Field(ge=0)] = 0
