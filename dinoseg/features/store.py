"""The files of the feature cache: one an image, whole or not there, verified when a training begins with it."""

import errno
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dinoseg.backbone import FeatureMap
from dinoseg.data.bands import Picture
from dinoseg.data.dataset import LayerTensors
from dinoseg.data.placement import Placement, Positions, Window, is_inside, sampled
from dinoseg.features.recipe import FeatureRecipe
from dinoseg.system.files import replaced_file
from dinoseg.system.tensor_files import save_tensors

_DESCRIPTION = "features.json"
_SUFFIX = ".safetensors"
# Names that nobody else gives by chance: of a folder, of what is kept in it, and of what lies there for a while.
_FOLDER_NAME = re.compile(r"[0-9a-f]{24}")
_FEATURES_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
_PASSING_NAME = re.compile(r"\.[0-9a-f]{2}\.lock|\.[0-9a-f]{32}\.\d+\.new\.safetensors|\.features\.(\d+\.)?new\.json")


class FeatureFolder:
    """The features of one recipe.

    Args:
        root: of the cache.
        recipe: how they are computed.
    """

    def __init__(self, root: Path, recipe: FeatureRecipe) -> None:
        self.recipe = recipe
        self.path = root / recipe.key

    def file_of(self, image: Picture) -> Path:
        """Where the features of a picture lie, whether they do or not."""
        digest = hashlib.sha256(f"{image.size}".encode())
        digest.update(image.tobytes())
        return self.path / f"{digest.hexdigest()[:32]}{_SUFFIX}"

    def write(self, file: Path, features: list[FeatureMap]) -> None:
        """Keeps the features of one image, fp16.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        tensors = {}
        for index, feature in enumerate(features):
            # Rows first, channels last: a crop reads few long pieces of the file.
            tensors[f"map_{index}"] = feature.map[0].permute(1, 2, 0).to("cpu", torch.float16).contiguous()
            for name, tokens in (("cls", feature.cls), ("prefix", feature.prefix)):
                if tokens is not None:
                    tensors[f"{name}_{index}"] = tokens[0].to("cpu", torch.float16).contiguous()
        checksum = zlib.crc32(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors)))
        if not (self.path / _DESCRIPTION).exists():
            # Two processes may begin one cache at once; with one name between them the second finds nothing to move.
            with replaced_file(self.path / _DESCRIPTION, shared=True) as temporary:
                temporary.write_text(json.dumps(asdict(self.recipe), indent=2) + "\n", encoding="utf-8")
        with replaced_file(file, shared=True) as temporary:
            save_tensors(tensors, temporary, metadata={"crc32": str(checksum), "of": self._owner(file)})

    def is_whole(self, file: Path) -> bool:
        """Whether a file is there, and what was written for this image by this recipe."""
        # To open a FIFO would mean to wait for ever.
        if not file.is_file():
            return False
        try:
            with safe_open(file, framework="np") as opened:
                names = sorted(opened.keys())
                checksum = 0
                for name in names:
                    checksum = zlib.crc32(opened.get_tensor(name).tobytes(), checksum)
                said = opened.metadata() or {}
                # Files from before this was noted do not say whose they are.
                ours = said.get("of", self._owner(file)) == self._owner(file)
                return ours and said.get("crc32") == str(checksum) and "map_0" in names
        except (OSError, SafetensorError, ValueError):
            return False

    def _owner(self, file: Path) -> str:
        """Recipe and image, by which a file is known that was moved or renamed."""
        return f"{self.recipe.key}/{file.stem}"


@dataclass(frozen=True)
class CachedFeatures:
    """Features of the images of a data set, by index.

    Attributes:
        files: of the views of each image, the image as it is first.
        cells: pixels of a crop that one cell covers, down and across, for each layer: as when the backbone sees it.
    """

    files: Mapping[int, tuple[Path, ...]]
    cells: tuple[float, ...]

    def sample(self, index: int, placement: Placement) -> LayerTensors:
        """What lies below a crop, on a grid of its own, as if the backbone had seen the crop.

        Of a view drawn from torch's random state, where the image has several.

        Raises:
            ValueError: the file is gone or damaged.
        """
        maps = []
        height, width = placement.crop
        views = self.files[index]
        file = views[int(torch.randint(len(views), ()).item())] if len(views) > 1 else views[0]
        with _opened(file) as opened:
            for layer, cell in enumerate(self.cells):
                rows, columns = (max(1, int(np.ceil(round(side / cell, 6)))) for side in (height, width))
                positions = placement.positions(rows, columns)
                maps.append(_sample(opened, f"map_{layer}", positions))
            return LayerTensors(maps, *_tokens(opened, len(maps)))

    def whole(self, index: int) -> LayerTensors:
        """The features of the whole image.

        Raises:
            ValueError: the file is gone or damaged.
        """
        with _opened(self.files[index][0]) as opened:
            stored = [opened.get_tensor(f"map_{layer}") for layer in range(len(self.cells))]
            maps = [torch.from_numpy(values).permute(2, 0, 1).float() for values in stored]
            return LayerTensors(maps, *_tokens(opened, len(maps)))


def feature_maps(maps: list[Tensor], class_tokens: list[Tensor], prefix_tokens: list[Tensor]) -> list[FeatureMap]:
    """Batches of ``sample`` or ``whole`` as the backbone would give them."""
    nothing: list[Tensor | None] = [None] * len(maps)
    layers = zip(maps, class_tokens or nothing, prefix_tokens or nothing, strict=True)
    return [FeatureMap(cells, cls, prefix) for cells, cls, prefix in layers]


def _sample(opened: Any, name: str, positions: Positions) -> Tensor:
    """(channels, rows, columns) of a map in the file, read no further than these positions need."""
    part = opened.get_slice(name)
    rows, columns, channels = part.get_shape()
    window = Window.around(positions, (rows, columns))
    if window is None:
        return torch.zeros(channels, *positions.shape[:2])
    values = torch.from_numpy(part[window.top : window.bottom, window.left : window.right])
    local = window.localised(positions, (rows, columns))
    found = sampled(values.permute(2, 0, 1).float(), local)
    # Beyond the image the backbone would have seen the mean colour; nothing is known of what it would have said.
    return found * is_inside(positions)


def _tokens(opened: Any, layers: int) -> tuple[list[Tensor], list[Tensor]]:
    """Class token and prefix tokens of all layers, as far as the backbone has them."""
    stored = set(opened.keys())
    names = (
        [f"{kind}_{layer}" for layer in range(layers) if f"{kind}_{layer}" in stored] for kind in ("cls", "prefix")
    )
    first, second = ([torch.from_numpy(opened.get_tensor(name)).float() for name in kind] for kind in names)
    return first, second


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A file of the cache, open; what is wrong with it, or turns out to be while it is read, in words."""
    try:
        with safe_open(file, framework="np") as opened:
            yield opened
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{file}: features that were there are gone or damaged ({error}); start the training again "
            "(--resume goes on from the last checkpoint), which computes them anew"
        ) from None


