"""Reads pictures as values of bands: what is measured of them, and the masks beside them where they hold data."""

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Num

from dinoseg.check.band_measures import measure_bands
from dinoseg.check.facts import ImageFacts, MaskFacts
from dinoseg.check.mask_scan import Known, read_facts_inside, read_mask_facts, reason_of
from dinoseg.data.band_files import BandFile, decoded_bands, read_band_file
from dinoseg.data.bands import finite_pixels
from dinoseg.data.image_files import load_file
from dinoseg.data.pairs import Pair
from dinoseg.data.parquet import TableRow
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.regions import read_region
from dinoseg.labels.settings import Kind
from dinoseg.system.files import file_sha256


def read_band_pair(pair: Pair, kind: Kind, form: PictureForm) -> tuple[ImageFacts, MaskFacts]:
    """The facts of image and mask of a form that takes values; errors become their ``error`` fields."""
    assert pair.mask is not None
    image, known = _read_image(pair, form)
    read = pair.mask_bytes if isinstance(pair, TableRow) else None
    if pair.region is None and known is None:
        return image, read_mask_facts(pair.mask, kind, read)
    return image, read_facts_inside(pair, image, kind, read, known)


def band_facts(
    values: Num[np.ndarray, "height width bands"], count: int, known: Known | None, form: PictureForm
) -> dict[str, Any]:
    """The fields of ``ImageFacts`` that values of bands give.

    Args:
        values: as a form of pictures takes them.
        count: bands of the file.
        known: where they hold data, within the region; None for everywhere.
    """
    finite = values[np.isfinite(values).all(axis=-1)] if values.dtype.kind == "f" else values
    sixteen = form.ranges is None and values.dtype == np.uint16 and values.size > 0
    return {
        "mode": f"{count} x {values.dtype}",
        "brightest": int(values.max()) if sixteen else None,
        "count": count,
        "bands": measure_bands(values, known),
        "dtype": values.dtype.name,
        "extremes": (float(finite.min()), float(finite.max())) if finite.size else None,
    }


def missing_pixels(known: Known | None) -> int:
    """How many hold no data."""
    return 0 if known is None else int(known.size - known.sum())


def _read_image(pair: Pair, form: PictureForm) -> tuple[ImageFacts, Known | None]:
    path = pair.image
    try:
        found, digest = _read_bands(pair, form)
        values = form.read_of(found.values)
        height, width = values.shape[:2]
        known = finite_pixels(values, found.inside)
        measured = known
        if pair.region is not None:
            region = read_region(pair.region, path, (width, height))
            measured = region if known is None else known & region
        fields = band_facts(values, found.count, measured, form)
        return (
            ImageFacts(
                size=(width, height),
                stored_size=found.stored_size,
                orientation=found.orientation,
                digest=digest,
                no_data=missing_pixels(known),
                **fields,
            ),
            known,
        )
    except (OSError, ValueError) as error:
        return ImageFacts(error=reason_of(error, path)), None


def _read_bands(pair: Pair, form: PictureForm) -> tuple[BandFile, str]:
    """The bands of an image, and a hash of its bytes."""
    if not isinstance(pair, TableRow):
        return read_band_file(pair.image, form.bands), file_sha256(pair.image)
    data = pair.image_bytes()
    return decoded_bands(load_file(pair.image, data), pair.image, form.bands), hashlib.sha256(data).hexdigest()
