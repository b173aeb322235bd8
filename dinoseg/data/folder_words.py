"""What the name of a folder says: images or masks, and of which split."""

import re
from dataclasses import dataclass
from typing import Literal

from dinoseg.data.pairs import Split

Kind = Literal["images", "masks"]

_IMAGES = {"images", "image", "imgs", "img", "im", "pictures", "picture", "photos", "photo", "rgb", "input", "inputs"}
_MASKS = {
    *("masks", "mask", "labels", "label", "lbl", "annotations", "annotation", "annot", "ann", "anns", "gt", "truth"),
    *("groundtruth", "groundtruths", "segmentation", "segmentations", "seg", "segs", "target", "targets", "manual"),
    *("stuffthingmaps", "labelmaps"),
}
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts", "tst"), "test"),
}
# Pictures, but neither images to learn from nor label maps.
_FOREIGN = {"object", "objects", "instance", "instances", "panoptic", "overlay", "overlays", "visualization", "vis"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True)
class FolderWords:
    """What the names on the way to a folder say.

    Attributes:
        kind: what it holds; None where nothing says it.
        split: of which split.
        foreign: it holds pictures of another kind (objects, overlays).
        rest: the names that say neither, which two folders must share to belong together.
    """

    kind: Kind | None = None
    split: Split | None = None
    foreign: bool = False
    rest: tuple[str, ...] = ()

    def within(self, inner: "FolderWords") -> "FolderWords":
        """What is known of a folder in this one."""
        return FolderWords(
            self.kind or inner.kind,
            self.split or inner.split,
            self.foreign or inner.foreign,
            self.rest + inner.rest,
        )


def read_folder_name(name: str) -> FolderWords:
    """The words of one name; numbers behind a split (``train2017``) are passed over."""
    words = [word.lower() for word in _WORD.findall(name) if not word.isdigit()]
    split = next((_SPLITS[word] for word in words if word in _SPLITS), None)
    kind: Kind | None = None
    if any(word in _MASKS for word in words):
        # image_masks, images_labels: masks, of images.
        kind = "masks"
    elif any(word in _IMAGES for word in words):
        kind = "images"
    told = split is not None or kind is not None
    return FolderWords(kind, split, any(word in _FOREIGN for word in words), () if told else (name,))