@dataclass(frozen=True)
class FolderSummary:
    """One folder of the cache: how many images, how many bytes, by which recipe (None: not readable)."""

    path: Path
    images: int
    size: int
    recipe: dict[str, Any] | None


def list_folders(root: Path) -> Iterator[FolderSummary]:
    """Every folder of the cache, by name; others that lie beside them are none of its."""
    if not root.is_dir():
        return
    for path in sorted(entry for entry in root.iterdir() if entry.is_dir() and _FOLDER_NAME.fullmatch(entry.name)):
        files = [file for file in path.iterdir() if _FEATURES_NAME.fullmatch(file.name) and file.is_file()]
        try:
            recipe = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            recipe = None
        sizes = sum(file.stat().st_size for file in files)
        yield FolderSummary(path, len(files), sizes, recipe if isinstance(recipe, dict) else None)


def refuse_foreign(path: Path) -> None:
    """Raises ValueError where a folder of the cache holds something else than features."""
    foreign = sorted(entry.name for entry in path.iterdir() if not _is_own(entry))
    if foreign:
        raise ValueError(f"{path}: holds {foreign[0]}, which is no part of the cache; remove the folder by hand")


def _is_own(entry: Path) -> bool:
    names = (_FEATURES_NAME, _PASSING_NAME)
    named = entry.name == _DESCRIPTION or any(name.fullmatch(entry.name) for name in names)
    return named and not (entry.is_dir() and not entry.is_symlink())


def clear_folder(path: Path) -> None:
    """Removes a folder of the cache; of one that is a link, what it holds and the link.

    Raises:
        ValueError: it holds something else than features, or a training writes to it meanwhile.
    """
    refuse_foreign(path)
    for entry in path.iterdir():
        entry.unlink(missing_ok=True)
    if path.is_symlink():
        path.unlink()
        return
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        raise ValueError(f"{path}: a training writes features there; clear it again after its end") from None
