"""What a scan knows of a slice of a volume and of its mask."""

import hashlib
from dataclasses import replace
from typing import Any

from dinoseg.check.band_scan import band_facts, missing_pixels
from dinoseg.check.facts import ImageFacts, MaskFacts, count_values, is_plain, mask_facts
from dinoseg.check.mask_scan import Known, reason_of
from dinoseg.data.bands import finite_pixels
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.slices import Slice
from dinoseg.labels.settings import Kind


def read_slice_facts(part: Slice, form: PictureForm) -> tuple[ImageFacts, MaskFacts]:
    """The facts of image and mask; errors become their ``error`` fields."""
    image, known = _image_facts(part, form)
    return image, mask_facts_of_slice(part, known)


def mask_facts_of_slice(part: Slice, known: Known | None = None) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field.

    Args:
        known: where the image holds data, which alone counts; None for everywhere.
    """
    assert part.mask is not None
    height, width = part.size
    kind: Kind = "ids"
    try:
        volume = part.read(part.mask)
        label_ids, counted = part.label_ids(kind), part.within()
        counted = counted if known is None else counted & known
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, part.mask))
    mode = f"volume {volume.stored.dtype.name}"
    mask = mask_facts(mode, (width, height), 1, kind, count_values(label_ids[counted]))
    return replace(mask, outside=int(counted.size - counted.sum()))


def _image_facts(part: Slice, form: PictureForm) -> tuple[ImageFacts, Known | None]:
    """The facts of an image, and where it holds data, if values are taken; None for everywhere."""
    height, width = part.size
    size = (width, height)
    try:
        volume = part.read(part.image)
        stored = volume.stored_slice(part.view.axis, part.index)
        measured, known = _measured(part, form) if form.takes_values else ({}, None)
    except (OSError, ValueError) as error:
        return ImageFacts(error=reason_of(error, part.image)), None
    # Slices without a difference in them (air) are alike and no copies, and so may two of one volume be.
    plain = is_plain(stored)
    place = f"{part.index} {stored.shape} {stored.dtype}".encode()
    digest = "" if plain else hashlib.blake2b(place + stored.tobytes(), digest_size=16).hexdigest()
    facts = ImageFacts(f"volume {stored.dtype.name}", size, size, 1, digest)
    return replace(facts, **measured), known


def _measured(part: Slice, form: PictureForm) -> tuple[dict[str, Any], Known | None]:
    """What the scan measures of values, in the unit of the file; and where they are numbers, None for everywhere."""
    values = part.view.upright(part.read(part.image).slice(part.view.axis, part.index))[..., None]
    known = finite_pixels(values, None)
    inside = part.within() if known is None else known & part.within()
    fields = band_facts(values, 1, inside, form)
    return fields | {"mode": f"volume {values.dtype.name}", "no_data": missing_pixels(known)}, known
