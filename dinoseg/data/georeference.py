"""Whether a mask or a region lies where its image lies: headers of TIFFs, compared before any pixel is read."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dinoseg.data.masks import size_mismatch
from dinoseg.data.pairs import Misfit, Pair
from dinoseg.data.rasters import RasterHeader, has_rasterio, is_tiff, is_turned, read_header

_REMEDY = "warp one onto the grid of the other, a mask by nearest neighbour only"


def plain_header(path: Path) -> RasterHeader | None:
    """The header of a TIFF of one picture whose rows and columns are those of its georeference; None for others."""
    header = read_header(path)
    return None if header is None or header.pages > 1 or is_turned(path) else header


def misfits_of_pictures(pairs: Iterable[Pair]) -> list[Misfit]:
    """Of pairs that are all read whole; none where rasterio is not there to read their headers."""
    if not has_rasterio():
        return []
    headers = ((pair, plain_header(pair.image)) for pair in pairs)
    return [misfit for pair, header in headers if header is not None for misfit in misfits_of_whole(pair, header)]


def partners(pair: Pair) -> Iterator[tuple[str, Path]]:
    """What belongs to an image, with what messages call it."""
    if pair.mask is not None:
        yield "mask", pair.mask
    if pair.region is not None:
        yield "region", pair.region


def misfits_of_whole(pair: Pair, header: RasterHeader) -> list[Misfit]:
    """Of an image that is read whole: TIFFs of its size with another georeference; sizes are compared by the scan."""
    if not header.is_placed:
        return []
    found = [(noun, path, read_header(path)) for noun, path in partners(pair) if is_tiff(path)]
    return [
        _elsewhere(pair.image, header, noun, path, other)
        for noun, path, other in found
        if other is not None and other.size == header.size and other.lies_elsewhere(header)
    ]


def misfits_of_tiles(pair: Pair, header: RasterHeader) -> list[Misfit]:
    """Of an image that is read in tiles, the same areas of which are read in its mask and its region."""
    found = []
    for noun, path in partners(pair):
        other = read_header(path)
        if other is None:
            reason = f"{path}: the {noun} of {pair.image}, which is read in tiles, is no TIFF that can be read"
            found.append(Misfit("unreadable", path, reason, "save it as a TIFF of the image's size"))
        elif other.size != header.size:
            sizes = size_mismatch(pair.image, header.size[::-1], path, other.size[::-1], noun).partition("; ")
            found.append(Misfit("size_mismatch", path, sizes[0], sizes[2]))
        elif other.lies_elsewhere(header):
            found.append(_elsewhere(pair.image, header, noun, path, other))
    return found


def refuse_misfits(misfits: Sequence[Misfit], where: str) -> None:
    """Raises ValueError where there are some; names the first in full, and how many there are.

    Args:
        where: the data that is meant, as it was asked for.
    """
    if not misfits:
        return
    first = misfits[0]
    more = f" ({len(misfits)} such files; `dinoseg check` lists them)" if len(misfits) > 1 else ""
    raise ValueError(f"{where}: {first.message}{more}; {first.advice}")


def _elsewhere(image: Path, header: RasterHeader, noun: str, path: Path, found: RasterHeader) -> Misfit:
    message = f"{image} lies {header.place} but its {noun} {path} {found.place}"
    return Misfit("other_place", path, message, _REMEDY)
