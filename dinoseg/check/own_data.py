"""A user's own data sets, read once: the same facts as of files."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from rich.console import Console

from dinoseg.check.band_scan import band_facts, missing_pixels
from dinoseg.check.facts import ImageFacts, PairFacts, count_values, mask_facts
from dinoseg.check.file_findings import SplitScan
from dinoseg.data.band_files import chosen
from dinoseg.data.bands import Picture, finite_pixels
from dinoseg.data.items import DataItem, OwnDataset
from dinoseg.data.masks import LabelMap
from dinoseg.data.pairs import Split, SplitListing
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm, every_band
from dinoseg.data.pictures import BrighterThanWhite, brightest_value
from dinoseg.labels.settings import Kind
from dinoseg.system.bars import image_progress


def scan_own_data(
    data: Mapping[Split, OwnDataset], kind: Kind, console: Console | None = None, form: PictureForm = PLAIN_FORM
) -> list[SplitScan]:
    """The facts of every item; messages call a split's data ``train_data`` and so on.

    One after the other: whether the user's code bears threads is not known.

    Args:
        kind: what masks hold.
        console: shows progress and pace when given.

    Raises:
        ValueError: an item is no image with a mask, or is another one each time it is asked for.
    """
    scans = []
    for name, own in data.items():
        with image_progress(console or Console(quiet=True), len(own), f"scan of {name}_data", "items") as advance:
            facts = []
            for fact in _facts(own, f"{name}_data", kind, form):
                facts.append(fact)
                advance()
            scans.append(SplitScan(name, SplitListing(tuple(fact.pair for fact in facts), (), ()), tuple(facts)))
    return scans


def _facts(data: OwnDataset, title: str, kind: Kind, form: PictureForm) -> Iterator[PairFacts]:
    for index in range(len(data)):
        item = DataItem.of(data, index, title)
        loaded = item.load()
        # White is not known before all is read; what is said of a picture on its own does not count yet.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrighterThanWhite)
            image, mask = item.decode(loaded, kind, form)
            again = item.read(kind, form) if index == 0 else (image, mask)
        if _digests(*again) != _digests(image, mask):
            raise ValueError(
                f"{item.image}: another image or mask each time it is asked for; give the same for the same index, and "
                "leave random changes to transforms.train"
            )
        digest, both = _digests(image, mask)
        yield PairFacts(
            DataItem.of(data, index, title, both),
            _image_facts(image, loaded[0], digest, form),
            mask_facts("array", image.size, 1, kind, count_values(mask)),
        )


def _image_facts(image: Picture, loaded: object, digest: str, form: PictureForm) -> ImageFacts:
    if not form.takes_values:
        return ImageFacts(image.mode, image.size, image.size, digest=digest, brightest=brightest_value(loaded))
    every = every_band(loaded, "image")
    values = form.read_of(chosen(every, form.bands, "image"))
    known = finite_pixels(values, None)
    fields = band_facts(values, every.shape[2], known, form) | {"no_data": missing_pixels(known)}
    return ImageFacts(size=image.size, stored_size=image.size, digest=digest, **fields)


def _digests(image: Picture, mask: LabelMap) -> tuple[str, str]:
    """Hashes of the image, and of image and mask."""
    hashed = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16)
    digest = hashed.hexdigest()
    hashed.update(np.ascontiguousarray(mask).tobytes())
    return digest, hashed.hexdigest()
