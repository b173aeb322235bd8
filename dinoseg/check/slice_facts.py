"""What a scan knows of a slice of a volume and of its mask."""

import hashlib
from dataclasses import replace

from dinoseg.check.facts import ImageFacts, MaskFacts, PairFacts, count_values, mask_facts, reason_of
from dinoseg.check.scan_cache import ScanCache
from dinoseg.data.slices import Slice
from dinoseg.labels.settings import Kind


def facts_of_slice(part: Slice, cache: ScanCache) -> PairFacts:
    """As remembered, or read; what counts in a mask depends on the region, too."""
    assert part.mask is not None
    place = f"slice {part.view} {part.index}"
    others = [] if part.region is None else [part.region]
    image = cache.get(ImageFacts, place, part.image, lambda path: _image_facts(part))
    mask = cache.get(
        MaskFacts, f"{place} mask", part.mask, lambda path: mask_facts_of_slice(part), [part.image, *others]
    )
    return PairFacts(part, image, mask)


def _image_facts(part: Slice) -> ImageFacts:
    try:
        values = part.read(part.image).stored_slice(part.view.axis, part.index)
    except (OSError, ValueError) as error:
        return ImageFacts(error=reason_of(error, part.image))
    # Slices without a difference in them (air) are alike and no copies, and so may two of one volume be.
    plain = bool(values.min() == values.max())
    place = f"{part.index} {values.shape} {values.dtype}".encode()
    digest = "" if plain else hashlib.blake2b(place + values.tobytes(), digest_size=16).hexdigest()
    height, width = part.size
    return ImageFacts(f"volume {values.dtype.name}", (width, height), (width, height), 1, digest)


def mask_facts_of_slice(part: Slice) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field."""
    assert part.mask is not None
    height, width = part.size
    kind: Kind = "ids"
    try:
        volume = part.read(part.mask)
        label_ids, counted = part.label_ids(kind), part.within()
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, part.mask))
    mode = f"volume {volume.stored.dtype.name}"
    mask = mask_facts(mode, (width, height), 1, kind, count_values(label_ids[counted]))
    return replace(mask, outside=int(counted.size - counted.sum()))
