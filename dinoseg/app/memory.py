"""Whether a picture fits into free memory: asked before it is decoded, since a full memory ends the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.found_files import is_volume
from dinoseg.data.image_files import read_geometry
from dinoseg.data.rasters import has_rasterio, read_header

# Measured 39 to 43 with a small model: file, RGB, normalised pixels, classes and confidence at once.
BYTES_A_PIXEL = 48
# More for each band beyond red, green and blue: its value, and that of the model's input.
_BYTES_A_BAND = 16
# More for each score that is held of every pixel at once: itself, and what it is computed from.
_BYTES_A_SCORE = 8
# Of what is free, so that others on the machine have some.
_USABLE = 0.8


@dataclass(frozen=True)
class ControlGroup:
    """What limits the memory of a container: files of the kernel, and the prefix of names in the last one."""

    most: Path
    used: Path
    statistics: Path
    prefix: str = ""

    def free(self) -> int | None:
        """Bytes to its limit; None where there is none. What it holds of files can be given back."""
        try:
            most, used = (int(file.read_text()) for file in (self.most, self.used))
            lines = dict(line.split() for line in self.statistics.read_text().splitlines())
        except (OSError, ValueError):
            return None  # no such file, or no limit ("max")
        files = sum(int(lines.get(f"{self.prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        return most - used + files


_ROOT = Path("/sys/fs/cgroup")
_GROUPS = (
    ControlGroup(_ROOT / "memory.max", _ROOT / "memory.current", _ROOT / "memory.stat"),
    ControlGroup(
        _ROOT / "memory/memory.limit_in_bytes",
        _ROOT / "memory/memory.usage_in_bytes",
        _ROOT / "memory/memory.stat",
        "total_",
    ),
)


def free_bytes(groups: Iterable[ControlGroup] = _GROUPS) -> int:
    """Memory that this process may still take: of the machine, or of its container where that has less."""
    # Of the extra, and of what dinoseg depends on; nothing else here needs it.
    import psutil

    limits = [free for group in groups if (free := group.free()) is not None]
    return max(0, min([int(psutil.virtual_memory().available), *limits]))


def refuse_beyond_memory(path: Path, free: int, bands: int = 3, scores: int = 0) -> None:
    """Raises ValueError for a picture that takes more memory than there is; its header is read.

    A file without a readable header is left to whoever decodes it.

    Args:
        free: bytes.
        bands: that the model sees.
        scores: of each pixel that are held at once.
    """
    size = _size_of(path)
    if size is None:
        return
    width, height = size
    needed = width * height * (BYTES_A_PIXEL + _BYTES_A_BAND * max(0, bands - 3) + _BYTES_A_SCORE * scores)
    if needed > free * _USABLE:
        raise ValueError(
            f"{path.name}: {width:,} x {height:,} pixels ({width * height / 1e6:.0f} megapixels) take about "
            f"{needed / 1e9:.1f} GB to predict, and {free / 1e9:.1f} GB are free; cut it into tiles, or close what "
            "else runs (dinoseg predict takes a GeoTIFF of any size, block by block)"
        )


def _size_of(path: Path) -> tuple[int, int] | None:
    """Width and height; None where no header says it."""
    header = read_header(path) if has_rasterio() else None
    if header is not None:
        return header.size[1], header.size[0]
    if is_volume(path):
        return None
    try:
        return read_geometry(path)[1]
    except ValueError:
        return None
