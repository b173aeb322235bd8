"""Samples: determinism whatever the worker, encoding exactly once, and errors that name the file."""

import gc
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dinoseg.config import TrainTransformConfig, TransformsConfig
from dinoseg.data.dataset import EvaluationDataset, Sample, SegmentationDataset, samples_of
from dinoseg.data.pairs import Pair
from dinoseg.data.sampler import EpochBatchSampler
from dinoseg.data.transforms import build_eval_transform, build_train_transform, normalisation
from dinoseg.labels import LabelClass, LabelSpace
from dinoseg.system.processes import evaluation_shard

# Label ids 7 and 9 are class 1; an id that were encoded twice would be refused, or come out ignored.
LABELS = LabelSpace(
    kind="ids",
    classes=(LabelClass("ground", (5,), (0, 0, 0)), LabelClass("object", (7, 9), (255, 0, 0))),
    ignored_ids=(1, 255),
)
CONFIG = TransformsConfig(train=TrainTransformConfig(crop_size=[24, 32], right_angle_rotations=True))


def write_pair(folder: Path, name: str, label_ids: np.ndarray) -> Pair:
    generator = np.random.default_rng(len(name))
    pair = Pair(name, folder / f"{name}.png", folder / f"{name}_mask.png")
    Image.fromarray(generator.integers(0, 256, (*label_ids.shape, 3)).astype(np.uint8)).save(pair.image)
    assert pair.mask is not None
    Image.fromarray(label_ids.astype(np.uint8)).save(pair.mask)
    return pair


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Five images of odd sizes, smaller and larger than the crop."""
    generator = np.random.default_rng(0)
    sizes = [(37, 53), (24, 32), (9, 71), (50, 33), (3, 2)]
    return [
        write_pair(tmp_path, f"image{number}", generator.choice([1, 5, 7, 9, 255], size))
        for number, size in enumerate(sizes)
    ]


def training_set(pairs: list[Pair], seed: int = 3) -> SegmentationDataset:
    return SegmentationDataset(pairs, LABELS, build_train_transform(CONFIG, LABELS.ignore_index), seed)


def evaluation_set(pairs: list[Pair]) -> EvaluationDataset:
    return EvaluationDataset(pairs, LABELS, build_eval_transform(CONFIG))


def assert_same(first: Sample, second: Sample) -> None:
    assert torch.equal(first["image"], second["image"]) and torch.equal(first["class_map"], second["class_map"])


def test_batches_do_not_depend_on_the_number_of_workers(pairs: list[Pair]) -> None:
    def batches(num_workers: int) -> list[dict]:
        sampler = EpochBatchSampler(len(pairs), batch_size=3, seed=8, num_batches=6)
        return list(DataLoader(training_set(pairs), batch_sampler=sampler, num_workers=num_workers))

    torch.manual_seed(1)
    alone = batches(0)
    torch.manual_seed(2)
    shared = batches(2)
    assert [batch["name"] for batch in alone] == [batch["name"] for batch in shared]
    for first, second in zip(alone, shared, strict=True):
        assert torch.equal(first["image"], second["image"]) and torch.equal(first["class_map"], second["class_map"])
        assert first["image"].shape == (3, 3, 24, 32) and first["class_map"].dtype == torch.int64


def test_a_sample_is_a_function_of_seed_epoch_and_index(pairs: list[Pair]) -> None:
    dataset = training_set(pairs)
    reference = dataset[4, 0]
    _ = dataset[0, 3], dataset[4, 1]
    assert_same(dataset[4, 0], reference)
    assert_same(training_set(pairs)[4, 0], reference)
    for other in (dataset[5, 0], training_set(pairs, seed=4)[4, 0]):
        assert not torch.equal(other["image"], reference["image"])
    twins = training_set([pairs[0], pairs[0]])
    assert not torch.equal(twins[0, 0]["image"], twins[0, 1]["image"])


def test_the_global_random_state_is_left_alone(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: int) -> None:
        raise AssertionError("the accelerators' generators were reseeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    before = torch.get_rng_state(), repr(np.random.get_state())
    training_set(pairs)[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]


def test_label_ids_are_encoded_exactly_once(pairs: list[Pair], tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "small", np.array([[5, 7, 9], [1, 255, 5]]))
    expected = [[0, 1, 1], [255, 255, 0]]
    assert evaluation_set([pair])[0]["class_map"].tolist() == expected
    plain = CONFIG.train.model_copy(
        update={
            "crop_size": [2, 3],
            "random_img_size_ratio_range": [1.0, 1.0],
            "flip_prob": 0.0,
            "right_angle_rotations": False,
        }
    )
    transform = build_train_transform(CONFIG.model_copy(update={"train": plain}), LABELS.ignore_index)
    assert SegmentationDataset([pair], LABELS, transform, seed=0)[0, 0]["class_map"].tolist() == expected
    seen = {
        value for index in range(len(pairs)) for value in training_set(pairs)[0, index]["class_map"].unique().tolist()
    }
    assert seen == {0, 1, 255}


def test_evaluation_samples_come_at_native_size(pairs: list[Pair]) -> None:
    dataset = evaluation_set(pairs)
    indices = evaluation_shard(len(dataset), rank=1, world_size=2)
    samples = list(DataLoader(dataset, sampler=indices, batch_size=None))
    assert [sample["index"] for sample in samples] == [1, 3]
    assert [sample["name"] for sample in samples] == ["image1", "image3"]
    assert [tuple(sample["class_map"].shape) for sample in samples] == [(24, 32), (50, 33)]
    assert [tuple(sample["image"].shape) for sample in samples] == [(3, 24, 32), (3, 50, 33)]
    pixels = np.asarray(Image.open(pairs[1].image), dtype=np.float32) / 255
    mean, std = (np.array(values, np.float32) for values in normalisation(CONFIG))
    expected = (pixels - mean) / std
    np.testing.assert_allclose(samples[0]["image"].numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_an_unknown_label_id_names_the_mask(pairs: list[Pair], tmp_path: Path) -> None:
    odd = write_pair(tmp_path, "odd", np.array([[5, 7], [42, 42]]))
    with pytest.raises(ValueError, match=r"odd_mask\.png.*42 \(2 pixels\)"):
        training_set([*pairs, odd])[0, 5]
    with pytest.raises(ValueError, match=r"odd_mask\.png"):
        evaluation_set([odd])[0]


@pytest.mark.parametrize("part", ["image", "mask"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "text"])
def test_a_file_that_cannot_be_read_is_named(pairs: list[Pair], part: str, damage: str) -> None:
    path: Path = getattr(pairs[0], part)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("no picture")
    else:
        path.unlink()
    with pytest.raises(ValueError, match=path.name):
        training_set(pairs)[0, 0]
    with pytest.raises(ValueError, match=path.name):
        evaluation_set(pairs)[0]


def test_an_image_and_a_mask_of_different_sizes_are_refused(pairs: list[Pair]) -> None:
    assert pairs[0].mask is not None
    Image.fromarray(np.full((37, 52), 5, np.uint8)).save(pairs[0].mask)
    with pytest.raises(ValueError, match=r"image0.*(37.*52|52.*37)"):
        training_set(pairs)[0, 0]


def test_images_without_a_mask_are_refused(pairs: list[Pair]) -> None:
    unpaired = [pairs[0], replace(pairs[1], mask=None)]
    with pytest.raises(ValueError, match=r"image1\.png: no mask.*1 of 2"):
        training_set(unpaired)
    with pytest.raises(ValueError, match=r"image1\.png: no mask.*1 of 2"):
        evaluation_set(unpaired)


class _Killed(Dataset[int]):
    """A data set whose workers are killed at the second sample, as the kernel does where memory runs out."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_is_told_in_one_message() -> None:
    samples = samples_of(DataLoader(_Killed(), batch_size=None, num_workers=1))
    with pytest.raises(ValueError, match=r"DataLoader worker.*memory.*ran out; lower num_workers \(now 1\)"):
        list(samples)


class _Broken(Dataset[int]):
    """A data set of the user's own whose code fails, as ``DataItem`` says it."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        try:
            return {}["x"]
        except KeyError as error:
            raise ValueError(f"train_data[{index}]: cannot be read: KeyError: {error}") from error


@pytest.mark.parametrize("workers", [0, 1])
def test_a_message_with_an_error_in_it_is_whole(workers: int) -> None:
    samples = samples_of(DataLoader(_Broken(), batch_size=None, num_workers=workers))
    with pytest.raises(ValueError) as raised:
        list(samples)
    assert str(raised.value) == "train_data[0]: cannot be read: KeyError: 'x'"


def test_workers_end_with_the_error_of_one() -> None:
    before = set(multiprocessing.active_children())
    samples = samples_of(DataLoader(_Broken(), batch_size=None, num_workers=1))
    gc.disable()
    try:
        with pytest.raises(ValueError, match="cannot be read"):
            list(samples)
        assert set(multiprocessing.active_children()) <= before
    finally:
        gc.enable()
