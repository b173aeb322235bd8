"""The pass over the images of a training that computes what the cache lacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image

from dinoseg.backbone import Backbone
from dinoseg.config import Config
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset, read_picture
from dinoseg.data.transforms import build_eval_transform
from dinoseg.features.compute import compute_features
from dinoseg.features.recipe import FeatureRecipe, default_cache_folder
from dinoseg.features.store import CachedFeatures, FeatureFolder
from dinoseg.system.device import DTYPES
from dinoseg.system.processes import process_count, process_rank

Images = SegmentationDataset | EvaluationDataset


@dataclass(frozen=True)
class FeatureCache:
    """The features that a training reads in place of running its backbone.

    Attributes:
        config: of the training.
        backbone: frozen, on its device.
        folder: where its features lie.
    """

    config: Config
    backbone: Backbone
    folder: FeatureFolder

    @staticmethod
    def of(config: Config, backbone: Backbone) -> "FeatureCache":
        """The cache that ``train.cache_folder`` names."""
        root = config.train.cache_folder
        folder = FeatureFolder(
            Path(root).expanduser() if root else default_cache_folder(), FeatureRecipe.of(config, backbone)
        )
        return FeatureCache(config, backbone, folder)

    def gigabytes(self, sizes: Sequence[tuple[int, int]]) -> float:
        """What the features of images of these sizes (height, width) take."""
        return sum(self.folder.recipe.bytes_for(size, self.backbone) for size in sizes) / 1e9

    def missing(self, data: Images, advance: Callable[[], None] = lambda: None) -> tuple[list[Path], list[int]]:
        """The file of each image, and the indices of those that are not there or damaged.

        Args:
            advance: called after each.
        """
        files, indices = [], []
        for index in range(len(data)):
            files.append(self.folder.file_of(_picture(data, index)))
            if not self.folder.is_whole(files[-1]):
                indices.append(index)
            advance()
        return files, indices

    def fill(self, data: Images, files: Sequence[Path], indices: Sequence[int], advance: Callable[[], None]) -> None:
        """Computes features; what another process computes meanwhile is waited for, not computed again.

        Args:
            files: of all images, as ``missing`` gives them.
            indices: of those to compute.
            advance: called after each.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self.folder.path.mkdir(parents=True, exist_ok=True)
        # Processes of one training begin at different places, and take over from each other.
        first = len(indices) * process_rank() // process_count()
        waiting = [*indices[first:], *indices[:first]]
        for blocking in (False, True):
            left = []
            for index in waiting:
                # 256 locks for any number of images; a lock that is held by a dead process is free.
                lock = FileLock(self.folder.path / f".{files[index].name[:2]}.lock")
                try:
                    with lock.acquire(timeout=-1 if blocking else 0):
                        if not self.folder.is_whole(files[index]):
                            self._compute(data, index, files[index])
                except Timeout:
                    left.append(index)
                    continue
                advance()
            waiting = left

    def _compute(self, data: Images, index: int, file: Path) -> None:
        image = build_eval_transform(self.config.transforms).normalise(_picture(data, index))
        dtype = DTYPES[self.config.model_dtype]
        self.folder.write(file, compute_features(self.backbone, image, self.folder.recipe, dtype))

    def source(self, files: Sequence[Path]) -> CachedFeatures:
        """What data sets read."""
        cells = tuple(stride / self.backbone.scale for stride in self.backbone.strides)
        return CachedFeatures(tuple(files), cells)


def _picture(data: Images, index: int) -> Image.Image:
    return read_picture(data.pairs[index], data.label_space, data.white_level)


def fits_evaluation(config: Config) -> bool:
    """Whether evaluation feeds the backbone just what the cache holds: whole images, as they are."""
    return config.eval.mode == "whole" and not config.eval.use_tta
