"""Whether a training computes features once, and the pass that does."""

import errno
from pathlib import Path

from rich.console import Console

from dinoseg.backbone import Backbone
from dinoseg.config import Config, with_changes
from dinoseg.config.defaults import keeps_features, trains_bands
from dinoseg.data.dataset import stored_size
from dinoseg.data.transforms import build_train_transform
from dinoseg.features.fill import FeatureCache, Images
from dinoseg.inference.policy import window_policy
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refused_folder
from dinoseg.system.messages import OUT_OF_ROOM
from dinoseg.system.processes import failing_together, process_rank
from dinoseg.system.signals import Ended
from dinoseg.training.cached_images import CachedImages, image_stamps
from dinoseg.training.loop import Trainer


def settle_feature_cache(
    config: Config, backbone: Backbone, backbone_sha256: str, train_data: Images, val_data: Images
) -> tuple[Config, FeatureCache | None, str]:
    """The config with ``train.cache_features`` decided, the cache if there is to be one, and what the plan says of it.

    The decision depends on the config and the sizes of the images alone, so that a resumed training comes to it again.

    Args:
        backbone_sha256: as ``FeatureRecipe.of`` takes it.

    Raises:
        ValueError: ``train.cached_views`` where nothing is kept; or features that were asked for by name, and take more
            than ``train.cache_limit``.
    """
    wanted = config.train.cache_features
    if wanted is None:
        wanted = keeps_features(config)
    if config.train.cached_views and not wanted:
        raise ValueError(
            f"train.cached_views={config.train.cached_views} is of features that are kept, and this training computes "
            "them in every step; set train.cache_features=true or leave train.cached_views out"
        )
    if not wanted:
        why = ": the patch embedding is trained (model.train_bands)" if trains_bands(config) else ""
        return with_changes(config, {"train.cache_features": False}), None, f"computed in every step{why}"
    cache = FeatureCache.of(config, backbone, backbone_sha256)
    data_sets: list[Images] = [train_data, val_data] if fits_evaluation(config) else [train_data]
    sizes = [
        stored_size(data.pairs[view.index], data.label_space, data.form)
        for data in data_sets
        for view in cache.views(data)
    ]
    needed, limit = cache.gigabytes(sizes), config.train.cache_limit
    if needed > limit:
        _refuse_too_large(config, needed)
        words = f"computed in every step: those of all images take {needed:.3g} GB, train.cache_limit is {limit:g}"
        return with_changes(config, {"train.cache_features": False}), None, words
    words = f"computed once, {needed:.2f} GB in {cache.folder.path.parent}"
    if len(data_sets) == 1:
        words += "; of validation in each evaluation (once, too, with eval.mode=whole)"
    return with_changes(config, {"train.cache_features": True}), cache, words


def _refuse_too_large(config: Config, needed: float) -> None:
    """An option that was given is not dropped silently, nor recorded as another, with which no resume would agree."""
    limit = f"train.cache_limit is {config.train.cache_limit:g}; raise it"
    if config.train.cached_views:
        raise ValueError(
            f"train.cached_views={config.train.cached_views}: features of all images and their variants take "
            f"{needed:.3g} GB, {limit}, or leave train.cached_views out"
        )
    if config.train.cache_features:
        raise ValueError(
            f"train.cache_features=true: features of all images take {needed:.3g} GB, {limit}, or give "
            "train.cache_features=false, which computes them in every step"
        )


def fill_feature_cache(trainer: Trainer, console: Console) -> None:
    """Computes what the cache lacks, with a bar, and lets the data sets read it. Nothing without a cache.

    Raises:
        ValueError: an image cannot be read, the disk is full, or the folder cannot be made or written.
    """
    cache = trainer.features
    if cache is None:
        return
    train, val = trainer.train_data, trainer.val_data
    data_sets: list[Images] = [train, val] if fits_evaluation(trainer.config) else [train]
    trainer.segmenter.eval()
    shown = console if process_rank() == 0 else Console(quiet=True)
    with failing_together():
        try:
            stamps = image_stamps(data_sets)
            views = sum(len(cache.views(data)) for data in data_sets)
            with image_progress(shown, views, "features looked for", "pictures") as advance:
                found = [(data, *cache.missing(data, advance)) for data in data_sets]
            total = sum(len(lacking) for _, _, lacking in found)
            with image_progress(shown if total else Console(quiet=True), total, "features", "pictures") as advance:
                for data, files, lacking in found:
                    cache.fill(data, files, lacking, advance)
                    data.features = cache.source(files)
            trainer.cached_images = CachedImages(cache, stamps, [(data, files) for data, files, _ in found])
        except (KeyboardInterrupt, Ended):
            shown.print(
                f"features so far are kept in {cache.folder.path.parent}; the same command goes on", soft_wrap=True
            )
            raise
        except OSError as error:
            raise _unwritten(error, cache.folder.path, trainer.config) from None
    train.shows_images = trainer.segmenter.head.sees_image
    train.transform = build_train_transform(
        trainer.config.transforms, trainer.label_space.ignore_index, samples_features=True
    )


def fits_evaluation(config: Config) -> bool:
    """Whether evaluation feeds the backbone just what the cache holds: whole images, upright, at one scale."""
    policy = window_policy(with_changes(config, {"train.cache_features": True}))
    if policy.mode != "whole":
        return False
    return policy.tta is None or (policy.tta.backbone_once and policy.tta.scales == (1.0,))


def _unwritten(error: OSError, folder: Path, config: Config) -> Exception:
    """What is wrong with the folder of the cache, and what to give; the error itself where it is of another file."""
    met = Path(error.filename or folder)
    if met != folder and folder not in met.parents and met not in folder.parents:
        return error
    remedy = "or train.cache_features=false, which computes features in every step"
    named = "train.cache_folder" if config.train.cache_folder else "train.cache_folder (by default)"
    if error.errno == errno.EISDIR:
        return ValueError(f"{met}: a folder, where a file of the feature cache belongs; remove it, {remedy}")
    if error.errno in OUT_OF_ROOM:
        return ValueError(
            f"{met}: {error.strerror}; make room there, give a train.cache_folder on another disk, {remedy}"
        )
    return ValueError(
        f"{named} {folder.parent}: {refused_folder(folder, error)}; give another train.cache_folder, {remedy}"
    )
