"""Files of which each is many images: large TIFFs, and volumes."""

from dinoseg.config import DatasetsConfig
from dinoseg.data.pairs import SplitListing
from dinoseg.data.slices import slice_volumes
from dinoseg.data.tiles import in_tiles


def in_parts(listing: SplitListing, datasets: DatasetsConfig) -> SplitListing:
    """The listing with tiles and slices in the place of the files they are of; see ``in_tiles``, ``slice_volumes``."""
    return slice_volumes(in_tiles(listing, datasets), datasets)
