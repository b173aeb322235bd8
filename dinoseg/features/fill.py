"""The pass over the images of a training that computes what the cache lacks."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from PIL import Image

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import Config
from dinoseg.data.appearance import photometric_distortion
from dinoseg.data.bands import BandPicture, Picture
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset, read_picture
from dinoseg.data.sampler import mixed_seed, spread_subset
from dinoseg.data.transforms import build_eval_transform
from dinoseg.features.compute import compute_features
from dinoseg.features.recipe import FeatureRecipe, default_cache_folder
from dinoseg.features.store import CachedFeatures, FeatureFolder
from dinoseg.system.device import DTYPES
from dinoseg.system.processes import process_count, process_rank

Images = SegmentationDataset | EvaluationDataset


@dataclass(frozen=True)
class View:
    """An image of a data set as the backbone is shown it.

    Attributes:
        index: of the image.
        number: 0 for the image as it is; others are variants in brightness, contrast, saturation and hue.
    """

    index: int
    number: int


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
    def of(config: Config, backbone: Backbone, backbone_sha256: str) -> "FeatureCache":
        """The cache that ``train.cache_folder`` names; see ``FeatureRecipe.of``."""
        root = config.train.cache_folder
        recipe = FeatureRecipe.of(config, backbone, backbone_sha256)
        folder = FeatureFolder(Path(root).expanduser() if root else default_cache_folder(), recipe)
        return FeatureCache(config, backbone, folder)

    def gigabytes(self, sizes: Sequence[tuple[int, int]]) -> float:
        """What the features of pictures of these sizes (height, width) take."""
        return sum(self.folder.recipe.bytes_for(size, self.backbone) for size in sizes) / 1e9

    def views(self, data: Images) -> list[View]:
        """What is computed of a data set: of each training image and its variants, or of the images evaluated."""
        if isinstance(data, SegmentationDataset):
            numbers = range(1 + self.config.train.cached_views)
            return [View(index, number) for index in range(len(data)) for number in numbers]
        return [View(index, 0) for index in spread_subset(len(data), self.config.eval.max_val_samples)]

    def missing(self, data: Images, advance: Callable[[], None] = lambda: None) -> tuple[dict[View, Path], list[View]]:
        """The file of each view, and the views whose files are not there or damaged.

        Args:
            advance: called after each.
        """
        files, views = {}, []
        for view in self.views(data):
            files[view] = self.file_of(data, view)
            if not self.folder.is_whole(files[view]):
                views.append(view)
            advance()
        return files, views

    def file_of(self, data: Images, view: View) -> Path:
        """Where the features of a view lie, whether they do or not; reads the image.

        Raises:
            ValueError: it cannot be read.
        """
        return self.folder.file_of(_picture(data, view))

    def fill(
        self, data: Images, files: Mapping[View, Path], views: Sequence[View], advance: Callable[[], None]
    ) -> None:
        """Computes features; what another process computes meanwhile is waited for, not computed again.

        Args:
            files: of all views, as ``missing`` gives them.
            views: those to compute.
            advance: called after each.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self.folder.path.mkdir(parents=True, exist_ok=True)
        # Processes of one training begin at different places, and take over from each other.
        first = len(views) * process_rank() // process_count()
        waiting = [*views[first:], *views[:first]]
        for blocking in (False, True):
            left = []
            for view in waiting:
                # 256 locks for any number of images; a lock that is held by a dead process is free.
                lock = FileLock(self.folder.path / f".{files[view].name[:2]}.lock")
                try:
                    with lock.acquire(timeout=-1 if blocking else 0):
                        if not self.folder.is_whole(files[view]):
                            self._compute(data, view, files[view])
                except Timeout:
                    left.append(view)
                    continue
                advance()
            waiting = left

    def _compute(self, data: Images, view: View, file: Path) -> None:
        image = build_eval_transform(self.config.transforms).normalise(_picture(data, view))
        dtype = DTYPES[self.config.model_dtype]
        features = compute_features(self.backbone, image, self.folder.recipe, dtype)
        _refuse_infinite(features, data.pairs[view.index].image)
        self.folder.write(file, features)

    def source(self, files: Mapping[View, Path]) -> CachedFeatures:
        """What data sets read."""
        cells = tuple(stride / self.backbone.scale for stride in self.backbone.strides)
        by_image: dict[int, tuple[Path, ...]] = {}
        for view, file in files.items():
            by_image[view.index] = (*by_image.get(view.index, ()), file)
        return CachedFeatures(by_image, cells)


def _refuse_infinite(features: list[FeatureMap], image: Path) -> None:
    """Raises ValueError for features that half precision, in which they are kept, does not hold."""
    for feature in features:
        for values in (feature.map, feature.cls, feature.prefix):
            if values is None or bool(values.to(torch.float16).isfinite().all()):
                continue
            largest = float(values.abs().max())
            found = (
                f"reach {largest:g}, and the cache keeps no more than {torch.finfo(torch.float16).max:g}"
                if math.isfinite(largest)
                else "are not finite"
            )
            raise ValueError(
                f"{image}: the backbone's features {found}; set decoder_head.use_backbone_norm=true, "
                "model_dtype=FLOAT32, or train.cache_features=false, which computes them in every step"
            )


def _picture(data: Images, view: View) -> Picture:
    picture = read_picture(data.pairs[view.index], data.label_space, data.form)
    if view.number == 0 or isinstance(picture, BandPicture):  # of which the config allows no variants
        return picture
    # Of the picture and the number alone, so that every run has the same variants.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mixed_seed(zlib.crc32(picture.tobytes()), 0, view.number))
        distorted: Image.Image = photometric_distortion()(picture)
    return distorted
