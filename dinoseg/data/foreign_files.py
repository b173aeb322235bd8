"""Files that are no damaged images but of a kind that is not read here: what they are, and what to save them as."""

from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dinoseg.data.found_files import is_volume
from dinoseg.system.messages import plural

_SAVE = "save it as PNG or TIFF, grey or RGB with 8 or 16 bits"
_STARTS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR file"),
    (b"%PDF", "a PDF file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"PK\x03\x04", "a ZIP archive (.npz is one)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"SIMPLE  =", "a FITS file"),
    (b"GRIB", "a GRIB file"),
    (b"BUFR", "a BUFR file"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"{", "a JSON file"),
)
_POINTER = b"version https://git-lfs.github.com/spec/"
_PHOTOMETRICS = {6: "in YCbCr", 8: "in CIE L*a*b*", 32803: "of a colour filter array", 34892: "of linear raw values"}
_FORMATS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_LONGEST = 1 << 12


def pointer_words(path: Path) -> str:
    """What to do about a file that a clone without Git LFS left in the place of another; empty for any other file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        return ""
    return "a pointer of Git LFS, and not the file itself: fetch it (git lfs pull)" if start == _POINTER else ""


def by_bands() -> str:
    """What to do with a TIFF whose layout Pillow does not know."""
    extra = "" if find_spec("rasterio") else " (pip install 'dinoseg[geo]')"
    return f"or name its bands, datasets.bands=[1,2,3], which are read with rasterio{extra}"


def unreadable(path: Path, error: Exception) -> ValueError:
    """What to raise for whatever a library raised while it read a file: names the file, and what to do."""
    if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
        return error  # said already
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: no such file")
    if isinstance(error, OSError) and error.strerror:
        return ValueError(f"{path}: cannot be opened ({error.strerror})")
    if pointer := pointer_words(path):
        return ValueError(f"{path}: {pointer}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ValueError(f"{path}: truncated or damaged ({reason}); replace or remove the file")


def foreign_kind(path: Path) -> str | None:
    """What a file is that Pillow does not know, and what to do with it; None where that cannot be said.

    A few hundred bytes of it are read.
    """
    if is_volume(path):
        return "a NIfTI volume and no picture: check, train, eval and predict read its slices; give one of them here"
    if pointer := pointer_words(path):
        return pointer
    try:
        with path.open("rb") as file:
            start = file.read(132)
            if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return f"{_tiff(file, start)}, which dinoseg does not read: {_SAVE}; {by_bands()}"
    except Exception:  # Pillow raises many types for a damaged list of tags
        return None
    kind = next((kind for magic, kind in _STARTS if start.startswith(magic)), None)
    if start[128:132] == b"DICM":
        kind = "a DICOM file"
    if start[4:8] == b"ftyp":
        kind = f"a file of the family of HEIF and MP4 ({start[8:12].decode('ascii', 'replace')})"
    return None if kind is None else f"{kind}, which dinoseg does not read: {_SAVE}"


def _tiff(file: BinaryIO, start: bytes) -> str:
    """A TIFF in words: bands, bits, colours."""
    big = start[2] == 43 or start[3] == 43
    tags = ImageFileDirectory_v2(start[: 16 if big else 8])
    file.seek(tags.next)
    tags.load(file)
    bands, bits = int(tags.get(277, 1)), tuple(tags.get(258, (1,)))
    width, height = int(tags[256]), int(tags[257])
    if min(width, height, bands) < 1 or bands > _LONGEST:
        raise ValueError("no picture")
    format_of = tags.get(339, (1,))
    words = [f"{bits[0]} bits" if len(set(bits)) == 1 else f"{' + '.join(map(str, bits[:8]))} bits"]
    values = _FORMATS.get(int(format_of[0] if isinstance(format_of, tuple) else format_of))
    words += [f"{values} values"] if values else []
    colours = _PHOTOMETRICS.get(int(tags.get(262, 1)))
    words += [colours] if colours else []
    return f"a valid TIFF with {plural(bands, 'band')} of {', '.join(words)}"
