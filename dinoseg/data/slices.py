"""Volumes as many pairs: each slice is an image of its own to scan, training and evaluation.

Slices of one volume go into one split, since splits are of files.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from dinoseg.config import DatasetsConfig
from dinoseg.data.band_files import chosen
from dinoseg.data.bands import Picture
from dinoseg.data.found_files import is_volume
from dinoseg.data.items import SelfReading
from dinoseg.data.masks import LabelMap, array_ids
from dinoseg.data.nifti import Volume, VolumeHeader, read_volume, read_volume_header
from dinoseg.data.pairs import Pair, SplitListing
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.rasters import Inside
from dinoseg.data.shelf import MOST_BYTES, Shelf
from dinoseg.data.slice_view import SliceView
from dinoseg.labels.settings import Kind
from dinoseg.system.files import file_stamp

_AUTO = "auto"


@dataclass(frozen=True)
class Slice(SelfReading):
    """A slice of a volume and of its mask, which have one shape and lie in one place.

    Attributes:
        volume: name of the pair of volumes.
        headers: of the volumes of image, mask and region, by path.
        view: turns it upright; ``index`` is that along the view's axis.
        shelf: keeps the volumes of the data set that were read last.
    """

    part: ClassVar[str] = "slice"
    volume: str = field(kw_only=True)
    view: SliceView = field(kw_only=True)
    index: int = field(kw_only=True)
    headers: dict[Path, VolumeHeader] = field(kw_only=True, repr=False, compare=False)
    shelf: Shelf[Volume] = field(kw_only=True, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """Its name, and the axis it is cut across."""
        return f"{self.name} {self.view.axis}"

    @property
    def place(self) -> str:
        """Where in its file it stands, and how it is turned."""
        return f"slice {self.view} {self.index}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.view.size(self.headers[self.image].shape)

    def read(self, path: Path) -> Volume:
        """The volume of its image, mask or region. Raises ValueError where it cannot be read."""

        def take_down() -> tuple[Volume, int]:
            before, now = self.headers[path], read_volume_header(path)
            if now != before:
                raise ValueError(
                    f"{path}: is {now.in_words} ({now.dtype}) and was {before.in_words} ({before.dtype}) when it was "
                    "listed; leave files alone while they are read"
                )
            volume = read_volume(before)
            return volume, volume.held_bytes

        return self.shelf.get((path, file_stamp(path)), take_down)

    def picture(self, form: PictureForm) -> Picture:
        """The slice as a picture in shades of grey; see ``slice_picture``.

        Raises:
            ValueError: it cannot be read; names the file.
        """
        return slice_picture(self.read(self.image), self.view, self.index, form)

    def label_ids(self, kind: Kind) -> LabelMap:
        """Label ids of the mask's slice. Raises ValueError for what holds none; names the file."""
        assert self.mask is not None
        return self._ids_in(self.mask, kind)

    def image_label_ids(self, kind: Kind) -> LabelMap:
        """The same of an image that is a label map."""
        return self._ids_in(self.image, kind)

    def _ids_in(self, path: Path, kind: Kind) -> LabelMap:
        plane = self.read(path).slice(self.view.axis, self.index)
        return array_ids(self.view.upright(plane), kind, path)

    def load(self, kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap, Inside]:
        """Image, label ids, and where they count: within the region.

        Raises:
            ValueError: a file cannot be read, or the mask holds other than label ids; names the file.
        """
        return self.picture(form), self.label_ids(kind), self.within()

    def within(self) -> Inside:
        """Where the region is not zero; everywhere without one."""
        if self.region is None:
            return np.ones(self.size, dtype=bool)
        return self.view.upright(self.read(self.region).slice(self.view.axis, self.index)) != 0


def slice_picture(volume: Volume, view: SliceView, index: int, form: PictureForm) -> Picture:
    """A slice of a volume, upright.

    Black to white is the range of the form (``datasets.range``); where it has none, that of the volume's own values
    (``Volume.range``), clamped, since their unit is known in a CT alone.

    Raises:
        ValueError: the form names a second band.
    """
    values = view.upright(volume.slice(view.axis, index))
    if not form.takes_values:
        return _grey_picture(values, volume.range)
    bands = form.bands or (1,)
    return form.of_bands(chosen(values[..., None], bands, volume.header.path), volume.header.path)


