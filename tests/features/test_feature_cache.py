"""The feature cache: what is read is what the backbone would say; nothing damaged, foreign or half written is read."""

import errno
import math
import multiprocessing
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cached_features import SIZE, SPACE, build, config_for, filled, three_images
from PIL import Image
from safetensors.torch import save_file

from dinoseg.backbone import FeatureMap
from dinoseg.config import Config, with_changes
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset
from dinoseg.data.image_files import ORIENTATION_TAG
from dinoseg.data.placement import Placement
from dinoseg.data.sampler import spread_subset
from dinoseg.data.transforms import build_train_transform
from dinoseg.features.fill import FeatureCache, Images
from dinoseg.features.store import FeatureFolder, list_folders
from dinoseg.models.dense_head import DenseHead
from dinoseg.models.linear_head import LinearHead
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.training.feature_cache import settle_feature_cache

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")


@pytest.fixture
def images(tmp_path: Path) -> EvaluationDataset:
    return three_images(tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_cached_features_are_the_backbones_to_half_precision(
    images: EvaluationDataset, tmp_path: Path, scale: float
) -> None:
    cache = build(config_for(tmp_path / "cache", f"model.backbone_scale={scale}", "decoder_head.type=dense"))
    source, computed = filled(cache, images)
    assert computed == 3
    for index in range(3):
        with torch.no_grad():
            expected = cache.backbone(images[index]["image"][None])
        maps, tokens, prefix = source.whole(index)
        for layer, found in enumerate(maps):
            assert torch.allclose(found, expected[layer].map[0], atol=2e-3, rtol=1e-3)
        assert len(tokens) == len(maps)
        assert torch.allclose(tokens[-1], expected[-1].cls[0], atol=2e-3, rtol=1e-3)
        assert torch.allclose(prefix[-1], expected[-1].prefix[0], atol=2e-3, rtol=1e-3)
        # A crop that is the whole image reads the same cells.
        whole = Placement(SIZE, SIZE, (SIZE[1] / 2, SIZE[0] / 2), torch.eye(2))
        assert torch.allclose(source.sample(index, whole)[0][0], maps[0], atol=1e-4)


def test_a_crop_reads_the_cells_below_it(images: EvaluationDataset, tmp_path: Path) -> None:
    source, _ = filled(build(config_for(tmp_path / "cache")), images)
    (stored,), *_ = source.whole(0)
    # Cells of 8 px: the crop from row 8, column 16 of 24 x 32 px is rows 1 to 3 and columns 2 to 5.
    (found,), *_ = source.sample(0, Placement(SIZE, (24, 32), (32.0, 20.0), torch.eye(2)))
    assert torch.allclose(found, stored[:, 1:4, 2:6], atol=1e-4)
    mirrored = Placement(SIZE, (24, 32), (32.0, 20.0), torch.diag(torch.tensor([-1.0, 1.0])))
    assert torch.allclose(source.sample(0, mirrored)[0][0], stored[:, 1:4, 2:6].flip(-1), atol=1e-4)
    beyond, *_ = source.sample(0, Placement(SIZE, (16, 16), (-100.0, 0.0), torch.eye(2)))
    assert not beyond[0].any()


def training(images: EvaluationDataset, config: Config) -> SegmentationDataset:
    transform = build_train_transform(config.transforms, SPACE.ignore_index, samples_features=True)
    return SegmentationDataset(images.pairs, SPACE, transform, seed=3)


def settled_by(
    config: Config, cache: FeatureCache, train: Images, val: Images
) -> tuple[Config, FeatureCache | None, str]:
    """As a training settles it, on the backbone of this cache."""
    return settle_feature_cache(config, cache.backbone, cache.folder.recipe.backbone_sha256, train, val)


def test_variants_in_colour_are_kept_beside_each_training_image(images: EvaluationDataset, tmp_path: Path) -> None:
    config = config_for(tmp_path / "cache", "train.cached_views=3", "transforms.train.crop_size=16")
    cache = build(config)
    data = training(images, config)
    source, computed = filled(cache, data)
    assert all(len(set(source.files[index])) > 2 for index in range(3))
    assert computed == 12 and filled(build(config), data)[1] == 0
    plain, _ = filled(build(config_for(tmp_path / "cache")), images)
    assert [files[0] for files in source.files.values()] == [files[0] for files in plain.files.values()]
    # A sample is a function of seed, epoch and index; over the epochs it comes from each of the variants.
    data.features = source
    maps = [data[epoch, 1]["features"][0] for epoch in range(12)]
    assert all(torch.equal(data[epoch, 1]["features"][0], maps[epoch]) for epoch in range(12))
    data.features = plain
    assert 1 <= sum(torch.equal(data[epoch, 1]["features"][0], maps[epoch]) for epoch in range(12)) <= 9


def test_a_head_that_looks_at_features_alone_is_shown_no_pixels(images: EvaluationDataset, tmp_path: Path) -> None:
    config = config_for(tmp_path / "cache", "transforms.train.crop_size=16")
    data = training(images, config)
    data.features, _ = filled(build(config), data)
    # As some cameras save it: pixels lie on their side, as the mask does, and a tag says how to turn them.
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    stored = Image.open(data.pairs[1].image).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    image = tmp_path / "turned.jpg"
    stored.save(image, exif=exif)
    mask = np.zeros(stored.size[::-1], np.uint8)
    mask[: len(mask) // 2] = 2
    Image.fromarray(mask).save(data.pairs[1].mask)
    data.pairs = (data.pairs[0], replace(data.pairs[1], image=image), data.pairs[2])
    seen = [data[epoch, 1] for epoch in range(3)]
    assert len(torch.cat([sample["class_map"].flatten() for sample in seen]).unique()) > 1
    # Of its pixels nothing is read: the header is enough.
    image.write_bytes(image.read_bytes()[:700])
    data.shows_images = False
    for epoch, before in enumerate(seen):
        sample = data[epoch, 1]
        assert before["image"].any() and not sample["image"].any()
        assert sample["image"].shape == before["image"].shape
        assert torch.equal(sample["class_map"], before["class_map"])
        assert torch.equal(sample["features"][0], before["features"][0])
    assert not LinearHead.sees_image and DenseHead.sees_image and Mask2FormerHead.sees_image


def test_only_the_images_that_are_evaluated_are_computed(images: EvaluationDataset, tmp_path: Path) -> None:
    source, computed = filled(build(config_for(tmp_path / "cache", "eval.max_val_samples=1")), images)
    assert computed == 1 and list(source.files) == spread_subset(3, 1)


def test_variants_want_a_cache(images: EvaluationDataset, tmp_path: Path) -> None:
    config = config_for(tmp_path / "cache", "train.cached_views=2", "train.cache_features=false")
    with pytest.raises(ValueError, match=r"train\.cached_views=2 is of features that are kept.*train\.cache_features"):
        settled_by(config, build(config), images, images)


def test_a_second_training_computes_nothing_and_other_settings_all(images: EvaluationDataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert filled(build(config_for(folder)), images)[1] == 3
    assert filled(build(config_for(folder, "seed=5", "optimizer.lr=0.1")), images)[1] == 0
    for other in ("model.backbone_scale=2", "decoder_head.backbone_out_layers=[0,1]", "model_dtype=BFLOAT16"):
        assert filled(build(config_for(folder, other)), images)[1] == 3
    found = list(list_folders(folder))
    assert len(found) == 4 and all(entry.images == 3 and entry.size > 0 for entry in found)
    assert {entry.recipe["scale"] for entry in found if entry.recipe} == {1.0, 2.0}


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _flip(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[-3] ^= 0x40
    file.write_bytes(contents)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _text(file: Path) -> None:
    file.write_text("not features")


def _other_tensors(file: Path) -> None:
    save_file({"another": torch.zeros(2)}, file)


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _text, Path.unlink, _other_tensors])
def test_a_damaged_entry_is_computed_anew(
    images: EvaluationDataset, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    cache = build(config_for(tmp_path / "cache"))
    source, _ = filled(cache, images)
    before = source.files[1][0].read_bytes()
    damage(source.files[1][0])
    if damage is not _flip:  # read while a training runs, a flipped bit is not seen; at its start it is
        with pytest.raises(ValueError, match=rf"{source.files[1][0].name}: .*--resume"):
            source.whole(1)
    assert filled(cache, images)[1] == 1
    assert source.files[1][0].read_bytes() == before


def _dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _of_another_image(file: Path) -> None:
    other = next(path for path in file.parent.glob("*.safetensors") if path != file)
    file.write_bytes(other.read_bytes())


def _of_another_recipe(file: Path) -> None:
    other = next(path for path in file.parent.parent.glob(f"*/{file.name}") if path != file)
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("replace", [_of_another_image, _of_another_recipe, _fifo, _dangling_link])
def test_what_stands_in_the_place_of_an_entry_is_not_read(
    images: EvaluationDataset, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    filled(build(config_for(tmp_path / "cache", "model.backbone_scale=2")), images)
    cache = build(config_for(tmp_path / "cache"))
    source, _ = filled(cache, images)
    before = source.files[1][0].read_bytes()
    replace(source.files[1][0])
    assert filled(cache, images)[1] == 1
    assert source.files[1][0].read_bytes() == before and not source.files[1][0].is_symlink()


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1e6, r"reach 1e\+06, and the cache keeps no more than 65504"),
        (math.nan, "are not finite"),
        (-65520.0, "reach 65520"),
    ],
)
def test_features_that_half_precision_does_not_hold_are_refused(
    images: EvaluationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, said: str
) -> None:
    cache = build(config_for(tmp_path / "cache"))
    monkeypatch.setattr(
        "dinoseg.features.fill.compute_features", lambda *given: [FeatureMap(torch.full((1, 2, 3, 3), factor), None)]
    )
    with pytest.raises(ValueError, match=rf"i0\.png: the backbone's features {said}.*train\.cache_features=false"):
        filled(cache, images)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_large_images_go_in_tiles_as_evaluation_cuts_them(images: EvaluationDataset, tmp_path: Path) -> None:
    whole = filled(build(config_for(tmp_path / "cache")), images)[0]
    tiled_config = config_for(tmp_path / "cache", "eval.mode=slide", "eval.crop_size=32")
    tiled = filled(build(tiled_config), images)[0]
    one_piece = filled(build(config_for(tmp_path / "cache", "eval.mode=slide", "eval.crop_size=64")), images)[0]
    assert torch.equal(one_piece.whole(0)[0][0], whole.whole(0)[0][0])
    found, expected = tiled.whole(0)[0][0], whole.whole(0)[0][0]
    assert found.shape == expected.shape and found.isfinite().all() and not torch.equal(found, expected)
    # The corner cells are of one tile only.
    with torch.no_grad():
        cache = build(tiled_config)
        corner = cache.backbone(images[0]["image"][None, :, :32, :32])[0].map[0]
    assert torch.allclose(found[:, 0, 0], corner[:, 0, 0], atol=2e-3, rtol=1e-3)


def test_what_does_not_fit_goes_without(images: EvaluationDataset, tmp_path: Path) -> None:
    config = config_for(tmp_path / "cache", "train.cache_limit=1e-6")
    # With weights of a file; these are random, and would not be kept at all.
    config = with_changes(config, {"model.weights": "hub"})
    settled, cache, words = settled_by(config, build(config_for(tmp_path)), images, images)
    assert cache is None and settled.train.cache_features is False
    assert "train.cache_limit is 1e-06" in words
    roomy = config_for(tmp_path / "cache", "train.cache_features=true")
    settled, cache, words = settled_by(roomy, build(roomy), images, images)
    assert cache is not None and settled.train.cache_features is True
    # 2 data sets of 3 images, 5 x 7 cells, 2 bytes a channel.
    cells = 2 * 3 * 5 * 7 * cache.backbone.out_channels[0] * 2
    assert cache.gigabytes([SIZE] * 6) == pytest.approx(cells / 1e9)
    settled, cache, words = settled_by(config_for(tmp_path), build(roomy), images, images)
    assert cache is None and settled.train.cache_features is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["train.cache_features=true"], "train.cache_features=true: features of all images take 4.03e-05 GB"),
        (["train.cache_features=true", "train.cached_views=1"], "train.cached_views=1: features of all images and"),
    ],
)
def test_features_that_were_asked_for_and_do_not_fit_are_an_error(
    images: EvaluationDataset, tmp_path: Path, given: list[str], said: str
) -> None:
    """Recorded as false, the same command could neither be resumed nor go on with another fold."""
    config = config_for(tmp_path / "cache", *given, "train.cache_limit=1e-6")
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}.*train\.cache_limit is 1e-06; raise it, or"):
        settled_by(config, build(config), training(images, config), images)


