"""The published heads that are known by name: what they were trained on, and what was said of them."""

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dinoseg.backbone.catalogue import find_backbone

_TABLE = "https://github.com/tue-mps/pmt/blob/main/model_zoo/image/dinov3.md"
_LICENCE = "MIT (its code; of the weights see their page)"


@dataclass(frozen=True)
class Figure:
    """What its authors measured: ``value`` in percent, ``name`` such as mIoU, on the data of the head."""

    name: str
    value: float


@dataclass(frozen=True)
class PublishedHead:
    """A head on the Hub, and what is needed to make a model of it that its file does not say.

    Attributes:
        name: ``owner/name`` on the Hub.
        head: its ``decoder_head.type``.
        backbone: its ``model.dino_hub``.
        classes: its ``datasets.classes``, a preset.
        num_classes: how many these are.
        task: what it was trained for; the classes of pixels are had of either.
        window: side of its windows, and short side of its images, in pixels.
        figure: as published, with the authors' code.
        licence: of the head; the backbone has its own.
        table: where the figure stands.
    """

    name: str
    head: str
    backbone: str
    classes: str
    num_classes: int
    task: Literal["semantic", "panoptic"]
    window: int
    figure: Figure
    licence: str
    table: str

    @property
    def page(self) -> str:
        """Where its file is."""
        return f"https://huggingface.co/{self.name}"

    @property
    def backbone_licence(self) -> str:
        """Of the backbone's weights."""
        return find_backbone(self.backbone).licence

    @property
    def mean_iou(self) -> float | None:
        """As published, in percent; None where it was not stated."""
        return self.figure.value if self.figure.name == "mIoU" else None

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        derived = {"page": self.page, "backbone_licence": self.backbone_licence, "mIoU": self.mean_iou}
        return asdict(self) | derived


def _panoptic(size: str, backbone: str, window: int, quality: float) -> PublishedHead:
    return PublishedHead(
        name=f"tue-mps/coco_panoptic_pmt_{size}_{window}_dinov3",
        head="pmt",
        backbone=backbone,
        classes="coco_panoptic",
        num_classes=133,
        task="panoptic",
        window=window,
        figure=Figure("PQ", quality),
        licence=_LICENCE,
        table=_TABLE,
    )


_CATALOGUE: tuple[PublishedHead, ...] = (
    PublishedHead(
        name="tue-mps/ade20k_semantic_pmt_large_512_dinov3",
        head="pmt",
        backbone="dinov3_vitl16",
        classes="ade20k",
        num_classes=150,
        task="semantic",
        window=512,
        figure=Figure("mIoU", 58.5),
        licence=_LICENCE,
        table=_TABLE,
    ),
    _panoptic("small", "dinov3_vits16", 640, 45.3),
    _panoptic("base", "dinov3_vitb16", 640, 52.8),
    _panoptic("large", "dinov3_vitl16", 640, 56.1),
    _panoptic("large", "dinov3_vitl16", 1280, 58.1),
)


def list_heads() -> tuple[PublishedHead, ...]:
    """All heads that are known by name."""
    return _CATALOGUE


def find_head(name: str) -> PublishedHead | None:
    """The head of a name on the Hub, or of a folder that is called like its second half; None where none is known."""
    return next((head for head in _CATALOGUE if name in (head.name, head.name.partition("/")[2])), None)


def nearest_head(name: str) -> str:
    """A hint at the known name that is most like this one; empty where none is."""
    names = {known: head.name for head in _CATALOGUE for known in (head.name, head.name.partition("/")[2])}
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return f"did you mean hf:{names[found[0]]}? " if found else ""
