"""Items of a user's own data set, which stand where pairs of files would."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from dinoseg.data.bands import Picture
from dinoseg.data.masks import LabelMap, array_ids, mask_ids, size_mismatch
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.rasters import Inside
from dinoseg.labels.settings import Kind


@runtime_checkable
class OwnDataset(Protocol):
    """A user's own data set, for instance a ``torch.utils.data.Dataset``.

    An item is a pair ``(image, mask)``, or a mapping with the keys ``image`` and ``mask``. The image is a PIL image, or
    an array or tensor of uint8 (H, W, 3) or (H, W), or of any numbers and bands where ``datasets.bands`` or
    ``datasets.range`` is given. The mask is of the same size and holds label ids, as mask files
    would: integers (H, W), or a PIL image; colours (H, W, 3) where ``datasets.classes`` names colours. The same index
    must give the same item each time; what is random in training is done by ``transforms.train``.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class SelfReading(Pair, ABC):
    """A pair that is a part of files, and reads itself: a tile, a slice of a volume, a row of a table.

    ``part`` is what it is called where others are of the same image; empty for a row, which is an image of its own.
    """

    part: ClassVar[str] = ""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where in its file it stands, by which what is remembered of it is found."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def picture(self, form: PictureForm) -> Picture:
        """The picture. Raises ValueError where it cannot be read; names the file."""

    @abstractmethod
    def load(self, kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap, Inside]:
        """Image, label ids, colours packed as 0xRRGGBB, and where they count.

        Raises:
            ValueError: a file cannot be read, or stores something else; names the file.
        """


@dataclass(frozen=True)
class DataItem(Pair):
    """An item of a data set that is no pair of files: ``image`` and ``mask`` name it in messages.

    Attributes:
        data: where it is read from.
        digest: of the image's and the mask's values, where they were read before; else empty.
    """

    data: OwnDataset = field(repr=False, compare=False)
    index: int
    digest: str = ""

    @staticmethod
    def of(data: OwnDataset, index: int, title: str, digest: str = "") -> "DataItem":
        """The item of a data set that messages call ``title``."""
        place = f"{title}[{index}]"
        return DataItem(f"item_{index:05d}", Path(place), Path(f"{place} mask"), data, index, digest)

    @property
    def identity(self) -> str:
        """The name, and what it holds: the name alone says nothing of where it comes from."""
        return f"{self.name} {self.digest}"

    def read(self, kind: Kind, form: PictureForm = PLAIN_FORM) -> tuple[Picture, LabelMap]:
        """The picture, upright, and its label ids (H, W), colours packed as 0xRRGGBB.

        Args:
            form: of the image.

        Raises:
            ValueError: not an image and a mask of the same size; names the item.
        """
        return self.decode(self.load(), kind, form)

    def load(self) -> tuple[Any, Any]:
        """Image and mask as the data set gives them, a tensor as an array.

        Raises:
            ValueError: not a pair, or the data set raises; names the item.
        """
        try:
            item = self.data[self.index]
        except Exception as error:  # whatever a user's own code raises
            raise ValueError(f"{self.image}: cannot be read: {type(error).__name__}: {error}") from error
        if isinstance(item, Mapping) and {"image", "mask"} <= set(item):
            item = (item["image"], item["mask"])
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"{self.image}: {_in_words(item)}; give (image, mask), or a mapping with the keys image and mask"
            )
        return _as_array(item[0]), _as_array(item[1])

    def decode(self, loaded: tuple[Any, Any], kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap]:
        """What ``read`` gives of what ``load`` gave."""
        assert self.mask is not None
        image = form.of_values(loaded[0], self.image)
        mask = _label_ids(loaded[1], kind, self.mask)
        size = (mask.shape[1], mask.shape[0])
        if size != image.size:
            raise ValueError(size_mismatch(self.image, image.size, self.mask, size))
        return image, mask


def is_part(pair: Pair) -> bool:
    """Whether it is a part of an image, as others are: a tile, or a slice."""
    return isinstance(pair, SelfReading) and bool(pair.part)


def list_items(data: OwnDataset, title: str) -> tuple[DataItem, ...]:
    """Every item of a data set that messages call ``title``; reads none.

    Raises:
        ValueError: it has no length.
    """
    if not isinstance(data, OwnDataset):
        raise ValueError(f"{title}: a {type(data).__name__} has no length or no items; give a data set with both")
    return tuple(DataItem.of(data, index, title) for index in range(len(data)))


def _as_array(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    # NumPy has no bfloat16.
    return (value.float() if value.dtype.is_floating_point else value).detach().cpu().numpy()


def _label_ids(mask: Any, kind: Kind, source: Path) -> LabelMap:
    if isinstance(mask, Image.Image):
        return mask_ids(ImageOps.exif_transpose(mask), kind, source)
    if not isinstance(mask, np.ndarray):
        raise ValueError(f"{source}: {_in_words(mask)}; give whole numbers (height, width), or a PIL image")
    return array_ids(mask, kind, source)


def _in_words(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{length}"
