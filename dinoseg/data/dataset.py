"""Pairs of files as samples: read, encoded once into class indices, transformed."""

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dinoseg.data.folders import Pair
from dinoseg.data.masks import read_pair
from dinoseg.data.sampler import mixed_seed
from dinoseg.labels import LabelSpace

SampleTransform = Callable[[Image.Image, np.ndarray], tuple[Tensor, Tensor]]


class Sample(TypedDict):
    """One image and its truth, ready for the model."""

    image: Float[Tensor, "3 height width"]  # normalised
    class_map: Int64[Tensor, "height width"]  # class indices and the ignore index
    index: int
    name: str


def _checked_pairs(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    unpaired = [str(pair.image) for pair in pairs if pair.mask is None]
    if unpaired:
        raise ValueError(
            f"{unpaired[0]}: no mask for this image ({len(unpaired)} of {len(pairs)} images have none); "
            "training and evaluation need one for each"
        )
    return tuple(pairs)


def _read_encoded(pair: Pair, label_space: LabelSpace) -> tuple[Image.Image, UInt[np.ndarray, "height width"]]:
    """RGB image and class indices (H, W) at native size; ``ValueError`` names the file that is at fault."""
    image, label_ids = read_pair(pair, label_space.kind)
    return image, label_space.encode(label_ids, source=str(pair.mask))


class SegmentationDataset(Dataset[Sample]):
    """Training samples, asked for by (epoch, index).

    All that is random in a sample is a function of (seed, epoch, index): the same in every process and worker, in
    whatever order samples are asked for. The global random state is left as it was.
    """

    def __init__(self, pairs: Sequence[Pair], label_space: LabelSpace, transform: SampleTransform, seed: int) -> None:
        self.pairs = _checked_pairs(pairs)
        self.label_space = label_space
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: tuple[int, int]) -> Sample:
        epoch, index = position
        pair = self.pairs[index]
        image, class_map = _read_encoded(pair, self.label_space)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators as well, whose state nothing here restores.
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            image_tensor, class_tensor = self.transform(image, class_map)
        return Sample(image=image_tensor, class_map=class_tensor, index=index, name=pair.name)


class EvaluationDataset(Dataset[Sample]):
    """Evaluation samples at native size, asked for by index; nothing about them is random."""

    def __init__(self, pairs: Sequence[Pair], label_space: LabelSpace, transform: SampleTransform) -> None:
        self.pairs = _checked_pairs(pairs)
        self.label_space = label_space
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image, class_map = self.transform(*_read_encoded(pair, self.label_space))
        return Sample(image=image, class_map=class_map, index=index, name=pair.name)