def test_features_move_with_the_image(images: EvaluationDataset, tmp_path: Path) -> None:
    """Sampling features of the mirrored image's source is near to the features of the mirrored image."""
    cache = build(config_for(tmp_path / "cache"))
    source, _ = filled(cache, images)
    mirrored = Placement(SIZE, SIZE, (SIZE[1] / 2, SIZE[0] / 2), torch.diag(torch.tensor([-1.0, 1.0])))
    (found,), *_ = source.sample(0, mirrored)
    with torch.no_grad():
        (expected,) = (layer.map[0] for layer in cache.backbone(images[0]["image"].flip(-1)[None]))
    likeness = torch.nn.functional.cosine_similarity(found, expected, dim=0).mean()
    assert math.isfinite(likeness) and likeness > 0.5


def _fill_and_note(cache: FeatureCache, data: EvaluationDataset, log: Path) -> None:
    torch.set_num_threads(1)
    write = FeatureFolder.write

    def noted(folder: FeatureFolder, file: Path, features: list[FeatureMap]) -> None:
        with log.open("a") as stream:
            stream.write(f"{file.name}\n")
        time.sleep(0.2)  # long enough for the other process to come by
        write(folder, file, features)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureFolder, "write", noted)
        filled(cache, data)


def test_two_processes_share_a_cache_and_compute_nothing_twice(images: EvaluationDataset, tmp_path: Path) -> None:
    cache, log = build(config_for(tmp_path / "cache")), tmp_path / "log.txt"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill_and_note, args=(cache, images, log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    written = log.read_text().split()
    assert len(written) == len(set(written)) == 3
    assert filled(cache, images)[1] == 0


def test_a_full_disk_leaves_nothing_half_written(
    images: EvaluationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build(config_for(tmp_path / "cache"))

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("dinoseg.features.store.save_tensors", full)
        with pytest.raises(OSError, match="No space left") as raised:
            filled(cache, images)
    assert raised.value.filename and Path(raised.value.filename).suffix == ".safetensors"
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert filled(cache, images)[1] == 3