def _grey_picture(values: np.ndarray, limits: tuple[float, float]) -> Image.Image:
    """Values (H, W) between two limits as 0..255, those outside clamped; what is no number is black."""
    low, high = limits
    shades = np.clip((values.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
    return Image.fromarray(np.nan_to_num(shades, nan=0.0).round().astype(np.uint8)).convert("RGB")


def slice_volumes(listing: SplitListing, datasets: DatasetsConfig) -> SplitListing:
    """The listing with the slices of volumes in their place; reads the headers of volumes.

    Raises:
        ValueError: a volume that cannot be read, a mask or region of another shape or place, nibabel is not there, or
            an axis is given and there is no volume.
    """
    if not any(is_volume(path) for pair in listing.pairs for path in _files(pair)):
        if datasets.slice_axis != _AUTO and listing.pairs:
            raise ValueError(
                f"datasets.slice_axis={datasets.slice_axis}: is of volumes (.nii, .nii.gz), and there is none; leave "
                "it out"
            )
        return listing
    shelf = Shelf[Volume](MOST_BYTES)
    pairs: list[Pair] = []
    problems: list[str] = []
    for pair in listing.pairs:
        try:
            pairs += _slices(pair, datasets.slice_axis, shelf)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        more = f" (and {len(problems) - 1} others of {len(listing.pairs)})" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")
    return replace(listing, pairs=tuple(pairs))


def volumes_of(pairs: Iterable[Pair]) -> dict[str, list[Slice]]:
    """The slices among pairs, by the name of their volume."""
    found: dict[str, list[Slice]] = {}
    for pair in pairs:
        if isinstance(pair, Slice):
            found.setdefault(pair.volume, []).append(pair)
    return found


def _files(pair: Pair) -> list[Path]:
    # What reads itself, a row of a table, may be called anything.
    files = () if isinstance(pair, SelfReading) else (pair.image, pair.mask, pair.region)
    return [path for path in files if path is not None]


def _slices(pair: Pair, axis: str, shelf: Shelf[Volume]) -> list[Pair]:
    """The slices of a pair of volumes; a pair of pictures itself."""
    files = _files(pair)
    volumes = [path for path in files if is_volume(path)]
    if not volumes:
        return [pair]
    if len(volumes) < len(files):
        other = next(path for path in files if not is_volume(path))
        raise ValueError(f"{volumes[0]} is a volume and {other} is none; give both as NIfTI, or both as pictures")
    headers = {path: read_volume_header(path) for path in files}
    header = headers[pair.image]
    for noun, path in (("mask", pair.mask), ("region", pair.region)):
        if path is not None:
            _refuse_other_place(header, headers[path], noun)
    view = SliceView.of(header, header.axis(axis))
    return [
        Slice(
            f"{pair.name}_s{index:04d}",
            pair.image,
            pair.mask,
            region=pair.region,
            volume=pair.name,
            view=view,
            index=index,
            headers=headers,
            shelf=shelf,
        )
        for index in range(header.shape[view.axis])
    ]


def _refuse_other_place(image: VolumeHeader, partner: VolumeHeader, noun: str) -> None:
    if partner.shape != image.shape:
        raise ValueError(
            f"{image.path} is {image.in_words} but its {noun} {partner.path} is {partner.in_words}; resample the "
            f"{noun} onto the grid of the image, by nearest neighbour only"
        )
    if partner.lies_elsewhere(image):
        raise ValueError(
            f"{image.path} begins at {image.origin} in steps of {_steps(image)} but its {noun} {partner.path} at "
            f"{partner.origin} in steps of {_steps(partner)}: other affines; resample the {noun} onto the grid of the "
            "image, or, where its header alone is wrong, save it with the affine of the image"
        )


def _steps(header: VolumeHeader) -> str:
    return " x ".join(f"{step:.4g}" for step in header.spacing)
